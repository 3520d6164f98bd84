"""Prefect flows: the pipeline, retraining, and fleets of tasks."""
