"""The PyTorch sides, written as PyTorch users write them."""
