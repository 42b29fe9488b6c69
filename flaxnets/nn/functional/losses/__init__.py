"""The losses of ``torch.nn.functional``."""
