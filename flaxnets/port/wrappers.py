"""Counterparts of wrappers such as DataParallel, and of layers of other libraries."""

import contextlib
import importlib
import sys
from contextlib import AbstractContextManager
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from flaxnets import nn
from flaxnets.port._torch import torch


class Compiled(nn.Module):
    """The counterpart of a module of ``torch.compile``. Its state dict has the same names."""

    _orig_mod: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._orig_mod(*args, **kwargs)


def unwrapped_module(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside a module of ``torch.compile``. Modules of data parallelism keep their wrapper.

    >>> unwrapped_module(torch.nn.DataParallel(torch.nn.ReLU()))
    DataParallel(
      (module): ReLU()
    )
    """
    while is_compiled(type(module)):
        module = vars(module)["_modules"]["_orig_mod"]
    return module


def is_compiled(kind: type) -> bool:
    """Return whether ``torch.compile`` made a module of this class, without importing the compiler."""
    return kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch._dynamo")


def without_compilation() -> AbstractContextManager[Any]:
    """Return a context in which ``torch.compile`` does nothing: the source runs instead of the compiled program."""
    is_used = "torch._dynamo.eval_frame" in sys.modules
    return torch.compiler.set_stance("force_eager") if is_used else contextlib.nullcontext()


def library_twin(kind: type) -> type | None:
    """Return the counterpart of a wrapper class such as DataParallel, or of a layer of einops; None for others."""
    if is_compiled(kind):
        return Compiled
    if issubclass(kind, DistributedDataParallel):
        return nn.DataParallel
    if kind.__module__ == "einops.layers.torch":
        return getattr(importlib.import_module("flaxnets.nn.rearrangement"), kind.__name__, None)
    return None
