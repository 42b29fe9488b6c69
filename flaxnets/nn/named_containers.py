"""Modules that hold modules by name."""

import warnings
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any, NoReturn

from flax import nnx

from flaxnets.nn.containers import checked, refuse_call
from flaxnets.nn.module import Module
from flaxnets.nn.parameter_containers import as_pairs
from flaxnets.state import own_modules


class ModuleDict(Module):
    """Hold modules by name, in order. It computes nothing itself.

    Args:
        modules: names and modules, as a mapping or as pairs.

    Raises:
        TypeError: for a member that is no module, a name that is no string, or what is neither a mapping nor pairs.
        ValueError: for elements that are no pairs.
        KeyError: for a name that is not there, or that cannot be an attribute's.
        NotImplementedError: if it is called.

    See `torch.nn.ModuleDict <https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleDict.html>`_.

    >>> import flaxnets.nn as nn
    >>> choices = ModuleDict({"relu": nn.ReLU(), "flat": nn.Flatten()})
    >>> "relu" in choices, list(choices), type(choices.pop("flat")).__name__, len(choices)
    (True, ['relu', 'flat'], 'Flatten', 1)
    """

    def __init__(self, modules: Any = None):
        if modules is not None:
            self.update(modules)

    def __call__(self, *input: Any) -> NoReturn:
        """Raise NotImplementedError."""
        refuse_call(self)

    def _members(self) -> dict[str, nnx.Module]:
        return dict(own_modules(self))

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(f"ModuleDict has no module {key!r}, only {list(self)}")
        return self._members()[key]

    def __setitem__(self, key: str, module: nnx.Module) -> None:
        if key in self:
            setattr(self, key, checked(module))
        else:
            self.add_module(key, checked(module))

    def __delitem__(self, key: str) -> None:
        self[key]  # raises for a name that is not there
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __contains__(self, key: object) -> bool:
        return key in self._members()

    def clear(self) -> None:
        """Remove all."""
        for key in self:
            delattr(self, key)

    def pop(self, key: str) -> nnx.Module:
        """Remove the module of that name, and returns it."""
        module = self[key]
        del self[key]
        return module

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._members().keys()

    def items(self) -> ItemsView[str, nnx.Module]:
        """Return names and modules."""
        return self._members().items()

    def values(self) -> ValuesView[nnx.Module]:
        """Return the modules."""
        return self._members().values()

    def update(self, modules: Any) -> None:
        """Insert or replaces modules; takes what the constructor takes."""
        for key, module in as_pairs(modules, "ModuleDict"):
            self[key] = module


class Container(Module):
    """Hold modules by name; torch deprecates it in favour of a subclass of ``Module``.

    Args:
        **kwargs: names and modules.

    Raises:
        TypeError: for a member that is no module.
        NotImplementedError: if it is called.

    See `its source <https://github.com/pytorch/pytorch/blob/main/torch/nn/modules/container.py>`_.

    >>> import warnings, flaxnets.nn as nn
    >>> with warnings.catch_warnings(action="ignore"):
    ...     [name for name, _ in Container(act=nn.ReLU()).named_children()]
    ['act']
    """

    def __init__(self, **kwargs: nnx.Module):
        warnings.warn("nn.Container is deprecated: subclass nn.Module instead", FutureWarning, stacklevel=3)
        for name, module in kwargs.items():
            self.add_module(name, checked(module))

    def __call__(self, *input: Any) -> NoReturn:
        """Raise NotImplementedError."""
        refuse_call(self)


class DataParallel(Module):
    """Call the module it holds; all it adds is ``module.`` before every name, as in checkpoints of torch's wrapper.

    How arrays are spread over devices is said with JAX's shardings, not by a module.

    Args:
        module: what to wrap.

    See `torch.nn.DataParallel <https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html>`_.

    >>> import flaxnets.nn as nn
    >>> list(DataParallel(nn.BatchNorm1d(2)).state_dict())[:2]
    ['module.weight', 'module.bias']
    """

    def __init__(self, module: nnx.Module):
        self.module = checked(module)

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Return what the module returns."""
        return self.module(*inputs, **kwargs)
