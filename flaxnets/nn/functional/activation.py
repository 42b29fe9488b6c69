"""Smooth activation functions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Shaped

from flaxnets import kernels
from flaxnets.nn.functional._elementwise import as_floating_or_complex, as_inexact, computed_wide, resolve_dim


@computed_wide(as_inexact)
def sigmoid(input: Shaped[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """Return ``1 / (1 + exp(-input))``; supports complex numbers, and converts integers to float32.

    See `torch.nn.functional.sigmoid
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.sigmoid.html>`_.

    >>> sigmoid(jnp.array([0.0])).tolist()
    [0.5]
    """
    implementation = kernels.sigmoid_implementation(input) or jax.nn.sigmoid
    return implementation(input)


@computed_wide(as_inexact)
def tanh(input: Shaped[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """Return the hyperbolic tangent; supports complex numbers, and converts integers to float32.

    See `torch.nn.functional.tanh <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.tanh.html>`_.

    >>> tanh(jnp.array([0.0])).tolist()
    [0.0]
    """
    return jnp.tanh(input)


def tanhshrink(input: Shaped[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """Return ``input - tanh(input)``; supports complex numbers, and converts integers to float32.

    Raises:
        RuntimeError: for booleans.

    See `torch.nn.functional.tanhshrink
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.tanhshrink.html>`_.

    >>> tanhshrink(jnp.array([0.0])).tolist()
    [0.0]
    """
    if jnp.asarray(input).dtype == jnp.bool:
        raise RuntimeError("tanhshrink: expected numbers, got an input of dtype bool; cast it")
    return _tanhshrink(input)


@computed_wide(as_inexact)
def _tanhshrink(input: jax.Array) -> jax.Array:
    return input - jnp.tanh(input)


def softsign(input: Shaped[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """Return ``input / (1 + |input|)``; supports complex numbers, and converts integers to float32.

    Raises:
        NotImplementedError: for booleans.

    See `torch.nn.functional.softsign
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softsign.html>`_.

    >>> softsign(jnp.array([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """
    if jnp.asarray(input).dtype == jnp.bool:
        raise NotImplementedError("softsign: expected numbers, got an input of dtype bool; cast it")
    return _softsign(input)


@computed_wide(as_inexact)
def _softsign(input: jax.Array) -> jax.Array:
    return input / (jnp.abs(input) + 1)


@computed_wide()
def logsigmoid(input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return ``log(sigmoid(input))`` without overflow.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.logsigmoid
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.logsigmoid.html>`_.

    >>> logsigmoid(jnp.array([-200.0])).tolist()
    [-200.0]
    """
    return jax.nn.log_sigmoid(input)


@computed_wide()
def softplus(input: Float[Array, "*shape"], beta: float = 1, threshold: float = 20) -> Float[Array, "*shape"]:
    """Return ``log(1 + exp(beta * input)) / beta``, and the input itself where ``beta * input > threshold``.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.softplus
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softplus.html>`_.

    >>> softplus(jnp.array([-200.0, 30.0])).tolist()
    [0.0, 30.0]
    """
    scaled = input * beta
    linear = scaled > threshold
    return jnp.where(linear, input, jnp.log1p(jnp.exp(jnp.where(linear, 0, scaled))) / beta)


@computed_wide(as_floating_or_complex)
def silu(input: Inexact[Array, "*shape"], inplace: bool = False) -> Inexact[Array, "*shape"]:
    """Return ``input * sigmoid(input)``; supports complex numbers.

    Raises:
        NotImplementedError: for integers and booleans.

    See "Gaussian error linear units" (arXiv:1606.08415) and `torch.nn.functional.silu
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.silu.html>`_.

    >>> silu(jnp.array([0.0])).tolist()
    [0.0]
    """
    return input * jax.nn.sigmoid(input)


@computed_wide()
def mish(input: Float[Array, "*shape"], inplace: bool = False) -> Float[Array, "*shape"]:
    """Return ``input * tanh(softplus(input))``.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See "Mish" (arXiv:1908.08681) and `torch.nn.functional.mish
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mish.html>`_.

    >>> mish(jnp.array([0.0])).tolist()
    [0.0]
    """
    return input * jnp.tanh(jax.nn.softplus(input))


@computed_wide()
def gelu(input: Float[Array, "*shape"], approximate: str = "none") -> Float[Array, "*shape"]:
    """Return ``input`` times the standard normal cumulative distribution at ``input``.

    Args:
        input: of any shape.
        approximate: ``"none"`` for the exact distribution, ``"tanh"`` for the usual approximation.

    Raises:
        RuntimeError: for another value of ``approximate``.
        NotImplementedError: for a non-floating-point input.

    See "Gaussian error linear units" (arXiv:1606.08415) and `torch.nn.functional.gelu
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gelu.html>`_.

    >>> gelu(jnp.array([0.0, 20.0])).tolist()
    [0.0, 20.0]
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    if approximate == "tanh":
        return 0.5 * input * (1 + jnp.tanh((2 / jnp.pi) ** 0.5 * (input + 0.044715 * input**3)))
    return 0.5 * input * (1 + jax.lax.erf(input * 0.5**0.5))


@computed_wide()
def glu(input: Float[Array, "*shape"], dim: int = -1) -> Float[Array, "*half"]:
    """Gated linear unit: return the first half along the axis ``dim``, times the sigmoid of the second half.

    Raises:
        IndexError: for an axis that the input lacks.
        RuntimeError: for a scalar, or an axis of odd size.
        NotImplementedError: for a non-floating-point input.

    See "Language modeling with gated convolutional networks" (arXiv:1612.08083) and `torch.nn.functional.glu
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.glu.html>`_.

    >>> glu(jnp.array([3.0, 0.0])).tolist()
    [1.5]
    """
    if input.ndim == 0:
        raise RuntimeError("glu: expected an axis to split in halves, got an input of shape ()")
    axis = resolve_dim(dim, input.ndim, "glu")
    if input.shape[axis] % 2:
        raise RuntimeError(f"glu: the axis {dim} must have an even size, got an input of shape {input.shape}")
    first, second = jnp.split(input, 2, axis)
    return first * jax.nn.sigmoid(second)
