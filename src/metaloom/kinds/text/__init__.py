"""Texts as a kind of example."""
