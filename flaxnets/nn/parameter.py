"""Parameters and buffers: ordinary, frozen, and uninitialized ones (without a shape)."""

import math
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from flaxnets._uninitialized import Uninitialized

P = TypeVar("P", bound="Parameter")


# Tensor attributes of torch that arrays lack, with their replacements in JAX.
_FIXES = {
    "backward": "nnx.grad(loss_function)(model)",
    "clone": "jnp.array(variable)",
    "contiguous": "remove the call",
    "detach": "jax.lax.stop_gradient(variable[...])",
    "grad": "gradients = nnx.grad(loss_function)(model)",
    "is_leaf": "variable.requires_grad",
    "numpy": "np.asarray(variable)",
    "register_hook": "jax.custom_vjp",
}


class _TensorLike(nnx.Variable):
    """Variable whose missing tensor attributes raise an error with the JAX replacement."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            in_place = name.endswith("_") and not name.startswith("_")
            fix = "variable.set_value(array)" if in_place else _FIXES.get(name)
            if fix is None:
                raise
            reason = "JAX arrays are immutable" if in_place else "JAX arrays have no such attribute"
            raise AttributeError(f"{type(self).__name__}.{name}: {reason}. Fix: {fix}", name=name) from error


class Parameter(_TensorLike, nnx.Param):
    """Parameter with torch's constructor: an ``nnx.Param`` that can be frozen.

    Every parameter of a :class:`Module` has this class: a plain ``nnx.Param`` is converted when it is assigned to a
    module. A frozen parameter is read as a constant, its gradient is zero (torch's is None), and optimizers skip it.
    ``parameter.requires_grad`` can be read and set at any time. Set it before passing the parameters to a
    transformation or an optimizer, because it is part of the compiled program.

    Args:
        data: the value. Default: an empty array. A ``jax.ShapeDtypeStruct`` reserves shape and dtype.
        requires_grad: whether the parameter gets gradients.

    Raises:
        RuntimeError: for ``requires_grad`` and a dtype that is neither floating-point nor complex.

    See `torch.nn.Parameter <https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html>`_.

    >>> frozen = Parameter(jnp.ones(2), requires_grad=False)
    >>> jax.grad(lambda p: (p[...] ** 2).sum())(frozen)[...].tolist()
    [0.0, 0.0]
    """

    def __init__(
        self,
        data: ArrayLike | jax.ShapeDtypeStruct | Uninitialized | None = None,
        requires_grad: bool = True,
        **metadata: Any,
    ):
        if data is None:
            data = jnp.zeros(0)
        value = data if isinstance(data, (jax.ShapeDtypeStruct, Uninitialized)) else jnp.asarray(data)
        if requires_grad:
            _check_differentiable(value)
        else:
            metadata["frozen"] = True
        super().__init__(value, **metadata)

    @property
    def requires_grad(self) -> bool:
        """Whether the parameter gets gradients."""
        return not self.get_metadata("frozen", False) and _is_differentiable(self.get_raw_value())

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value:
            _check_differentiable(self.get_raw_value())
            if self.has_metadata("frozen"):
                self.del_metadata("frozen")
        else:
            self.set_metadata(frozen=True)

    def requires_grad_(self: P, requires_grad: bool = True) -> P:
        """Set whether the parameter gets gradients; return the parameter."""
        self.requires_grad = requires_grad
        return self

    def numel(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def data(self) -> jax.Array:
        """The array, without a gradient. Assign another array to set the value."""
        return jax.lax.stop_gradient(super().get_value())

    @data.setter
    def data(self, value: ArrayLike) -> None:
        self.set_value(jnp.asarray(value))

    def get_value(self, **index: Any) -> Any:
        """Return the array, as a constant if the parameter is frozen."""
        value = super().get_value(**index)
        if self.get_metadata("frozen", False) and isinstance(value, jax.Array):
            return jax.lax.stop_gradient(value)
        return value

    def __getattr__(self, name: str) -> Any:
        # Attributes and methods of the array, for example weight.T, must come from the constant.
        if not name.startswith("_") and self.get_metadata("frozen", False) and not self.has_metadata(name):
            value = self.get_value()
            if hasattr(value, name):
                return getattr(value, name)
        return super().__getattr__(name)

    def set_value(self, value: Any, **index: Any) -> None:
        """Set the array, or a part of it at an index."""
        if isinstance(self.get_raw_value(), jax.ShapeDtypeStruct):
            index = {}  # there is no array yet, so the index has no meaning
        super().set_value(value, **index)


def _is_differentiable(value: Any) -> bool:
    dtype = value.dtype if hasattr(value, "dtype") else jnp.result_type(value)  # Flax allows Python numbers
    return jnp.issubdtype(dtype, jnp.inexact)


def _check_differentiable(value: Any) -> None:
    if not _is_differentiable(value):
        raise RuntimeError(
            f"only floating-point and complex parameters have gradients, got dtype {value.dtype}. "
            "Fix: pass requires_grad=False"
        )


def adopt(variable: nnx.Variable) -> None:
    """Convert a plain ``nnx.Param`` to a :class:`Parameter` in place, so that tied parameters stay tied.

    >>> param = nnx.Param(jnp.ones(2))
    >>> adopt(param)
    >>> type(param).__name__, param.requires_grad
    ('Parameter', True)
    """
    if type(variable) is nnx.Param:
        object.__setattr__(variable, "__class__", Parameter)


def _in_place(operation: Callable[[Any, Any], Any]) -> Any:
    """Return the method of an in-place operator, for example ``+=``; as in torch, shape and dtype category are kept."""

    def method(self: "_InPlace", other: Any) -> "_InPlace":
        old = self.get_value()
        new = operation(old, other)
        fits = jnp.promote_types(old.dtype, new.dtype) == old.dtype or (
            jnp.issubdtype(old.dtype, jnp.floating) and jnp.issubdtype(new.dtype, jnp.floating)
        )
        if new.shape != old.shape or not fits:
            raise RuntimeError(
                f"a buffer of shape {old.shape} and dtype {old.dtype} cannot be changed in place to shape {new.shape} "
                f"and dtype {new.dtype}. Fix: assign the result to the attribute instead."
            )
        self.set_value(new.astype(old.dtype))
        return self

    return method


class _InPlace(_TensorLike):
    """Variable whose value in-place operators change; Flax raises for these operators."""

    __iadd__ = _in_place(operator.add)
    __isub__ = _in_place(operator.sub)
    __imul__ = _in_place(operator.mul)
    __itruediv__ = _in_place(operator.truediv)
    __ifloordiv__ = _in_place(operator.floordiv)
    __imod__ = _in_place(operator.mod)
    __ipow__ = _in_place(operator.pow)
    __iand__ = _in_place(operator.and_)
    __ior__ = _in_place(operator.or_)
    __ixor__ = _in_place(operator.xor)


class Buffer(_InPlace):
    """State that is not trained and is not a batch statistic; ``persistent=False`` keeps it out of the state dict.

    In-place operators set the value: ``self.count += 1``.

    Args:
        data: the value. Default: an empty array.
        persistent: whether the state dict contains the buffer.

    Raises:
        RuntimeError: for an in-place operator that would change the shape or the dtype category.

    See `torch.nn.Buffer <https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Buffer.html>`_.

    >>> Buffer(jnp.zeros(3), persistent=False).shape
    (3,)
    """

    def __init__(self, data: Any = None, persistent: bool = True, **metadata: Any):
        super().__init__(jnp.zeros(0) if data is None else data, persistent=persistent, **metadata)


class BatchStat(_InPlace, nnx.BatchStat):
    """Running statistic of a normalisation layer; in-place operators change it, as with :class:`Buffer`."""


class _Uninitialized(nnx.Variable):
    """Base class of uninitialized parameters and buffers."""

    cls_to_become: type[nnx.Variable]

    @property
    def shape(self) -> tuple[int, ...]:
        """Raise RuntimeError: an uninitialized variable has no shape."""
        return self.get_value().shape

    def set_value(self, value: Any, **index: Any) -> None:
        """Set the value; an array makes this an ordinary variable."""
        super().set_value(value, **index)
        if not isinstance(value, Uninitialized):
            object.__setattr__(self, "__class__", self.cls_to_become)

    def materialize(self, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> None:
        """Convert to an ordinary variable of this shape, filled with zeros."""
        self.set_value(jnp.zeros(shape, self.get_value().dtype if dtype is None else dtype))


class UninitializedParameter(_Uninitialized, Parameter):
    """Parameter with a dtype but no shape yet, as in lazy layers before their first call.

    Args:
        dtype: dtype of the future parameter.
        requires_grad: whether the parameter gets gradients.

    Raises:
        RuntimeError: on reading the shape.

    See `torch.nn.parameter.UninitializedParameter
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.UninitializedParameter.html>`_.

    >>> parameter = UninitializedParameter()
    >>> parameter.materialize((2, 3))
    >>> type(parameter).__name__, parameter.shape
    ('Parameter', (2, 3))
    """

    cls_to_become = Parameter

    def __init__(self, dtype: DTypeLike = jnp.float32, requires_grad: bool = True, **metadata: Any):
        super().__init__(Uninitialized(jnp.dtype(dtype)), requires_grad, **metadata)


class UninitializedBuffer(_Uninitialized, Buffer):
    """Buffer with a dtype but no shape yet.

    Args:
        dtype: dtype of the future buffer.
        persistent: whether the state dict contains the buffer.

    Raises:
        RuntimeError: on reading the shape.

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
    """Return whether the argument is a parameter or buffer without a shape.

    >>> is_lazy(UninitializedParameter()), is_lazy(Parameter())
    (True, False)
    """
    return isinstance(param, _Uninitialized)


def reserved(*shape: int, dtype: DTypeLike) -> Parameter:
    """Return a parameter with shape and dtype, whose value ``reset_parameters`` draws."""
    return Parameter(abstract(shape, dtype))


def abstract(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of an array; Python's ``float`` means JAX's default float."""
    is_default = isinstance(dtype, type) and dtype in (int, float, complex)
    return jax.ShapeDtypeStruct(shape, jnp.result_type(dtype) if is_default else dtype)


def redraw(module: nnx.Module, name: str, draw: Callable[[tuple[int, ...], Any], jax.Array]) -> None:
    """Set a parameter to ``draw(shape, dtype)`` on its current device; as in torch, skip computed parameters."""
    variable = vars(module).get(name)
    if not isinstance(variable, nnx.Variable):
        return
    value: Any = variable.get_raw_value()
    new = draw(value.shape, value.dtype)
    if isinstance(value, jax.Array) and not isinstance(value, Tracer) and value.sharding != new.sharding:
        new = jax.device_put(new, value.sharding)
    variable.set_value(new)
