"""Smooth activation layers."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Inexact, Shaped

from flaxnets.nn import functional as F
from flaxnets.nn._inplace import InPlace
from flaxnets.nn.module import Module


class Sigmoid(Module):
    """Apply ``1 / (1 + exp(-input))`` to every element; integers are converted to float32.

    See `torch.nn.Sigmoid <https://docs.pytorch.org/docs/stable/generated/torch.nn.Sigmoid.html>`_.

    >>> Sigmoid()(jnp.array([0.0])).tolist()
    [0.5]
    """

    def __call__(self, input: Shaped[Array, "*shape"]) -> Inexact[Array, "*shape"]:
        """Return values between 0 and 1."""
        return F.sigmoid(input)


class Tanh(Module):
    """Apply the hyperbolic tangent to every element; integers are converted to float32.

    See `torch.nn.Tanh <https://docs.pytorch.org/docs/stable/generated/torch.nn.Tanh.html>`_.

    >>> Tanh()(jnp.array([0.0, 40.0])).tolist()
    [0.0, 1.0]
    """

    def __call__(self, input: Shaped[Array, "*shape"]) -> Inexact[Array, "*shape"]:
        """Return values between -1 and 1."""
        return F.tanh(input)


class Tanhshrink(Module):
    """Apply ``input - tanh(input)`` to every element; integers are converted to float32.

    Raises:
        RuntimeError: when called, for booleans.

    See `torch.nn.Tanhshrink <https://docs.pytorch.org/docs/stable/generated/torch.nn.Tanhshrink.html>`_.

    >>> Tanhshrink()(jnp.array([0.0, 40.0])).tolist()
    [0.0, 39.0]
    """

    def __call__(self, input: Shaped[Array, "*shape"]) -> Inexact[Array, "*shape"]:
        """Return the input minus its hyperbolic tangent."""
        return F.tanhshrink(input)


class Softsign(Module):
    """Apply ``input / (1 + |input|)`` to every element; integers are converted to float32.

    Raises:
        NotImplementedError: when called, for booleans.

    See `torch.nn.Softsign <https://docs.pytorch.org/docs/stable/generated/torch.nn.Softsign.html>`_.

    >>> Softsign()(jnp.array([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """

    def __call__(self, input: Shaped[Array, "*shape"]) -> Inexact[Array, "*shape"]:
        """Return values between -1 and 1."""
        return F.softsign(input)


class LogSigmoid(Module):
    """Apply ``log(1 / (1 + exp(-input)))`` to every element, without overflow.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.LogSigmoid <https://docs.pytorch.org/docs/stable/generated/torch.nn.LogSigmoid.html>`_.

    >>> LogSigmoid()(jnp.array([-200.0])).tolist()
    [-200.0]
    """

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return negative values."""
        return F.logsigmoid(input)


class Softplus(Module):
    """Apply ``log(1 + exp(beta * input)) / beta`` to every element.

    Args:
        beta: sharpness of the bend.
        threshold: elements with ``beta * input`` above the threshold are returned unchanged.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.Softplus <https://docs.pytorch.org/docs/stable/generated/torch.nn.Softplus.html>`_.

    >>> Softplus()(jnp.array([-200.0, 30.0])).tolist()
    [0.0, 30.0]
    """

    _extra_repr = "beta={beta}, threshold={threshold}"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        self.beta = beta
        self.threshold = threshold

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return positive values."""
        return F.softplus(input, self.beta, self.threshold)


class SiLU(InPlace):
    """Apply ``input * sigmoid(input)`` to every element; also called swish.

    Args:
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        NotImplementedError: when called, for integers and booleans.

    See "Gaussian error linear units" (arXiv:1606.08415) and `torch.nn.SiLU
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.SiLU.html>`_.

    >>> SiLU()(jnp.array([0.0])).tolist()
    [0.0]
    """

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def __call__(self, input: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
        """Return the input times its sigmoid."""
        return F.silu(input)


class Mish(InPlace):
    """Apply ``input * tanh(softplus(input))`` to every element.

    Args:
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See "Mish" (arXiv:1908.08681) and `torch.nn.Mish
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.Mish.html>`_.

    >>> Mish()(jnp.array([0.0])).tolist()
    [0.0]
    """

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the input times the hyperbolic tangent of its softplus."""
        return F.mish(input)


class GELU(Module):
    """Multiply every element by the standard normal cumulative distribution at that element.

    Args:
        approximate: ``"none"`` for the exact distribution, ``"tanh"`` for the usual approximation.

    Raises:
        RuntimeError: when called, for another value of ``approximate``.
        NotImplementedError: when called, for a non-floating-point input.

    See "Gaussian error linear units" (arXiv:1606.08415) and `torch.nn.GELU
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html>`_.

    >>> GELU()(jnp.array([0.0, 20.0])).tolist()
    [0.0, 20.0]
    """

    _extra_repr = "approximate={approximate!r}"

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the input times its cumulative probability."""
        return F.gelu(input, self.approximate)


class GLU(Module):
    """Gated linear unit: multiply the first half of an axis by the sigmoid of the second half.

    Args:
        dim: the axis to split in halves.

    Raises:
        IndexError: when called, for an axis that the input lacks.
        RuntimeError: when called, for a scalar, or an axis of odd size.
        NotImplementedError: when called, for a non-floating-point input.

    See "Language modeling with gated convolutional networks" (arXiv:1612.08083) and `torch.nn.GLU
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.GLU.html>`_.

    >>> GLU()(jnp.ones((2, 6))).shape
    (2, 3)
    """

    _extra_repr = "dim={dim}"

    def __init__(self, dim: int = -1):
        self.dim = dim

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*half"]:
        """Return an array with half the elements of the input."""
        return F.glu(input, self.dim)
