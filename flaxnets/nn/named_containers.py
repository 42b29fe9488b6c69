"""Named containers of modules: ModuleDict, Container and DataParallel."""

import warnings
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any, NoReturn

from flax import nnx

from flaxnets.nn.containers import checked, refuse_call
from flaxnets.nn.module import Module
from flaxnets.nn.parameter_containers import as_pairs
from flaxnets.state import own_modules


class ModuleDict(Module):
    """Ordered dict of modules; it cannot be called.

    Args:
        modules: names and modules, as a mapping or as pairs.

    Raises:
        TypeError: for a member that is not a module, a name that is not a string, or an argument that is neither a
            mapping nor pairs.
        ValueError: for elements that are not pairs.
        KeyError: for an unknown name, or a name that cannot be an attribute.
        NotImplementedError: when called.

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
        self[key]  # raises for an unknown name
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __contains__(self, key: object) -> bool:
        return key in self._members()

    def clear(self) -> None:
        """Remove all modules."""
        for key in self:
            delattr(self, key)

    def pop(self, key: str) -> nnx.Module:
        """Remove and return the module ``key``."""
        module = self[key]
        del self[key]
        return module

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._members().keys()

    def items(self) -> ItemsView[str, nnx.Module]:
        """Return pairs of names and modules."""
        return self._members().items()

    def values(self) -> ValuesView[nnx.Module]:
        """Return the modules."""
        return self._members().values()

    def update(self, modules: Any) -> None:
        """Insert or replace modules; accepts the arguments of the constructor."""
        for key, module in as_pairs(modules, "ModuleDict"):
            self[key] = module


class Container(Module):
    """Dict of modules; deprecated in torch in favour of a subclass of ``Module``.

    Args:
        **kwargs: names and modules.

    Raises:
        TypeError: for a member that is not a module.
        NotImplementedError: when called.

    See `its source <https://github.com/pytorch/pytorch/blob/main/torch/nn/modules/container.py>`_.

    >>> import warnings, flaxnets.nn as nn
    >>> with warnings.catch_warnings(action="ignore"):
    ...     [name for name, _ in Container(act=nn.ReLU()).named_children()]
    ['act']
    """

    def __init__(self, **kwargs: nnx.Module):
        warnings.warn("nn.Container is deprecated. Fix: subclass nn.Module instead", FutureWarning, stacklevel=3)
        for name, module in kwargs.items():
            self.add_module(name, checked(module))

    def __call__(self, *input: Any) -> NoReturn:
        """Raise NotImplementedError."""
        refuse_call(self)


class DataParallel(Module):
    """Wrapper that calls its module and only adds ``module.`` to every name, as in checkpoints of torch's wrapper.

    Use JAX's shardings, not a module, to distribute arrays over devices.

    Args:
        module: the module to wrap.

    See `torch.nn.DataParallel <https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html>`_.

    >>> import flaxnets.nn as nn
    >>> list(DataParallel(nn.BatchNorm1d(2)).state_dict())[:2]
    ['module.weight', 'module.bias']
    """

    def __init__(self, module: nnx.Module):
        self.module = checked(module)

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Return the output of the wrapped module."""
        return self.module(*inputs, **kwargs)
