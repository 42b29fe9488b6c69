"""The same networks in plain PyTorch: ``torchref.models.X`` is the twin of ``flaxnets.models.X``, name for name."""

from torchref import models as models
from torchref.registry import create_model as create_model
from torchref.registry import list_models as list_models
from torchref.registry import register as register
