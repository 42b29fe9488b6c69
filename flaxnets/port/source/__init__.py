"""From the builder of a PyTorch model to the source of a Flax model."""
