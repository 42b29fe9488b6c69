"""Rectifier layers: ReLU and its variants."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Real

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import check_sizes
from flaxnets.nn._inplace import InPlace
from flaxnets.nn.functional._elementwise import as_floating
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import redraw, reserved


class ReLU(InPlace):
    """Apply ``max(input, 0)`` to every element; the gradient at 0 is 0.

    Args:
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        RuntimeError: when called, for booleans.
        NotImplementedError: when called, for complex numbers.

    See `torch.nn.ReLU <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html>`_.

    >>> ReLU()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def __call__(self, input: Real[Array, "*shape"]) -> Real[Array, "*shape"]:
        """Return the positive part of the input."""
        return F.relu(input)


class Threshold(InPlace):
    """Keep elements above ``threshold`` and set all others to ``value``; the gradient at the threshold is 0.

    Args:
        threshold: elements must be above the threshold to be kept. Its fraction is dropped for integer inputs.
        value: replacement of all other elements.
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        NotImplementedError: when called, for booleans and complex numbers.

    See `torch.nn.Threshold <https://docs.pytorch.org/docs/stable/generated/torch.nn.Threshold.html>`_.

    >>> Threshold(1.0, -3.0)(jnp.array([0.5, 2.0])).tolist()
    [-3.0, 2.0]
    """

    _extra_repr = "threshold={threshold}, value={value}"

    def __init__(self, threshold: float, value: float, inplace: bool = False):
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def __call__(self, input: Real[Array, "*shape"]) -> Real[Array, "*shape"]:
        """Return the input, with elements up to the threshold replaced."""
        return F.threshold(input, self.threshold, self.value)


class LeakyReLU(InPlace):
    """Multiply elements that are not positive by ``negative_slope``, which is also the gradient at 0.

    Args:
        negative_slope: the slope below zero.
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.LeakyReLU <https://docs.pytorch.org/docs/stable/generated/torch.nn.LeakyReLU.html>`_.

    >>> LeakyReLU(0.5)(jnp.array([-2.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    _extra_repr = "negative_slope={negative_slope}"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.negative_slope = negative_slope
        self.inplace = inplace

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the input, scaled by the slope below zero."""
        return F.leaky_relu(input, self.negative_slope)


class PReLU(Module):
    """Multiply elements that are not positive by a learned slope: one for all channels, or one per channel.

    Parameters: ``weight (num_parameters,)``, initialised to ``init``.

    Args:
        num_parameters: 1, or the number of channels (axis 1 of the input).
        init: the initial slope.
        dtype: parameter dtype. Default: float32.

    Raises:
        RuntimeError: for a negative ``num_parameters``; when called, for a different number of channels or dtype.
        NotImplementedError: when called, for a non-floating-point input.

    See "Delving deep into rectifiers" (arXiv:1502.01852) and
    `torch.nn.PReLU <https://docs.pytorch.org/docs/stable/generated/torch.nn.PReLU.html>`_.

    >>> PReLU()(jnp.array([-2.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    _extra_repr = "num_parameters={num_parameters}"

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: DTypeLike = jnp.float32):
        check_sizes("PReLU", num_parameters=num_parameters)
        self.num_parameters = num_parameters
        self.init = init
        self.weight = reserved(num_parameters, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self, *, rngs: nnx.Rngs | None = None) -> None:
        """Set the slopes to ``init``; ``rngs`` is unused."""
        redraw(self, "weight", lambda shape, dtype: jnp.full(shape, self.init, dtype))

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the input, scaled by the slopes below zero."""
        return F.prelu(input, self.weight[...])


class RReLU(InPlace):
    """Multiply elements that are not positive by a slope, which training mode draws at random for each element.

    In training mode the slopes are uniform on ``[lower, upper]``; in evaluation mode all are ``(lower + upper) / 2``.
    The layer has a separate random stream, forked from ``rngs.dropout``.

    Args:
        lower: the smallest slope.
        upper: the largest slope.
        inplace: stored, without effect: JAX arrays are immutable.
        rngs: random number generators for the slopes.

    Raises:
        RuntimeError: when called, for bounds that are not finite, or ``lower`` above ``upper``.
        NotImplementedError: when called, for a non-floating-point input.

    See "Empirical evaluation of rectified activations in convolution network" (arXiv:1505.00853) and
    `torch.nn.RReLU <https://docs.pytorch.org/docs/stable/generated/torch.nn.RReLU.html>`_.

    >>> RReLU(0.25, 0.75, rngs=nnx.Rngs(0)).eval()(jnp.array([-2.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    _extra_repr = "lower={lower}, upper={upper}"

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False, *, rngs: nnx.Rngs):
        self.lower = lower
        self.upper = upper
        self.inplace = inplace
        self.rngs = rngs.dropout.fork()

    def draw_samples(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Float[Array, "..."]:
        """Draw the next slopes for an input of this shape."""
        return jax.random.uniform(self.rngs(), shape, dtype, self.lower, self.upper)

    def __call__(
        self, input: Float[Array, "*shape"], *, samples: Float[Array, "..."] | None = None
    ) -> Float[Array, "*shape"]:
        """Apply ``samples`` as slopes, or newly drawn slopes if ``samples`` is None."""
        if samples is None and self.training:
            array = as_floating(input, "rrelu")
            samples = self.draw_samples(array.shape, jnp.promote_types(array.dtype, jnp.float32))
        return F.rrelu(input, self.lower, self.upper, self.training, samples=samples)


class ELU(InPlace):
    """Apply ``alpha * (exp(input) - 1)`` to elements that are not positive; the gradient at 0 is ``alpha``.

    Args:
        alpha: the function tends to ``-alpha`` far below zero.
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See "Fast and accurate deep network learning by exponential linear units" (arXiv:1511.07289) and `torch.nn.ELU
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.ELU.html>`_.

    >>> ELU()(jnp.array([-200.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    _extra_repr = "alpha={alpha}"

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.alpha = alpha
        self.inplace = inplace

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return values above ``-alpha``."""
        return F.elu(input, self.alpha)


class SELU(InPlace):
    """Apply a scaled :class:`ELU`, whose constants preserve mean 0 and variance 1.

    Args:
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        NotImplementedError: when called, for a non-floating-point input.

    See "Self-normalizing neural networks" (arXiv:1706.02515) and `torch.nn.SELU
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.SELU.html>`_.

    >>> SELU()(jnp.array([0.0])).tolist()
    [0.0]
    """

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the scaled values."""
        return F.selu(input)


class CELU(InPlace):
    """Apply ``alpha * (exp(input / alpha) - 1)`` to elements that are not positive; the gradient at 0 is 1.

    Args:
        alpha: the function tends to ``-alpha`` far below zero.
        inplace: stored, without effect: JAX arrays are immutable.

    Raises:
        RuntimeError: when called, if ``alpha`` is 0.
        NotImplementedError: when called, for a non-floating-point input.

    See "Continuously differentiable exponential linear units" (arXiv:1704.07483) and `torch.nn.CELU
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.CELU.html>`_.

    >>> CELU(3.0)(jnp.array([-200.0, 2.0])).tolist()
    [-3.0, 2.0]
    """

    _extra_repr = "alpha={alpha}"

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.alpha = alpha
        self.inplace = inplace

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return values above ``-alpha``."""
        return F.celu(input, self.alpha)
