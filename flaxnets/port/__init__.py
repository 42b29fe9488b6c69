"""Translate calls of PyTorch to JAX expressions by a table. Porting whole modules is not implemented yet."""
