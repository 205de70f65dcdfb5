"""Delivery: a worker for each target reads the journal and brings its records to the backend."""
