"""Parameters that are computed from others whenever they are read."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx
from flax.nnx.tracers import TraceState

from flaxnets.nn.containers import ModuleList
from flaxnets.nn.named_containers import ModuleDict
from flaxnets.nn.utils._computed import become_computed

M = TypeVar("M", bound=nnx.Module)


class ParametrizationList(ModuleList):
    """The parametrizations of one parameter, and what they compute it from.

    The stored variable is ``original``, or ``original0``, ``original1``, ... where the first parametrization takes
    several. :func:`register_parametrization` makes it; called, it returns the parameter.

    Args:
        modules: the parametrizations.
        original: the parameter or buffer as it was.
        unsafe: whether they may change the shape and the dtype.

    Raises:
        ValueError: if they do, and may not.

    >>> from flaxnets import nn
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> layer.parametrizations.weight().shape, layer.parametrizations.weight.original0.shape
    ((2, 3), (2, 1))
    """

    def __init__(self, modules: Sequence[nnx.Module], original: nnx.Variable, unsafe: bool = False):
        super().__init__(modules)
        self.unsafe = unsafe
        before = value = original.get_value()
        for module in reversed(list(self)):
            with contextlib.suppress(NotImplementedError):  # as in torch, the array is stored unchanged then
                value = getattr(module, "right_inverse", _identity)(value)
        self.is_tensor = not isinstance(value, (tuple, list))
        self.ntensors = 1 if self.is_tensor else len(value)
        for name, part in zip(self._names(), [value] if self.is_tensor else value, strict=True):
            setattr(self, name, original.copy(part))
        if not unsafe:
            _check_unchanged(before, self())

    def _names(self) -> list[str]:
        return ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]

    def right_inverse(self, value: jax.Array) -> None:
        """Store what the parameter is computed from, so that it becomes ``value``.

        Raises:
            RuntimeError: if a parametrization has no inverse.
        """
        for module in reversed(list(self)):
            inverse = getattr(module, "right_inverse", None)
            if inverse is None:
                raise RuntimeError(f"the parametrization {type(module).__name__} has no right_inverse")
            value = inverse(value)
        for name, part in zip(self._names(), [value] if self.is_tensor else value, strict=True):
            getattr(self, name).set_value(part)

    def __call__(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute the parameter, or return the one of the context :func:`cached`."""
        cache = _cache.get()
        if cache is None:
            return self._compute()
        if id(self) not in cache or not cache[id(self)][1].is_valid():  # a value of another trace is none of this one
            cache[id(self)] = (self, TraceState(), self._compute())
        return cache[id(self)][2]

    def _compute(self) -> jax.Array:
        first, *rest = self
        value = first(*(getattr(self, name)[...] for name in self._names()))
        for module in rest:
            value = module(value)
        return value


def _identity(value: Any) -> Any:
    return value


def _check_unchanged(before: jax.Array, after: jax.Array) -> None:
    """Raise ValueError if the shape or the dtype is another."""
    if (before.shape, before.dtype) != (after.shape, after.dtype):
        raise ValueError(
            f"a parametrization must not change shape and dtype unless unsafe=True: expected {before.shape} and "
            f"{before.dtype}, got {after.shape} and {after.dtype}"
        )


