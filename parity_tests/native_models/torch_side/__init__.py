"""The networks in PyTorch, in the style of PyTorch users."""
