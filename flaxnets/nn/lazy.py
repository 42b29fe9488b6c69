"""Lazy layers, which read one of their sizes from their first input."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.tracers import TraceState
from jax.typing import DTypeLike

from flaxnets.nn.linear import Linear
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import Parameter, UninitializedBuffer, UninitializedParameter, is_lazy
from flaxnets.state import own_variables

_EAGER = TraceState()  # the trace state outside of all transformations


class LazyModuleMixin(Module):
    """Base class of layers that read one of their sizes from the input of their first call.

    Before the first call, the parameters have a dtype and no shape. ``state_dict`` lists them, and ``load_state_dict``
    accepts arrays of any shape for them. The first call draws the parameters that were not loaded, and turns the layer
    into an instance of ``cls_to_become``, the ordinary class. This changes the layer, so make the first call outside of
    ``jax.jit``, ``jax.grad`` and other transformations. A layer that is constructed inside a transformation (for
    example ``nnx.eval_shape``) must be called inside the same transformation.

    A subclass defines the ordinary class, the name of the inferred constructor argument, and where the input has its
    value.

    See `torch.nn.modules.lazy.LazyModuleMixin
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.modules.lazy.LazyModuleMixin.html>`_.

    >>> from flaxnets import nn
    >>> net = nn.Sequential(nn.LazyLinear(8, rngs=nnx.Rngs(0)), nn.ReLU(), nn.LazyLinear(1, rngs=nnx.Rngs(1)))
    >>> net(jnp.ones((5, 3))).shape, type(net[0]).__name__, net[2].in_features
    ((5, 1), 'Linear', 8)
    """

    cls_to_become: type[Any]
    inferred: str
    mismatch: type[Exception] = RuntimeError

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "cls_to_become" in vars(cls):
            cls.__call__ = cls.forward = _first_call(cls.cls_to_become.__call__)

    def _begin(self, arguments: Mapping[str, Any], rngs: nnx.Rngs | None = None) -> None:
        """Construct the ordinary layer with a size of zero, then remove the shapes."""
        unused = {} if rngs is None else {"rngs": nnx.Rngs(0)}
        self.cls_to_become.__init__(self, **{self.inferred: 0}, **arguments, **unused)
        for name, variable in list(own_variables(self)):
            if variable.ndim:
                uninitialized = UninitializedParameter if isinstance(variable, nnx.Param) else UninitializedBuffer
                setattr(self, name, uninitialized(variable.dtype))
        self._arguments = tuple((name, _hashable(value)) for name, value in arguments.items() if name != "dtype")
        self._stream = None if rngs is None else rngs.params.fork()
        self._made_eagerly = _EAGER.is_valid()

    def reset_parameters(self, *, rngs: nnx.Rngs | None = None) -> None:
        """Reinitialise the parameters, if they have shapes."""
        if not self.has_uninitialized_params():
            self.cls_to_become.reset_parameters(self, rngs=rngs)

    def has_uninitialized_params(self) -> bool:
        """Return whether a parameter or buffer still has no shape."""
        return any(is_lazy(variable) for _, variable in own_variables(self))

    def _size(self, shape: tuple[int, ...]) -> int:
        """Return the inferred size for an input of this shape."""
        raise NotImplementedError

    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:
        """Set the shapes of all parameters and buffers, and the initial values of those that were not loaded."""
        size = self._size(jnp.shape(input))
        old = dict(own_variables(self))
        dtypes = [variable.get_value().dtype for name, variable in old.items() if name != "num_batches_tracked"]
        options = {"dtype": dtypes[0]} if dtypes else {}
        if self._stream is not None:
            options["rngs"] = nnx.Rngs(params=self._stream())
        new = dict(own_variables(self.cls_to_become(**{self.inferred: size}, **dict(self._arguments), **options)))
        loaded = {name: variable for name, variable in old.items() if not is_lazy(variable)}
        for name, variable in loaded.items():
            if variable.shape != new[name].shape:
                raise self.mismatch(
                    f"{type(self).__name__}: {name!r} was loaded with shape {variable.shape}, and an input of shape "
                    f"{jnp.shape(input)} needs {new[name].shape}"
                )
        for name, variable in new.items():
            if name in loaded:
                variable.set_value(loaded[name].get_value())
            if isinstance(variable, Parameter):
                variable.requires_grad = old[name].requires_grad
            setattr(self, name, variable)
        setattr(self, self.inferred, size)

    def _become(self, *args: Any, **kwargs: Any) -> None:
        if self._made_eagerly and not _EAGER.is_valid():
            raise RuntimeError(
                f"{type(self).__name__}: the first call infers {self.inferred} and changes the layer, but this call is "
                "traced (by jit, grad, ...). Fix: call the layer, or its network, once on an example outside"
            )
        self.initialize_parameters(*args, **kwargs)
        for name in ("_arguments", "_stream", "_made_eagerly"):
            delattr(self, name)
        object.__setattr__(self, "__class__", self.cls_to_become)


def _hashable(argument: Any) -> Any:
    return tuple(argument) if isinstance(argument, Sequence) and not isinstance(argument, str) else argument


def _first_call(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def first(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._become(*args, **kwargs)
        return self(*args, **kwargs)

    return first


class LazyLinear(LazyModuleMixin, Linear):
    """A :class:`Linear` that reads ``in_features`` from its first input (see :class:`LazyModuleMixin`).

    Args:
        out_features: size of the output's last axis.
        bias: whether to add a bias.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        IndexError: on the first call, for an input without axes.
        AssertionError: on the first call, if the input does not match a loaded weight.
        RuntimeError: on the first call, if a transformation traces the call.

    See `torch.nn.LazyLinear <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyLinear.html>`_.

    >>> layer = LazyLinear(2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((4, 3))).shape, type(layer).__name__, layer.in_features
    ((4, 2), 'Linear', 3)
    """

    cls_to_become = Linear
    inferred = "in_features"
    mismatch = AssertionError

    def __init__(self, out_features: int, bias: bool = True, dtype: DTypeLike = jnp.float32, *, rngs: nnx.Rngs):
        self._begin({"out_features": out_features, "bias": bias, "dtype": dtype}, rngs)

    def _size(self, shape: tuple[int, ...]) -> int:
        if not shape:
            raise IndexError(f"LazyLinear: expected an input of at least one axis, got the shape {shape}")
        return shape[-1]
