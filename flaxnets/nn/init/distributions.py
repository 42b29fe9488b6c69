"""Random initialisers with explicit distributions."""

import functools
import math
import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

Draw = Callable[[jax.Array, tuple[int, ...], jnp.dtype], jax.Array]


def _drawn(key: jax.Array, shape: Sequence[int], dtype: DTypeLike, draw: Draw, name: str) -> jax.Array:
    """Call ``draw`` with a key, a shape and a real dtype of at least float32; twice for complex numbers."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise NotImplementedError(f"{name}: expected a floating-point or complex dtype, got {jnp.dtype(dtype)}")
    real = jnp.promote_types(jnp.finfo(dtype).dtype, jnp.float32)
    size = math.prod(shape)
    # XLA compiles random numbers slowly for each new shape; rounding sizes up to powers of two limits the shapes.
    padded = (1 << max(size - 1, 0).bit_length(),)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = (draw(part, padded, real) for part in jax.random.split(key))
        return jax.lax.complex(*parts)[:size].reshape(shape)
    return draw(key, padded, real)[:size].reshape(shape).astype(dtype)


def _check_bounds(name: str, a: float, b: float, dtype: DTypeLike) -> None:
    largest = float(jnp.finfo(dtype).max) if jnp.issubdtype(dtype, jnp.inexact) else math.inf
    if not (a <= b and abs(a) <= largest and abs(b) <= largest):
        raise RuntimeError(f"{name}: expected finite bounds with a <= b, got a={a} and b={b}")


def uniform(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, a: float = 0.0, b: float = 1.0
) -> jax.Array:
    """Draw from the uniform distribution on ``[a, b)``; for complex dtypes, both parts.

    Raises:
        RuntimeError: for bounds that are not finite, or ``a`` above ``b``.
        NotImplementedError: for integer and boolean dtypes.

    See `torch.nn.init.uniform_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.uniform_>`_.

    >>> float(uniform(jax.random.key(0), (100,), a=2.0, b=3.0).min()) >= 2.0
    True
    """
    _check_bounds("uniform", a, b, dtype)
    return _drawn(key, shape, dtype, lambda key, size, real: jax.random.uniform(key, size, real, a, b), "uniform")


def normal(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, mean: float = 0.0, std: float = 1.0
) -> jax.Array:
    """Draw from the normal distribution.

    For complex dtypes, ``std`` is the standard deviation of the complex number, and ``mean`` the mean of both parts.

    Raises:
        RuntimeError: for a negative standard deviation.
        NotImplementedError: for integer and boolean dtypes.

    See `torch.nn.init.normal_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.normal_>`_.

    >>> normal(jax.random.key(0), (2,), mean=3.0, std=0.0).tolist()
    [3.0, 3.0]
    """
    if not std >= 0:
        raise RuntimeError(f"normal: the standard deviation must not be negative, got {std}")
    part = std / math.sqrt(2) if jnp.issubdtype(dtype, jnp.complexfloating) else std
    return _drawn(key, shape, dtype, lambda key, size, real: mean + part * jax.random.normal(key, size, real), "normal")


def trunc_normal(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
) -> jax.Array:
    """Draw from the normal distribution, truncated to the values between ``a`` and ``b``.

    Raises:
        ZeroDivisionError: for a standard deviation of 0.
        RuntimeError: for ``a`` above ``b``, and for infinite bounds that keep less than 0.3 of the distribution.
        NotImplementedError: for a non-floating-point dtype.

    See `torch.nn.init.trunc_normal_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.trunc_normal_>`_.

    >>> float(abs(trunc_normal(jax.random.key(0), (100,), a=-0.5, b=0.5)).max()) <= 0.5
    True
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise NotImplementedError(f"trunc_normal: expected a floating-point dtype, got {jnp.dtype(dtype)}")
    if std == 0:
        raise ZeroDivisionError(f"trunc_normal: the standard deviation must not be 0, got {std}")
    if mean < a - 2 * std or mean > b + 2 * std:
        message = f"trunc_normal: the mean {mean} is more than 2 standard deviations from the bounds {a} and {b}"
        warnings.warn(message, UserWarning, stacklevel=2)
    accepted = 0.5 * (math.erf((b - mean) / std / math.sqrt(2)) - math.erf((a - mean) / std / math.sqrt(2)))

    if accepted <= 0.3:
        _check_bounds("trunc_normal", a, b, dtype)
    attempt = _try_normal if accepted > 0.3 else _try_uniform
    options = (mean, std, a, b)
    drawn = _drawn(
        key, shape, dtype, lambda key, size, real: _accepted(key, options, size, real, attempt), "trunc_normal"
    )
    return jnp.clip(drawn, jnp.asarray(a, dtype), jnp.asarray(b, dtype))  # rounding may exceed the bounds


