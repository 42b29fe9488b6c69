"""Initial weights other than the layers' own, by name or by a function, for all modules or for some."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from flaxnets import state
from flaxnets._suggestions import suggest
from flaxnets.nn import init

Initializer = Callable[[str, jax.Array, jax.Array], jax.Array]

INITIALIZERS: dict[str, Callable[..., jax.Array]] = {
    "constant": init.constant,
    "kaiming_normal": functools.partial(init.kaiming_normal, nonlinearity="relu"),
    "kaiming_uniform": functools.partial(init.kaiming_uniform, nonlinearity="relu"),
    "normal": functools.partial(init.normal, std=0.01),
    "orthogonal": init.orthogonal,
    "trunc_normal": functools.partial(init.trunc_normal, std=0.02),
    "uniform": functools.partial(init.uniform, a=-0.1, b=0.1),
    "xavier_normal": init.xavier_normal,
    "xavier_uniform": init.xavier_uniform,
}


def initialize(
    model: nnx.Module,
    initializer: str | Initializer,
    key: jax.Array,
    *,
    where: Callable[[str, nnx.Module], bool] = lambda name, module: True,
    bias: float | None = None,
    **options: Any,
) -> None:
    """Gives the parameters of a model other values, in place, as ``net.apply(init_weights)`` does in torch.

    Args:
        model: the module to change. Where an error is raised, nothing has changed.
        initializer: the name of a function of :mod:`flaxnets.nn.init`, which draws every parameter of two or more
            axes (``normal`` with a deviation of 0.01, ``kaiming_*`` for ReLU, ``uniform`` between -0.1 and 0.1 if the
            options say nothing else); or a function of a parameter's name, a random key and its present value, which
            is called for every parameter and returns its new value.
        key: the random key; every parameter gets another one.
        where: whether the module of this name, itself, has its parameters changed.
        bias: if given, what parameters called ``bias`` are filled with, beside an initializer by name.
        **options: of the function of that name, such as ``std``, ``gain`` or ``val``.

    Raises:
        ValueError: for an unknown name, or a value of another shape.
        TypeError: for an option that the function does not have.

    See `torch.nn.Module.apply <https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html>`_.

    >>> import flaxnets
    >>> from flaxnets import nn
    >>> model = flaxnets.create_model("lenet_relu")
    >>> initialize(model, "kaiming_uniform", jax.random.key(0))
    >>> initialize(model, "normal", jax.random.key(0), std=0.1, where=lambda name, m: isinstance(m, nn.Linear))
    >>> initialize(model, lambda name, key, old: old + 1 if name.endswith("bias") else old, jax.random.key(0))
    """
    function = _by_name(initializer, bias, options) if isinstance(initializer, str) else initializer
    if options and function is initializer:
        raise TypeError(f"options belong to an initializer by name, got {', '.join(options)} beside a function")
    chosen = {
        id(variable)
        for name, module in state.named_modules(model)
        if where(name, module)
        for _, variable in state.own_variables(module)
    }
    parameters = [(name, p) for name, p in state.named_parameters(model) if id(p) in chosen]
    values = []
    for (name, parameter), own_key in zip(parameters, jax.random.split(key, len(parameters)), strict=True):
        value = function(name, own_key, parameter[...])
        if value.shape != parameter.shape:
            raise ValueError(f"{name}: expected a value of shape {parameter.shape}, got {value.shape}")
        values.append(value.astype(parameter.dtype))
    for (_, parameter), value in zip(parameters, values, strict=True):
        parameter.set_value(value)


def _by_name(initializer: str, bias: float | None, options: dict[str, Any]) -> Initializer:
    if initializer not in INITIALIZERS:
        raise ValueError(f"unknown initializer {initializer!r}; {suggest(initializer, list(INITIALIZERS))}")

    def function(name: str, key: jax.Array, old: jax.Array) -> jax.Array:
        if old.ndim > 1:
            return INITIALIZERS[initializer](key, old.shape, old.dtype, **options)
        if bias is not None and name.rpartition(".")[2] == "bias":
            return init.constant(key, old.shape, old.dtype, val=bias)
        return old

    return function
