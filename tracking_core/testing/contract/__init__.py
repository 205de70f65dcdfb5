"""The contract suite, which tells authors of adapters whether theirs is right."""
