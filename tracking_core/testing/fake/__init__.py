"""A tracker that keeps in memory what it was given."""
