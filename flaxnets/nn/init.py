"""Initial values, each a function of a key, a shape and a dtype; the distributions are those of ``torch.nn.init``."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

_GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4.0,
    **{f"conv{transpose}{n}d": 1.0 for transpose in ("", "_transpose") for n in (1, 2, 3)},
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Returns the factor that keeps the variance through ``nonlinearity``.

    Args:
        nonlinearity: the functional form's name, such as ``"relu"``.
        param: the negative slope of ``"leaky_relu"``, 0.01 if not given.

    Raises:
        ValueError: for an unknown nonlinearity, or a slope that is no number.

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
    """Returns how many inputs each output of a weight ``(out, in, *kernel)`` sees, and the reverse.

    Raises:
        ValueError: for fewer than two axes.

    >>> calculate_fan_in_and_fan_out((6, 1, 5, 5))
    (25, 150)
    """
    if len(shape) < 2:
        raise ValueError(f"fan in and fan out need at least two axes, got the shape {tuple(shape)}")
    receptive_field = math.prod(shape[2:])
    return shape[1] * receptive_field, shape[0] * receptive_field


def uniform(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, a: float = 0.0, b: float = 1.0
) -> jax.Array:
    """Draws from the uniform distribution on ``[a, b)``.

    >>> float(uniform(jax.random.key(0), (100,), a=2.0, b=3.0).min()) >= 2.0
    True
    """
    # XLA takes long over each new shape of random numbers: drawing a power of two leaves few of them to compile.
    size = math.prod(shape)
    drawn = jax.random.uniform(key, (1 << max(size - 1, 0).bit_length(),), dtype, a, b)
    return drawn[:size].reshape(shape)


def kaiming_uniform(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> jax.Array:
    """Draws from the uniform distribution of variance ``gain**2 / fan``, around zero.

    Args:
        key: the random key.
        shape: ``(out, in, *kernel)``.
        dtype: of the result.
        a: the negative slope of the nonlinearity.
        mode: ``"fan_in"`` keeps the variance of the forward pass, ``"fan_out"`` that of the backward pass.
        nonlinearity: what :func:`calculate_gain` takes.

    Raises:
        ValueError: for an unknown mode or nonlinearity.

    See "Delving deep into rectifiers" (arXiv:1502.01852).

    >>> kaiming_uniform(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = calculate_fan_in_and_fan_out(shape)[mode == "fan_out"]
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / fan) if fan else 0.0
    return uniform(key, shape, dtype, a=-bound, b=bound)
