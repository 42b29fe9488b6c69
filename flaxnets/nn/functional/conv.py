"""Cross-correlations, written once for any number of spatial axes."""

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float

from flaxnets.nn._arguments import along, as_float_like, check_ndim, to_tuple

Size = int | Sequence[int]


def same_padding(kernel_size: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Torch's ``padding='same'``: an odd remainder goes to the end."""
    totals = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def conv_nd(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Size,
    padding: str | Size,
    dilation: Size,
    groups: int,
    name: str,
) -> jax.Array:
    """Cross-correlates ``(N, C, *spatial)`` or ``(C, *spatial)`` with a weight ``(out, C / groups, *kernel)``."""
    n = weight.ndim - 2
    input = as_float_like(input, weight, name)
    check_ndim(input, (n + 1, n + 2), name, RuntimeError)
    stride, dilation = to_tuple(stride, n, "stride"), to_tuple(dilation, n, "dilation")
    kernel_size = weight.shape[2:]
    if padding == "same":
        pads = same_padding(kernel_size, dilation)
    else:
        sizes = (0,) * n if isinstance(padding, str) else to_tuple(padding, n, "padding")
        pads = [(size, size) for size in sizes]

    batched = input if input.ndim == n + 2 else input[None]
    if batched.shape[1] != weight.shape[1] * groups:
        raise RuntimeError(
            f"{name}: expected an input of {weight.shape[1] * groups} channels, got {batched.shape[1]} "
            f"(input of shape {input.shape}, weight of shape {weight.shape}, groups={groups})"
        )
    for size, kernel, dil, (before, after) in zip(batched.shape[2:], kernel_size, dilation, pads, strict=True):
        if size + before + after < dil * (kernel - 1) + 1:
            raise RuntimeError(
                f"{name}: the kernel {kernel_size} with dilation {dilation} is larger than the padded input "
                f"(input of shape {input.shape}, padding {padding!r})"
            )
    axes = "NC" + "DHW"[-n:]
    output = jax.lax.conv_general_dilated(
        batched,
        weight,
        stride,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=(axes, "OI" + axes[2:], axes),
        feature_group_count=groups,
    )
    if bias is not None:
        output = output + along(bias, 1, n + 2)
    return output if input.ndim == n + 2 else output[0]


def conv2d(
    input: Float[Array, "*n c_in h w"],
    weight: Float[Array, "c_out c_in_per_group kh kw"],
    bias: Float[Array, " c_out"] | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Float[Array, "*n c_out h_out w_out"]:
    """Cross-correlates images with a weight.

    Raises:
        RuntimeError: for an input of the wrong rank, channel count or dtype, or smaller than the kernel.

    See `torch.nn.functional.conv2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html>`_.

    >>> import jax.numpy as jnp
    >>> conv2d(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 3, 3))).shape
    (1, 1, 2, 2)
    """
    return conv_nd(input, weight, bias, stride, padding, dilation, groups, "conv2d")
