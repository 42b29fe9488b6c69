"""Models whose construction is what a written source must get right, in ordinary PyTorch style."""

from source_models.construction import MODELS as MODELS
