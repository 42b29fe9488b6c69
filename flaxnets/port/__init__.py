"""From a PyTorch module to a native Flax module and its source."""
