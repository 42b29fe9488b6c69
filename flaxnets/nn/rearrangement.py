"""Layers of einops: ``Rearrange``, ``Reduce`` and ``EinMix``. Requires einops."""

from typing import Any

import einops
import jax.numpy as jnp
from einops.layers import _einmix
from flax import nnx
from jaxtyping import Array, Shaped

from flaxnets.nn import init
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import redraw, reserved


class Rearrange(Module):
    """``einops.rearrange`` as a layer.

    Args:
        pattern: the pattern, for example ``"b c h w -> b (h w) c"``.
        **axes_lengths: sizes of axes that cannot be inferred from the input.

    See `its documentation <https://einops.rocks/api/rearrange/>`_.

    >>> Rearrange("b (h w) -> b w h", h=2)(jnp.ones((3, 8))).shape
    (3, 4, 2)
    """

    def __init__(self, pattern: str, **axes_lengths: int):
        self.pattern = pattern
        self.axes_lengths = tuple(axes_lengths.items())

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Rearrange the axes."""
        return einops.rearrange(input, self.pattern, **dict(self.axes_lengths))

    def extra_repr(self) -> str:
        """Return the pattern and the sizes for ``repr``."""
        return _arguments(self.pattern, self.axes_lengths)


class Reduce(Module):
    """``einops.reduce`` as a layer.

    Args:
        pattern: the pattern, for example ``"b c h w -> b c"``.
        reduction: ``"min"``, ``"max"``, ``"sum"``, ``"mean"`` or ``"prod"``.
        **axes_lengths: sizes of axes that cannot be inferred from the input.

    See `its documentation <https://einops.rocks/api/reduce/>`_.

    >>> Reduce("b c h w -> b c", "max")(jnp.ones((3, 4, 2, 2))).shape
    (3, 4)
    """

    def __init__(self, pattern: str, reduction: str, **axes_lengths: int):
        self.pattern = pattern
        self.reduction = reduction
        self.axes_lengths = tuple(axes_lengths.items())

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Reduce the axes that the output lacks, and rearrange the others."""
        return einops.reduce(input, self.pattern, self.reduction, **dict(self.axes_lengths))

    def extra_repr(self) -> str:
        """Return the pattern, the reduction and the sizes for ``repr``."""
        return _arguments(self.pattern, self.axes_lengths, repr(self.reduction))


class _Plan(_einmix._EinmixMixin):
    """The einsum, parameter shapes and rearrangements that einops derives from a pattern."""

    def _create_rearrange_layers(
        self, pre_reshape_pattern: Any, pre_reshape_lengths: Any, post_reshape_pattern: Any, post_reshape_lengths: Any
    ) -> None:
        self.before = pre_reshape_pattern and Rearrange(pre_reshape_pattern, **pre_reshape_lengths)
        self.after = post_reshape_pattern and Rearrange(post_reshape_pattern, **post_reshape_lengths)

    def _create_parameters(self, weight_shape: Any, weight_bound: float, bias_shape: Any, bias_bound: float) -> None:
        self.shapes = {"weight": (weight_shape, weight_bound), "bias": (bias_shape, bias_bound)}


class EinMix(Module):
    """Linear layer over arbitrary axes of a rearranged input and output.

    Args:
        pattern: the axes of input and output, for example ``"b n d -> b n e"``.
        weight_shape: the axes of ``weight``.
        bias_shape: the axes of ``bias``. None means no bias.
        rngs: random number generators for the initial parameters.
        **axes_lengths: the sizes of the parameters' axes.

    See `its documentation <https://einops.rocks/docs/4-einmix/>`_.

    >>> layer = EinMix("b n d -> b n e", weight_shape="d e", bias_shape="e", d=3, e=4, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    def __init__(
        self, pattern: str, weight_shape: str, bias_shape: str | None = None, *, rngs: nnx.Rngs, **axes_lengths: int
    ):
        plan = _Plan(pattern, weight_shape, bias_shape, **axes_lengths)
        self.pattern, self.weight_shape, self.bias_shape = pattern, weight_shape, bias_shape
        self.axes_lengths = tuple(axes_lengths.items())
        self.einsum_pattern = plan.einsum_pattern
        self.add_module("pre_rearrange", plan.before)
        self.add_module("post_rearrange", plan.after)
        for name, (shape, bound) in plan.shapes.items():
            self.register_parameter(name, None if shape is None else reserved(*shape, dtype=jnp.float32))
            if shape is not None:
                redraw(self, name, lambda s, dtype, b=bound: init.uniform(rngs.params(), s, dtype, a=-b, b=b))

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Return the linear combination along the axes of the weight."""
        if self.pre_rearrange is not None:
            input = self.pre_rearrange(input)
        result = jnp.einsum(self.einsum_pattern, input, self.weight[...])
        if self.bias is not None:
            result = result + self.bias[...]
        return result if self.post_rearrange is None else self.post_rearrange(result)

    def extra_repr(self) -> str:
        """Return the pattern, the axes of the parameters and the sizes for ``repr``."""
        shapes = [repr(shape) for shape in (self.weight_shape, self.bias_shape) if shape is not None]
        return _arguments(self.pattern, self.axes_lengths, *shapes)


def _arguments(pattern: str, axes_lengths: Any, *others: str) -> str:
    lengths = [f"{axis}={length}" for axis, length in dict(axes_lengths).items()]
    return ", ".join([repr(pattern), *others, *lengths])