_Options = tuple[float, float, float, float]  # mean, standard deviation and bounds


def _try_normal(
    key: jax.Array, options: _Options, shape: tuple[int, ...], real: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    mean, std, a, b = options
    values = mean + std * jax.random.normal(key, shape, real)
    return values, (values >= a) & (values <= b)


def _try_uniform(
    key: jax.Array, options: _Options, shape: tuple[int, ...], real: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    mean, std, a, b = options
    for_value, for_acceptance = jax.random.split(key)
    values = jax.random.uniform(for_value, shape, real, a, b)
    highest = -0.5 * ((jnp.clip(mean, a, b) - mean) / std) ** 2
    log_density = -0.5 * ((values - mean) / std) ** 2 - highest
    return values, jnp.log(jax.random.uniform(for_acceptance, shape, real)) <= log_density


@functools.partial(
    jax.jit, static_argnames=("shape", "dtype", "attempt")
)  # without jit, every call would compile the loop
def _accepted(
    key: jax.Array,
    options: _Options,
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    attempt: Callable[..., tuple[jax.Array, jax.Array]],
) -> jax.Array:
    """Redraw each element until it is accepted."""

    def again(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        key, values, accepted = state
        key, draw_key = jax.random.split(key)
        candidates, good = attempt(draw_key, options, shape, dtype)
        return key, jnp.where(accepted, values, candidates), accepted | good

    start = (key, jnp.zeros(shape, dtype), jnp.zeros(shape, bool))
    return jax.lax.while_loop(lambda state: ~state[2].all(), again, start)[1]


def orthogonal(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, gain: float = 1.0) -> jax.Array:
    """Draw a matrix with orthogonal rows (or columns, if there are more rows) of length ``gain``.

    A shape of more than two axes is treated as the matrix ``(first, product of the others)``. Half precision, for which
    torch has no decomposition, is computed in float32.

    Raises:
        ValueError: for a shape of fewer than two axes.
        NotImplementedError: for a non-floating-point dtype.

    See "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks" (arXiv:1312.6120) and
    `torch.nn.init.orthogonal_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.orthogonal_>`_.

    >>> weight = orthogonal(jax.random.key(0), (2, 3))
    >>> bool(jnp.allclose(weight @ weight.T, jnp.eye(2), atol=1e-5))
    True
    """
    if len(shape) < 2:
        raise ValueError(f"orthogonal: expected a shape of at least two axes, got {tuple(shape)}")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise NotImplementedError(f"orthogonal: expected a floating-point dtype, got {jnp.dtype(dtype)}")
    rows, columns = shape[0], math.prod(shape[1:])
    if rows * columns == 0:
        return jnp.zeros(tuple(shape), dtype)
    tall = (max(rows, columns), min(rows, columns))
    q, r = jnp.linalg.qr(normal(key, tall, jnp.promote_types(dtype, jnp.float32)))
    # Without the signs, the decomposition is not uniform over all orthogonal matrices (math-ph/0609050).
    q = q * jnp.sign(jnp.diagonal(r))[None]
    return (gain * (q.T if rows < columns else q)).reshape(shape).astype(dtype)


def sparse(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, sparsity: float, std: float = 0.01
) -> jax.Array:
    """Draw a normal matrix, and set the fraction ``sparsity`` (rounded up) of each column to zero.

    Raises:
        ValueError: for a shape of other than two axes.
        RuntimeError: for a negative standard deviation.
        NotImplementedError: for integer and boolean dtypes.

    See "Deep learning via Hessian-free optimization" and
    `torch.nn.init.sparse_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.sparse_>`_.

    >>> (sparse(jax.random.key(0), (4, 3), sparsity=0.3) == 0).sum(0).tolist()
    [2, 2, 2]
    """
    if len(shape) != 2:
        raise ValueError(f"sparse: expected a shape of two axes, got {tuple(shape)}")
    rows, columns = shape
    zeros = len(range(rows)[: math.ceil(sparsity * rows)])
    for_values, for_places = jax.random.split(key)
    values = normal(for_values, shape, dtype, std=std)
    order = jnp.argsort(uniform(for_places, (columns, rows)), axis=1)
    return values.at[order[:, :zeros].T, jnp.arange(columns)[None]].set(0)