_Cache = dict[int, tuple["ParametrizationList", TraceState, jax.Array]]
_cache: contextvars.ContextVar[_Cache | None] = contextvars.ContextVar("_cache", default=None)


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Compute each parametrised attribute once in a ``with`` block, when it is first read.

    Under jit XLA removes repeated computations by itself; a spectral norm, however, takes steps of the power method at
    each computation. Contexts can be nested; the outermost one decides.

    See `torch.nn.utils.parametrize.cached
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrize.cached.html>`_.

    >>> from flaxnets import nn
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> with cached():
    ...     layer.weight is layer.weight
    True
    """
    token = _cache.set({}) if _cache.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _cache.reset(token)


def type_before_parametrizations(module: nnx.Module) -> type:
    """Return the module's class, as it was before parametrizations.

    >>> from flaxnets import nn
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> type(layer).__name__, type_before_parametrizations(layer).__name__
    ('ParametrizedLinear', 'Linear')
    """
    return getattr(type(module), "_parametrized", type(module))


def is_parametrized(module: nnx.Module, tensor_name: str | None = None) -> bool:
    """Return whether that parameter is computed from others, or, without a name, whether any is.

    See `torch.nn.utils.parametrize.is_parametrized
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrize.is_parametrized.html>`_.

    >>> from flaxnets import nn
    >>> is_parametrized(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0))), "bias")
    False
    """
    parametrizations = vars(module).get("parametrizations")
    if not isinstance(parametrizations, ModuleDict):
        return False
    return len(parametrizations) > 0 if tensor_name is None else tensor_name in parametrizations


def register_parametrization(module: M, tensor_name: str, parametrization: nnx.Module, *, unsafe: bool = False) -> M:
    """Make a parameter or buffer of the module what ``parametrization`` computes from the stored one.

    ``module.weight`` becomes an array that is computed at every access; ``module.parametrizations.weight`` has the
    stored variable. A parametrization with a method ``right_inverse`` says what is to be stored, a tuple if it takes
    several arrays. The module is changed, its class included; do so before it is passed to a transformation.

    Args:
        module: the module that holds it.
        tensor_name: its name there.
        parametrization: a module from array to array.
        unsafe: whether it may change the shape and the dtype.

    Raises:
        ValueError: if there is no parameter or buffer of that name, or its shape or dtype changes and may not.

    See `torch.nn.utils.parametrize.register_parametrization
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrize.register_parametrization.html>`_.

    >>> from flaxnets import nn
    >>> layer = register_parametrization(nn.Linear(3, 2, rngs=nnx.Rngs(0)), "weight", nn.ReLU())
    >>> bool((layer.weight >= 0).all()), list(layer.state_dict())
    (True, ['bias', 'parametrizations.weight.original'])
    """
    parametrization.set_attributes(training=getattr(module, "training", True), raise_if_not_found=False)
    holder: Any = module
    if is_parametrized(module, tensor_name):
        if not unsafe:
            value = getattr(module, tensor_name)
            _check_unchanged(value, parametrization(value))
        holder.parametrizations[tensor_name].append(parametrization)
        holder.parametrizations[tensor_name].unsafe |= unsafe
        return module
    original = vars(module).get(tensor_name)
    if not isinstance(original, nnx.Variable):
        raise ValueError(f"{type(module).__name__} has no parameter or buffer {tensor_name!r}")
    parametrizations = ParametrizationList([parametrization], original, unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        holder.parametrizations = ModuleDict()
    holder.parametrizations[tensor_name] = parametrizations
    become_computed(module)
    return module


def remove_parametrizations(module: M, tensor_name: str, leave_parametrized: bool = True) -> M:
    """Make a parametrised parameter an ordinary one again.

    Args:
        module: the module that holds it.
        tensor_name: its name there.
        leave_parametrized: whether it keeps the value that is computed, or takes the stored one.

    Raises:
        ValueError: if it is not parametrised, or has no one stored value to take.

    See `torch.nn.utils.parametrize.remove_parametrizations
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrize.remove_parametrizations.html>`_.

    >>> from flaxnets import nn
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> type(remove_parametrizations(layer, "weight")).__name__, list(layer.state_dict())
    ('Linear', ['bias', 'weight'])
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{type(module).__name__} has no parametrization on {tensor_name!r}")
    holder: Any = module
    parametrizations = holder.parametrizations[tensor_name]
    if not leave_parametrized and not parametrizations.is_tensor:
        raise ValueError(
            f"{tensor_name!r} is computed from {parametrizations.ntensors} arrays, none of which can take its place; "
            "got leave_parametrized=False"
        )
    stored = parametrizations.original if parametrizations.is_tensor else parametrizations.original0
    restored = stored.copy(getattr(module, tensor_name)) if leave_parametrized else stored
    del holder.parametrizations[tensor_name]
    if not holder.parametrizations:
        del holder.parametrizations
    become_computed(module)
    setattr(module, tensor_name, restored)
    return module


def transfer_parametrizations_and_params(from_module: nnx.Module, to_module: M, tensor_name: str | None = None) -> M:
    """Give ``to_module`` the parametrizations of ``from_module``, and what they compute from.

    The two modules share both afterwards, as in torch.

    Args:
        from_module: the module that has them; without any, nothing happens.
        to_module: the module that gets them; it is changed, and gets parameters that it lacks.
        tensor_name: the name of the only parameter to transfer; all that are parametrised if not given.

    See `torch.nn.utils.parametrize.transfer_parametrizations_and_params
    <https://github.com/pytorch/pytorch/blob/main/torch/nn/utils/parametrize.py>`_.

    >>> from flaxnets import nn
    >>> source = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> target = transfer_parametrizations_and_params(source, nn.Linear(3, 2, rngs=nnx.Rngs(1)))
    >>> bool((target.weight == source.weight).all())
    True
    """
    source: Any = from_module
    if not is_parametrized(source):
        return to_module
    for name in list(source.parametrizations) if tensor_name is None else [tensor_name]:
        parametrizations = source.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, nnx.Param(getattr(source, name)))
        for parametrization in parametrizations:
            register_parametrization(to_module, name, parametrization, unsafe=parametrizations.unsafe)
        target: Any = to_module
        for stored in parametrizations._names():
            setattr(target.parametrizations[name], stored, getattr(parametrizations, stored))
    return to_module
