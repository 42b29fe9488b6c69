"""Write the source of a Flax model for the builder of a PyTorch model."""
