"""Benchmarks against PyTorch and plain Flax NNX, run by hand."""
