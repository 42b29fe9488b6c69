"""torch.nn and the classic networks as Flax NNX: same names, same numbers, same gradients.

>>> import flaxnets
>>> model = flaxnets.create_model("densenet", num_classes=10)
>>> list(flaxnets.state_dict(model))[:2]
['0.0.weight', '0.0.bias']
"""

from flaxnets import _startup as _startup  # before the imports that take seconds
from flaxnets import models as models
from flaxnets import nn as nn
from flaxnets import state as state
from flaxnets._version import __version__ as __version__
from flaxnets.autocast import autocast as autocast
from flaxnets.registry import create_model as create_model
from flaxnets.registry import list_models as list_models
from flaxnets.registry import register as register
from flaxnets.state import load_state_dict as load_state_dict
from flaxnets.state import named_buffers as named_buffers
from flaxnets.state import named_modules as named_modules
from flaxnets.state import named_parameters as named_parameters
from flaxnets.state import state_dict as state_dict
from flaxnets.summary import summary as summary
