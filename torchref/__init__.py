"""The networks of flaxnets in plain PyTorch: ``torchref.models.X`` is the counterpart of ``flaxnets.models.X``."""

from torchref import models as models
from torchref.registry import create_model as create_model
from torchref.registry import list_models as list_models
from torchref.registry import register as register
