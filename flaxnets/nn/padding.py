"""Padding layers."""

from collections.abc import Iterable, Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Shaped

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import check_ndim
from flaxnets.nn.module import Module


class _Pad(Module):
    """Base class of padding layers of any mode and number of axes."""

    _extra_repr = "{padding}"

    axes: int
    mode: str

    def __init__(self, padding: int | Sequence[int]):
        self.padding = tuple(padding) if isinstance(padding, Iterable) else (padding,) * (2 * self.axes)

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Pad the input."""
        return F.pad(input, self.padding, self.mode)


class _ConstantPad(_Pad):
    _extra_repr = "padding={padding}, value={value}"

    mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: ArrayLike | None):
        super().__init__(padding)
        self.value = value

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Pad the input."""
        return F.pad(input, self.padding, self.mode, self.value)


class _CircularPad(_Pad):
    mode = "circular"

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Pad the input."""
        check_ndim(jnp.asarray(input), (self.axes + 1, self.axes + 2), type(self).__name__, ValueError)
        return super().__call__(input)


class ConstantPad1d(_ConstantPad):
    """Pad the last axis with a constant.

    Args:
        padding: number of elements: one int or ``(left, right)``. Negative numbers remove elements.
        value: the constant.

    The input is of any shape.

    Raises:
        RuntimeError, TypeError: when called, as :func:`flaxnets.nn.functional.pad`.

    See `torch.nn.ConstantPad1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ConstantPad1d.html>`_.

    >>> ConstantPad1d((2, 1), 0.5)(jnp.ones((1, 2))).tolist()
    [[0.5, 0.5, 1.0, 1.0, 0.5]]
    """

    axes = 1


class ConstantPad2d(_ConstantPad):
    """Pad the last two axes with a constant.

    Like :class:`ConstantPad1d`, with ``padding`` one int or ``(left, right, top, bottom)``.

    See `torch.nn.ConstantPad2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ConstantPad2d.html>`_.

    >>> ConstantPad2d((1, 1, 2, 0), 0.5)(jnp.ones((2, 3, 4))).shape
    (2, 5, 6)
    """

    axes = 2


class ConstantPad3d(_ConstantPad):
    """Pad the last three axes with a constant.

    Like :class:`ConstantPad1d`, with ``padding`` one int or ``(left, right, top, bottom, front, back)``.

    See `torch.nn.ConstantPad3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ConstantPad3d.html>`_.

    >>> ConstantPad3d((1, 1, 2, 0, 0, 1), 0.5)(jnp.ones((2, 2, 3, 4))).shape
    (2, 3, 5, 6)
    """

    axes = 3


class ZeroPad1d(ConstantPad1d):
    """Pad the last axis with zeros.

    Args:
        padding: number of elements: one int or ``(left, right)``. Negative numbers remove elements.

    The input is of any shape.

    Raises:
        RuntimeError, TypeError: when called, as :func:`flaxnets.nn.functional.pad`.

    See `torch.nn.ZeroPad1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ZeroPad1d.html>`_.

    >>> ZeroPad1d((1, -1))(jnp.ones((1, 3))).tolist()
    [[0.0, 1.0, 1.0]]
    """

    _extra_repr = "{padding}"

    def __init__(self, padding: int | Sequence[int]):
        super().__init__(padding, 0.0)


class ZeroPad2d(ConstantPad2d):
    """Pad the last two axes with zeros.

    Like :class:`ZeroPad1d`, with ``padding`` one int or ``(left, right, top, bottom)``.

    See `torch.nn.ZeroPad2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ZeroPad2d.html>`_.

    >>> ZeroPad2d((1, 1, 2, 0))(jnp.ones((2, 3, 4))).shape
    (2, 5, 6)
    """

    _extra_repr = "{padding}"

    def __init__(self, padding: int | Sequence[int]):
        super().__init__(padding, 0.0)


class ZeroPad3d(ConstantPad3d):
    """Pad the last three axes with zeros.

    Like :class:`ZeroPad1d`, with ``padding`` one int or ``(left, right, top, bottom, front, back)``.

    See `torch.nn.ZeroPad3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ZeroPad3d.html>`_.

    >>> ZeroPad3d((1, 1, 2, 0, 0, 1))(jnp.ones((2, 2, 3, 4))).shape
    (2, 3, 5, 6)
    """

    _extra_repr = "{padding}"

    def __init__(self, padding: int | Sequence[int]):
        super().__init__(padding, 0.0)


class _ReflectionPad(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """Pad the last axis by reflection, without repeating the elements at the ends.

    Args:
        padding: number of elements: one int or ``(left, right)``. Negative numbers remove elements.

    The input has one or two axes before the padded ones: channels, or batch and channels.

    Raises:
        RuntimeError, NotImplementedError, TypeError: when called, as :func:`flaxnets.nn.functional.pad`.

    See `torch.nn.ReflectionPad1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReflectionPad1d.html>`_.

    >>> ReflectionPad1d(2)(jnp.arange(3).reshape(1, 3)).tolist()
    [[2, 1, 0, 1, 2, 1, 0]]
    """

    axes = 1


class ReflectionPad2d(_ReflectionPad):
    """Pad the last two axes by reflection, without repeating the elements at the ends.

    Like :class:`ReflectionPad1d`, with ``padding`` one int or ``(left, right, top, bottom)``.

    See `torch.nn.ReflectionPad2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReflectionPad2d.html>`_.

    >>> ReflectionPad2d((1, 1, 2, 0))(jnp.ones((2, 3, 4))).shape
    (2, 5, 6)
    """

    axes = 2


class ReflectionPad3d(_ReflectionPad):
    """Pad the last three axes by reflection, without repeating the elements at the ends.

    Like :class:`ReflectionPad1d`, with ``padding`` one int or ``(left, right, top, bottom, front, back)``.

    See `torch.nn.ReflectionPad3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReflectionPad3d.html>`_.

    >>> ReflectionPad3d((1, 1, 2, 0, 0, 1))(jnp.ones((2, 2, 3, 4))).shape
    (2, 3, 5, 6)
    """

    axes = 3


class _ReplicationPad(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """Pad the last axis with copies of the elements at the ends.

    Args:
        padding: number of elements: one int or ``(left, right)``. Negative numbers remove elements.

    The input has one or two axes before the padded ones: channels, or batch and channels.

    Raises:
        RuntimeError, NotImplementedError, TypeError: when called, as :func:`flaxnets.nn.functional.pad`.

    See `torch.nn.ReplicationPad1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReplicationPad1d.html>`_.

    >>> ReplicationPad1d((2, 1))(jnp.arange(3).reshape(1, 3)).tolist()
    [[0, 0, 0, 1, 2, 2]]
    """

    axes = 1


class ReplicationPad2d(_ReplicationPad):
    """Pad the last two axes with copies of the elements at the ends.

    Like :class:`ReplicationPad1d`, with ``padding`` one int or ``(left, right, top, bottom)``.

    See `torch.nn.ReplicationPad2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReplicationPad2d.html>`_.

    >>> ReplicationPad2d((1, 1, 2, 0))(jnp.ones((2, 3, 4))).shape
    (2, 5, 6)
    """

    axes = 2


class ReplicationPad3d(_ReplicationPad):
    """Pad the last three axes with copies of the elements at the ends.

    Like :class:`ReplicationPad1d`, with ``padding`` one int or ``(left, right, top, bottom, front, back)``.

    See `torch.nn.ReplicationPad3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReplicationPad3d.html>`_.

    >>> ReplicationPad3d((1, 1, 2, 0, 0, 1))(jnp.ones((2, 2, 3, 4))).shape
    (2, 3, 5, 6)
    """

    axes = 3


class CircularPad1d(_CircularPad):
    """Pad the last axis circularly: each end continues with the elements of the opposite end.

    Args:
        padding: number of elements: one int or ``(left, right)``. Negative numbers remove elements.

    The input has one or two axes before the padded ones: channels, or batch and channels.

    Raises:
        RuntimeError, TypeError: when called, as :func:`flaxnets.nn.functional.pad`.
        ValueError: when called, for an input of the wrong rank.

    See `torch.nn.CircularPad1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.CircularPad1d.html>`_.

    >>> CircularPad1d((2, 1))(jnp.arange(3).reshape(1, 3)).tolist()
    [[1, 2, 0, 1, 2, 0]]
    """

    axes = 1


class CircularPad2d(_CircularPad):
    """Pad the last two axes circularly: each end continues with the elements of the opposite end.

    Like :class:`CircularPad1d`, with ``padding`` one int or ``(left, right, top, bottom)``.

    See `torch.nn.CircularPad2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.CircularPad2d.html>`_.

    >>> CircularPad2d((1, 1, 2, 0))(jnp.ones((2, 3, 4))).shape
    (2, 5, 6)
    """

    axes = 2


class CircularPad3d(_CircularPad):
    """Pad the last three axes circularly: each end continues with the elements of the opposite end.

    Like :class:`CircularPad1d`, with ``padding`` one int or ``(left, right, top, bottom, front, back)``.

    See `torch.nn.CircularPad3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.CircularPad3d.html>`_.

    >>> CircularPad3d((1, 1, 2, 0, 0, 1))(jnp.ones((2, 2, 3, 4))).shape
    (2, 3, 5, 6)
    """

    axes = 3
