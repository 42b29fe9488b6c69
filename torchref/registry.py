"""Registry of networks by name, like ``flaxnets.registry``."""

import difflib
import fnmatch
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Builder = TypeVar("Builder", bound=Callable[..., Any])

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def register(builder: Builder) -> Builder:
    """Register a builder under its name for :func:`create_model`; raise ValueError if the name is registered.

    >>> @register
    ... def registered_as_an_example():
    ...     return nn.Linear(4, 1)
    >>> list_models("registered_*")
    ['registered_as_an_example']
    """
    name = builder.__name__
    if name in _BUILDERS:
        raise ValueError(f"the name {name!r} is already registered by {_BUILDERS[name].__module__}")
    _BUILDERS[name] = builder
    return builder


def list_models(pattern: str = "*") -> list[str]:
    """Return the sorted names of the registered networks that match a shell-style pattern.

    >>> import torchref
    >>> torchref.list_models("dense*")
    ['densenet']
    """
    return sorted(fnmatch.filter(_BUILDERS, pattern))


def create_model(name: str, **options: Any) -> nn.Module:
    """Build a registered network; raise ValueError with similar names for an unknown name.

    >>> import torchref
    >>> sum(p.numel() for p in torchref.create_model("lenet").parameters())
    61706
    """
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS) or list_models()
        raise ValueError(f"unknown network {name!r}; known: {', '.join(near)}")
    return _BUILDERS[name](**options)
