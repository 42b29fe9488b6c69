"""What a call of PyTorch is in JAX: the operator table. It does not port modules yet."""
