"""Initial weights other than the layers' own, for deep networks that torch's defaults leave with vanishing signals."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets import state
from flaxnets.nn import init

_kaiming_uniform = functools.partial(init.kaiming_uniform, nonlinearity="relu")
INITIALIZERS: dict[str, Callable[..., jax.Array]] = {
    "kaiming_uniform": _kaiming_uniform,
    "kaiming_uniform_even_output": _kaiming_uniform,
}


def initialize(model: nnx.Module, name: str, key: jax.Array) -> None:
    """Draws every weight of two or more axes anew, in place; biases and normalisations keep their values.

    Args:
        model: the module to change.
        name: ``kaiming_uniform``: keeps the variance through layers with ReLU (arXiv:1502.01852).
            ``kaiming_uniform_even_output``: the same with biases of zero, a tenth of it in the last weight, and 2 in
            the bias beside that: all outputs begin nearly equal and so high that a ReLU behind them cuts none off.
        key: the random key.

    Raises:
        ValueError: for an unknown name.

    >>> import flaxnets
    >>> model = flaxnets.create_model("mlp")
    >>> initialize(model, "kaiming_uniform", jax.random.key(0))
    >>> round(float(model[1].weight.std() * 784**0.5), 1)
    1.4
    """
    if name not in INITIALIZERS:
        raise ValueError(f"unknown initialization {name!r}; known: {', '.join(INITIALIZERS)}")
    weights = [parameter for _, parameter in state.named_parameters(model) if len(parameter.shape) > 1]
    for weight, weight_key in zip(weights, jax.random.split(key, len(weights)), strict=True):
        weight.set_value(INITIALIZERS[name](weight_key, weight.shape, weight.dtype))
    if name == "kaiming_uniform_even_output":
        weights[-1].set_value(0.1 * weights[-1][...])
        biases = [parameter for name, parameter in state.named_parameters(model) if name.endswith("bias")]
        for bias in biases:
            bias.set_value(jnp.full_like(bias[...], 2.0 if bias is biases[-1] else 0.0))
