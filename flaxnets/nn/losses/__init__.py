"""The loss layers of ``torch.nn``."""
