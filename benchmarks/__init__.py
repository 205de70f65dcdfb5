"""Measurements: always a ratio against the alternative, taken in one interleaved run."""
