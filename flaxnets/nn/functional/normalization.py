"""Normalisation."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from flaxnets.nn._arguments import along

Stat = nnx.Variable | jax.Array | None


def batch_norm(
    input: Float[Array, "n c *spatial"],
    running_mean: Stat,
    running_var: Stat,
    weight: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    training: bool = False,
    momentum: ArrayLike = 0.1,
    eps: float = 1e-5,
) -> Float[Array, "n c *spatial"]:
    """Normalises each channel over the batch and the spatial axes.

    In training the batch's own mean and biased variance serve, and running statistics that are given as
    ``nnx.Variable`` are moved towards the batch's mean and *unbiased* variance, in place, by the fraction ``momentum``.
    Otherwise the running statistics serve.

    Raises:
        ValueError: in training, if there is only one value for each channel; out of training, if there are no
            running statistics.
        RuntimeError: if the number of channels does not fit the statistics or parameters.

    See "Batch normalization" (arXiv:1502.03167) and `torch.nn.functional.batch_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html>`_.

    >>> batch_norm(jnp.array([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    input = jnp.asarray(input)
    if input.ndim < 2:
        raise ValueError(f"batch_norm: expected at least 2D input, got an input of shape {input.shape}")
    channels = input.shape[1]
    named = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, value in named.items():
        if value is not None and value.shape != (channels,):
            raise RuntimeError(
                f"batch_norm: {name} has the shape {value.shape}, but the input of shape {input.shape} has "
                f"{channels} channels"
            )
    # Statistics of half-precision inputs are taken in float32, as torch takes them.
    x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
    if training:
        mean, var = _batch_statistics(x, running_mean, running_var, momentum)
    elif running_mean is None or running_var is None:
        raise ValueError("batch_norm: running_mean and running_var must be given when training is False")
    else:
        mean, var = running_mean[...], running_var[...]

    return _normalize(x, mean, var, weight, bias, eps).astype(input.dtype)


# Compiled as a whole also where the caller is not, as torch's is one operation.
@functools.partial(jax.jit, static_argnums=5)
def _normalize(
    x: jax.Array, mean: jax.Array, var: jax.Array, weight: jax.Array | None, bias: jax.Array | None, eps: float
) -> jax.Array:
    def per_channel(vector: jax.Array) -> jax.Array:
        return along(vector, 1, x.ndim)

    output = (x - per_channel(mean)) * per_channel(jax.lax.rsqrt(var + eps))
    if weight is not None:
        output = output * per_channel(weight)
    return output if bias is None else output + per_channel(bias)


def _batch_statistics(
    x: jax.Array, running_mean: Stat, running_var: Stat, momentum: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1] if x.shape[1] else 0
    if count == 1:
        raise ValueError(
            f"batch_norm: expected more than 1 value per channel when training, got an input of shape {x.shape}"
        )
    mean, var = x.mean(axes), x.var(axes)
    for running, new in ((running_mean, mean), (running_var, var * (count / (count - 1)))):
        if isinstance(running, nnx.Variable):
            old = running[...]
            running[...] = ((1 - momentum) * old + momentum * jax.lax.stop_gradient(new)).astype(old.dtype)
    return mean, var
