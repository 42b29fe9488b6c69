"""Construction of modules without initial values."""

import inspect
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets import state

M = TypeVar("M", bound=nnx.Module)


def skip_init(module_cls: type[M], *args: Any, **kwargs: Any) -> M:
    """Construct a module without drawing its initial weights, for weights that are loaded immediately.

    All parameters and buffers are zero. Torch leaves their memory uninitialised.

    Args:
        module_cls: the class of the module.
        *args: arguments of the constructor.
        **kwargs: keyword arguments of the constructor; ``rngs`` may be omitted.

    Raises:
        RuntimeError: for a class that is not a module.

    See `torch.nn.utils.skip_init
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.skip_init.html>`_.

    >>> from flaxnets import nn
    >>> skip_init(nn.Linear, 5, 1).weight[...].tolist()
    [[0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    if not (isinstance(module_cls, type) and issubclass(module_cls, nnx.Module)):
        raise RuntimeError(f"skip_init: expected a subclass of Module, got {module_cls!r}")
    streams = kwargs.pop("rngs", nnx.Rngs(0))
    takes_rngs = "rngs" in inspect.signature(module_cls.__init__).parameters

    def make(rngs: nnx.Rngs) -> nnx.Module:
        return module_cls(*args, **kwargs, **({"rngs": rngs} if takes_rngs else {}))

    module: Any = nnx.eval_shape(make, nnx.clone(streams))
    for _, variable in state.named_variables(module, remove_duplicate=True):
        value = variable.get_value()
        if isinstance(value, jax.ShapeDtypeStruct):
            variable.set_value(jnp.zeros(value.shape, value.dtype))
    if jax.tree.leaves(nnx.state(module, nnx.RngState)):
        # Random streams, for example of dropout, must differ; XLA removes the rest of this program.
        nnx.update(module, nnx.jit(lambda rngs: nnx.state(make(rngs), nnx.RngState))(streams))
    return module
