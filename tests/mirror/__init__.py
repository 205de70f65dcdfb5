"""Copies of runs in buckets and directories."""
