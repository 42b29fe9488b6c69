"""Initialization of a model's parameters by a named distribution or a function."""

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
    """Initialize the parameters of a model in place, like ``net.apply(init_weights)`` in torch.

    Args:
        model: The module to change. If an error is raised, all parameters keep their values.
        initializer: Name of a function of :mod:`flaxnets.nn.init`, or a function. A named function draws every
            parameter of two or more axes; the defaults are ``std=0.01`` for ``normal``, ReLU for ``kaiming_*``, and
            -0.1 to 0.1 for ``uniform``. A function maps a parameter's name, a random key and the current value to the
            new value, for every parameter.
        key: Random key, which is split for the parameters.
        where: Predicate of a module's name and the module. Only direct parameters of matching modules change.
        bias: Value of all parameters named ``bias``; only with a named initializer.
        **options: Options of the named function, such as ``std``, ``gain`` or ``val``.

    Raises:
        ValueError: For an unknown name, or if the function returns another shape.
        TypeError: For an unknown option, or for options of an initializer that is not a name.

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
        raise TypeError(f"options belong to an initializer by name, got {', '.join(options)} with a function")
    chosen = {
        id(variable)
        for name, module in state.named_modules(model)
        if where(name, module)
        for _, variable in state.own_variables(module)
    }
    parameters = [(name, p) for name, p in state.named_parameters(model) if id(p) in chosen]
    values = []
    for (name, parameter), parameter_key in zip(parameters, jax.random.split(key, len(parameters)), strict=True):
        value = function(name, parameter_key, parameter[...])
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
