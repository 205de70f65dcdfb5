"""Bringing what was recorded to targets, at once or later."""
