"""Parametrisations: parameters that are computed from others on every read."""

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
    """The parametrizations of one parameter, and the variables that they read.

    The stored variable is ``original``, or ``original0``, ``original1``, ... if the first parametrization has several
    inputs. :func:`register_parametrization` creates the list. A call returns the parameter.

    Args:
        modules: the parametrizations.
        original: the original parameter or buffer.
        unsafe: whether the parametrizations may change shape and dtype.

    Raises:
        ValueError: if a parametrization changes shape or dtype without ``unsafe``.

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
            with contextlib.suppress(NotImplementedError):  # as in torch, the array is then stored unchanged
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
        """Store inputs that the parametrizations map to ``value``.

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
        if id(self) not in cache or not cache[id(self)][1].is_valid():  # values of other traces are invalid here
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
    """Raise ValueError if the shape or dtype changed."""
    if (before.shape, before.dtype) != (after.shape, after.dtype):
        raise ValueError(
            f"a parametrization must preserve shape and dtype: expected {before.shape} and {before.dtype}, got "
            f"{after.shape} and {after.dtype}. Fix: use unsafe=True to allow the change"
        )


_Cache = dict[int, tuple["ParametrizationList", TraceState, jax.Array]]
_cache: contextvars.ContextVar[_Cache | None] = contextvars.ContextVar("_cache", default=None)


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Compute each parametrised attribute only once within a ``with`` block.

    Under ``jax.jit`` XLA removes repeated computations by itself. Spectral normalisation, however, runs steps of the
    power method on every computation. Contexts can be nested; the outermost context owns the cache.

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
    """Return the module's class before parametrizations.

    >>> from flaxnets import nn
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> type(layer).__name__, type_before_parametrizations(layer).__name__
    ('ParametrizedLinear', 'Linear')
    """
    return getattr(type(module), "_parametrized", type(module))


def is_parametrized(module: nnx.Module, tensor_name: str | None = None) -> bool:
    """Return whether this parameter is parametrised, or, without a name, whether any parameter is.

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
    """Replace a parameter or buffer by the value that ``parametrization`` computes from it.

    ``module.weight`` becomes an array that is computed on every read; ``module.parametrizations.weight``
    contains the stored variable. The method ``right_inverse`` of a parametrization, if defined, returns the value to
    store, or a tuple of values. The module and its class are changed, so call this before passing the module to a
    transformation.

    Args:
        module: the module with the parameter.
        tensor_name: name of the parameter or buffer.
        parametrization: module that maps an array to an array.
        unsafe: whether shape and dtype may change.

    Raises:
        ValueError: for an unknown parameter or buffer, or a change of shape or dtype without ``unsafe``.

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
    """Turn a parametrised parameter into an ordinary parameter.

    Args:
        module: the module with the parameter.
        tensor_name: name of the parameter.
        leave_parametrized: whether to keep the computed value instead of the stored value.

    Raises:
        ValueError: if the parameter is not parametrised, or several stored values could replace it.

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
            f"{tensor_name!r} is computed from {parametrizations.ntensors} arrays, and none of them can replace it; "
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
    """Transfer the parametrizations of ``from_module``, and the variables that they read, to ``to_module``.

    Both modules share them afterwards, as in torch.

    Args:
        from_module: the module with the parametrizations; without any, nothing happens.
        to_module: the module that gets them; changed in place, with new parameters where it lacks them.
        tensor_name: name of the only parameter to transfer. None means all parametrised parameters.

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
