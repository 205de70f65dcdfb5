"""Buckets: their addresses, their objects, and what is fetched from them."""
