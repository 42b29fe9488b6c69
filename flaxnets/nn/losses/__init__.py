"""Loss layers of ``torch.nn``."""
