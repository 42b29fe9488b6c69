"""Memory formats of weights, which XLA chooses."""

from typing import Any, TypeVar

from flax import nnx

M = TypeVar("M", bound=nnx.Module)


def convert_conv2d_weight_memory_format(module: M, memory_format: Any = None) -> M:
    """Return the module unchanged: XLA chooses the physical layout of every weight when it compiles a program.

    In torch, too, the conversion changes no value, shape or name.

    Args:
        module: a module.
        memory_format: no effect.

    See `torch.nn.utils.convert_conv2d_weight_memory_format
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.convert_conv2d_weight_memory_format.html>`_.

    >>> from flaxnets import nn
    >>> conv = nn.Conv2d(1, 2, 3, rngs=nnx.Rngs(0))
    >>> convert_conv2d_weight_memory_format(conv, "channels_last") is conv
    True
    """
    return module


def convert_conv3d_weight_memory_format(module: M, memory_format: Any = None) -> M:
    """Return the module unchanged, like :func:`convert_conv2d_weight_memory_format`.

    See `torch.nn.utils.convert_conv3d_weight_memory_format
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.convert_conv3d_weight_memory_format.html>`_.

    >>> from flaxnets import nn
    >>> conv = nn.Conv3d(1, 2, 3, rngs=nnx.Rngs(0))
    >>> convert_conv3d_weight_memory_format(conv, "channels_last_3d") is conv
    True
    """
    return module
