"""Closed segments of journals become Parquet parts."""
