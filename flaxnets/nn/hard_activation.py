"""Piecewise-linear activation layers."""

import warnings

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Real

from flaxnets.nn import functional as F
from flaxnets.nn._inplace import InPlace
from flaxnets.nn.module import Module


class Hardtanh(InPlace):
    """Clamp every element to ``[min_val, max_val]``; the gradient at both bounds is 0.

    Args:
        min_val: the lower bound.
        max_val: the upper bound.
        inplace: stored, without effect: JAX arrays are immutable.
        min_value: deprecated name of ``min_val``.
        max_value: deprecated name of ``max_val``.

    Raises:
        AssertionError: if ``max_val`` is not larger than ``min_val``.
        RuntimeError: when called, for booleans, and for unsigned integers with a negative bound.
        NotImplementedError: when called, for complex numbers.

    See `torch.nn.Hardtanh <https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardtanh.html>`_.

    >>> Hardtanh()(jnp.array([-2.0, 0.5, 2.0])).tolist()
    [-1.0, 0.5, 1.0]
    """

    _extra_repr = "min_val={min_val}, max_val={max_val}"

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ):
        for old, value in (("min_val", min_value), ("max_val", max_value)):
            if value is not None:
                warnings.warn(f"{old}ue is deprecated, got {value}; call it {old}", FutureWarning, stacklevel=2)
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        self.inplace = inplace
        if self.max_val <= self.min_val:
            raise AssertionError(f"Hardtanh: max_val={self.max_val} must be larger than min_val={self.min_val}")

    def __call__(self, input: Real[Array, "*shape"]) -> Real[Array, "*shape"]:
        """Return values between ``min_val`` and ``max_val``."""
        return F.hardtanh(input, self.min_val, self.max_val)


class ReLU6(Hardtanh):
    """Apply ``min(max(input, 0), 6)`` to every element; the gradients at 0 and at 6 are 0.

    Args:
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        RuntimeError: when called, for booleans.
        NotImplementedError: when called, for complex numbers.

    See "Convolutional deep belief networks on CIFAR-10" and
    `torch.nn.ReLU6 <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU6.html>`_.

    >>> ReLU6()(jnp.array([-2.0, 0.5, 8.0])).tolist()
    [0.0, 0.5, 6.0]
    """

    _extra_repr = ""

    def __init__(self, inplace: bool = False):
        super().__init__(0.0, 6.0, inplace)


class Hardsigmoid(Module):
    """Apply ``relu6(input + 3) / 6`` to every element; the gradients at -3 and at 3 are 0.

    Args:
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.Hardsigmoid <https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardsigmoid.html>`_.

    >>> Hardsigmoid()(jnp.array([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return values between 0 and 1."""
        return F.hardsigmoid(input)


class Hardswish(Module):
    """Apply ``input * relu6(input + 3) / 6`` to every element; the gradient is 0 at -3 and 1 at 3.

    Args:
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See "Searching for MobileNetV3" (arXiv:1905.02244) and `torch.nn.Hardswish
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardswish.html>`_.

    >>> Hardswish()(jnp.array([-4.0, 0.0, 4.0])).tolist()
    [-0.0, 0.0, 4.0]
    """

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the input times its hard sigmoid."""
        return F.hardswish(input)


class Hardshrink(Module):
    """Set elements in ``[-lambd, lambd]`` to 0; the gradients at both bounds are 0.

    Args:
        lambd: the largest magnitude that is set to 0.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.Hardshrink <https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardshrink.html>`_.

    >>> Hardshrink()(jnp.array([-2.0, 0.5])).tolist()
    [-2.0, 0.0]
    """

    _extra_repr = "{lambd}"

    def __init__(self, lambd: float = 0.5):
        self.lambd = lambd

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the input, with small elements set to 0."""
        return F.hardshrink(input, self.lambd)


class Softshrink(Module):
    """Move every element towards 0 by ``lambd``, and no further than 0; the gradients at both bounds are 0.

    Args:
        lambd: the distance that elements move.

    Raises:
        RuntimeError: when called, if ``lambd`` is negative.
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.Softshrink <https://docs.pytorch.org/docs/stable/generated/torch.nn.Softshrink.html>`_.

    >>> Softshrink()(jnp.array([-2.0, 0.5])).tolist()
    [-1.5, 0.0]
    """

    _extra_repr = "{lambd}"

    def __init__(self, lambd: float = 0.5):
        self.lambd = lambd

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the input, shrunk towards 0."""
        return F.softshrink(input, self.lambd)
