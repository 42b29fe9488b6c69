"""Kinds of parameters and buffers: those that can be frozen, and those whose shape is not known yet."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike

from flaxnets.nn.module import Buffer
from flaxnets.state import Uninitialized


class Parameter(nnx.Param):
    """An ``nnx.Param`` with torch's constructor, which can be frozen.

    Every ``nnx.Param`` is a parameter here, so that this class is needed for ``requires_grad=False`` only: such a
    parameter is read as a constant, and its gradient is zero (torch's is None). An optimizer leaves it as it is unless
    it decays weights. ``parameter.requires_grad`` can be read and set at any time.

    Args:
        data: the value; an empty array if not given.
        requires_grad: whether gradients flow into it.

    Raises:
        RuntimeError: if it is to have gradients and is neither floating-point nor complex.

    See `torch.nn.Parameter <https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html>`_.

    >>> frozen = Parameter(jnp.ones(2), requires_grad=False)
    >>> jax.grad(lambda p: (p[...] ** 2).sum())(frozen)[...].tolist()
    [0.0, 0.0]
    """

    def __init__(self, data: ArrayLike | None = None, requires_grad: bool = True, **metadata: Any):
        value = jnp.zeros(0) if data is None else jnp.asarray(data)
        _check_differentiable(value, requires_grad)
        super().__init__(value, frozen=not requires_grad, **metadata)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow into it."""
        return not self.get_metadata("frozen", False)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        _check_differentiable(self.get_raw_value(), value)
        self.set_metadata(frozen=not value)

    def get_value(self, **index: Any) -> Any:
        """Returns the array, as a constant if the parameter is frozen."""
        value = super().get_value(**index)
        return value if self.requires_grad else jax.lax.stop_gradient(value)


def _check_differentiable(value: Any, requires_grad: bool) -> None:
    if requires_grad and not jnp.issubdtype(value.dtype, jnp.inexact):
        raise RuntimeError(
            f"only floating-point and complex parameters have gradients, got dtype {value.dtype}; "
            "say requires_grad=False"
        )


class _Uninitialized(nnx.Variable):
    """What uninitialized parameters and buffers have in common."""

    cls_to_become: type[nnx.Variable]

    @property
    def shape(self) -> tuple[int, ...]:
        """Raises RuntimeError, as there is none yet."""
        return self.get_value().shape

    def set_value(self, value: Any, **index: Any) -> None:
        """Takes a value; with an array it becomes an ordinary variable."""
        super().set_value(value, **index)
        if not isinstance(value, Uninitialized):
            object.__setattr__(self, "__class__", self.cls_to_become)

    def materialize(self, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> None:
        """Becomes an ordinary variable of this shape, filled with zeros."""
        self.set_value(jnp.zeros(shape, self.get_value().dtype if dtype is None else dtype))


class UninitializedParameter(_Uninitialized, nnx.Param):
    """A parameter that has a dtype and no shape yet, as those of the lazy layers before their first call.

    Args:
        dtype: what the parameter will have.

    Raises:
        RuntimeError: if its shape is asked for.

    See `torch.nn.parameter.UninitializedParameter
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.UninitializedParameter.html>`_.

    >>> parameter = UninitializedParameter()
    >>> parameter.materialize((2, 3))
    >>> type(parameter).__name__, parameter.shape
    ('Param', (2, 3))
    """

    cls_to_become = nnx.Param

    def __init__(self, dtype: DTypeLike = jnp.float32, **metadata: Any):
        super().__init__(Uninitialized(jnp.dtype(dtype)), **metadata)


class UninitializedBuffer(_Uninitialized, Buffer):
    """A buffer that has a dtype and no shape yet.

    Args:
        dtype: what the buffer will have.
        persistent: whether it is part of the state dict.

    Raises:
        RuntimeError: if its shape is asked for.

    See `torch.nn.parameter.UninitializedBuffer
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.UninitializedBuffer.html>`_.

    >>> buffer = UninitializedBuffer()
    >>> buffer.materialize((3,))
    >>> type(buffer).__name__, buffer.shape
    ('Buffer', (3,))
    """

    cls_to_become = Buffer

    def __init__(self, dtype: DTypeLike = jnp.float32, persistent: bool = True, **metadata: Any):
        super().__init__(Uninitialized(jnp.dtype(dtype)), persistent=persistent, **metadata)


def is_lazy(param: Any) -> bool:
    """Returns whether this is a parameter or buffer without a shape.

    >>> is_lazy(UninitializedParameter()), is_lazy(Parameter())
    (True, False)
    """
    return isinstance(param, _Uninitialized)
