"""Vectors: rows of numbers from CSV or Parquet files, for features that a user has already."""
