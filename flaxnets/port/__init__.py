"""Convert a PyTorch module to a native Flax module, or to the source of one. Needs torch and libcst.

>>> import torch
>>> from flaxnets.port import from_torch
>>> from_torch(torch.nn.Linear(3, 2), (torch.ones(4, 3),))
Linear(in_features=3, out_features=2, bias=True)
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from flaxnets.port.errors import PortError as PortError
    from flaxnets.port.errors import Refusal as Refusal
    from flaxnets.port.porting import from_torch as from_torch
    from flaxnets.port.source.entry import to_source as to_source
    from flaxnets.port.source.proving import check_source as check_source

# Imported when they are first used: the operator table alone needs no torch.
_HOMES = {"PortError": "errors", "Refusal": "errors", "from_torch": "porting", "to_source": "source.entry",
          "check_source": "source.proving"}  # fmt: skip


def __getattr__(name: str) -> _Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return getattr(_importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
