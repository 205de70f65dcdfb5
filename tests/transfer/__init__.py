"""Importing, packing and unpacking."""
