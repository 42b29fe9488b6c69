"""Random initialisers whose scale depends on the layer's sizes: Xavier and Kaiming."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flaxnets.nn.init.distributions import normal, uniform

_GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4.0,
    **{f"conv{transpose}{n}d": 1.0 for transpose in ("", "_transpose") for n in (1, 2, 3)},
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that preserves the variance through ``nonlinearity``.

    Args:
        nonlinearity: name of the function in ``nn.functional``, for example ``"relu"``.
        param: negative slope of ``"leaky_relu"``. Default: 0.01.

    Raises:
        ValueError: for an unknown nonlinearity, or a slope that is not a number.

    See `torch.nn.init.calculate_gain
    <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain>`_.

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"the negative slope of leaky_relu must be a number, got {slope!r}")
        return math.sqrt(2.0 / (1.0 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"unknown nonlinearity {nonlinearity!r}; known: {', '.join([*_GAINS, 'leaky_relu'])}")
    return _GAINS[nonlinearity]


def calculate_fan_in_and_fan_out(shape: Sequence[int]) -> tuple[int, int]:
    """Return the number of inputs per output (fan in) and of outputs per input of a weight ``(out, in, *kernel)``.

    Raises:
        ValueError: for fewer than two axes.

    >>> calculate_fan_in_and_fan_out((6, 1, 5, 5))
    (25, 150)
    """
    if len(shape) < 2:
        raise ValueError(f"fan in and fan out require at least two axes, got the shape {tuple(shape)}")
    receptive_field = math.prod(shape[2:])
    return shape[1] * receptive_field, shape[0] * receptive_field


def xavier_uniform(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, gain: float = 1.0
) -> jax.Array:
    """Draw from the uniform distribution with mean 0 and variance ``2 * gain**2 / (fan_in + fan_out)``.

    Raises:
        ValueError: for fewer than two axes.
        RuntimeError: for a negative gain.
        ZeroDivisionError: if both fans are 0.

    See "Understanding the difficulty of training deep feedforward neural networks" and
    `torch.nn.init.xavier_uniform_
    <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.xavier_uniform_>`_.

    >>> float(abs(xavier_uniform(jax.random.key(0), (3, 3))).max()) <= 1.0
    True
    """
    bound = math.sqrt(3.0) * _xavier_std(shape, gain)
    return uniform(key, shape, dtype, a=-bound, b=bound)


def xavier_normal(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, gain: float = 1.0
) -> jax.Array:
    """:func:`xavier_uniform` with the normal distribution.

    See `torch.nn.init.xavier_normal_
    <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.xavier_normal_>`_.

    >>> xavier_normal(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return normal(key, shape, dtype, std=_xavier_std(shape, gain))


def _xavier_std(shape: Sequence[int], gain: float) -> float:
    fans = sum(calculate_fan_in_and_fan_out(shape))
    if fans == 0:
        raise ZeroDivisionError(f"fan_in + fan_out must be positive, got 0 for the shape {tuple(shape)}")
    return gain * math.sqrt(2.0 / fans)


def kaiming_uniform(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> jax.Array:
    """Draw from the uniform distribution with mean 0 and variance ``gain**2 / fan``.

    Args:
        key: the random key.
        shape: ``(out, in, *kernel)``.
        dtype: dtype of the result.
        a: the negative slope of the nonlinearity.
        mode: ``"fan_in"`` preserves the variance in the forward pass, ``"fan_out"`` in the backward pass.
        nonlinearity: a name that :func:`calculate_gain` accepts.

    Raises:
        ValueError: for fewer than two axes, or an unknown mode or nonlinearity. Empty shapes skip the checks.

    See "Delving deep into rectifiers" (arXiv:1502.01852) and `torch.nn.init.kaiming_uniform_
    <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.kaiming_uniform_>`_.

    >>> kaiming_uniform(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    if 0 in shape:
        return jnp.zeros(tuple(shape), dtype)
    bound = math.sqrt(3.0) * _kaiming_std(shape, a, mode, nonlinearity)
    return uniform(key, shape, dtype, a=-bound, b=bound)


def kaiming_normal(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> jax.Array:
    """:func:`kaiming_uniform` with the normal distribution.

    See `torch.nn.init.kaiming_normal_
    <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.kaiming_normal_>`_.

    >>> kaiming_normal(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    if 0 in shape:
        return jnp.zeros(tuple(shape), dtype)
    return normal(key, shape, dtype, std=_kaiming_std(shape, a, mode, nonlinearity))


def _kaiming_std(shape: Sequence[int], a: float, mode: str, nonlinearity: str) -> float:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = calculate_fan_in_and_fan_out(shape)[mode.lower() == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)
