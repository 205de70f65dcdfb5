"""The contract suite, which tells authors of adapters whether their adapter is correct."""
