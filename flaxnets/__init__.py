"""torch.nn and the classic networks as Flax NNX: same names, same numbers, same gradients.

>>> import flaxnets
>>> model = flaxnets.create_model("densenet", num_classes=10)
>>> list(flaxnets.state_dict(model))[:2]
['0.0.weight', '0.0.bias']
"""

import importlib as _importlib
import pkgutil as _pkgutil
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from flaxnets import _startup as _startup  # first, because the other imports need seconds
from flaxnets import models as models
from flaxnets import nn as nn
from flaxnets import state as state
from flaxnets._suggestions import suggest as _suggest
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

if _TYPE_CHECKING:
    from flaxnets.port import PortError as PortError
    from flaxnets.port import from_torch as from_torch

# Imported on first use, because they need torch.
_OF_PORT = ("PortError", "from_torch")


def _submodules() -> list[str]:
    return [module.name for module in _pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def __getattr__(name: str) -> _Any:
    if name in _OF_PORT:
        return getattr(_importlib.import_module(f"{__name__}.port"), name)
    if not name.startswith("_") and name in _submodules():
        return _importlib.import_module(f"{__name__}.{name}")
    known = [each for each in __dir__() if not each.startswith("_")]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; {_suggest(name, known)}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_submodules(), *_OF_PORT})
