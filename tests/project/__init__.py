"""The package, its documentation, examples and benchmarks."""
