"""Side-by-side measurements with PyTorch, run by hand."""
