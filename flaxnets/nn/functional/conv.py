"""Convolutions (cross-correlations) of any number of spatial axes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from flaxnets import kernels
from flaxnets.autocast import cast_operands
from flaxnets.kernels.convolution_nd import Window, add_bias
from flaxnets.nn._arguments import as_float_like, check_ndim, to_ints, to_sizes

Size = int | Sequence[int]


def same_padding(kernel_size: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Return the padding of ``padding='same'``; as in torch, an odd remainder is added at the end."""
    totals = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def check_operands(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    groups: int,
    channels: tuple[int, int],
    n: int,
    name: str,
) -> None:
    """Raise for incompatible arrays, as torch does; ``channels`` are those of the input and of the output."""
    into, out_of = channels
    if weight.ndim != n + 2:
        raise RuntimeError(f"{name}: expected a {n + 2}D weight, got one of shape {weight.shape}")
    if groups <= 0 or weight.shape[0] < groups or weight.shape[0] % groups:
        raise RuntimeError(
            f"{name}: groups must be positive and divide the weight's first axis, got groups={groups} "
            f"for a weight of shape {weight.shape}"
        )
    check_ndim(input, (n + 1, n + 2), name, RuntimeError)
    if input.shape[-n - 1] != into:
        raise RuntimeError(
            f"{name}: expected an input of {into} channels, got {input.shape[-n - 1]} "
            f"(input of shape {input.shape}, weight of shape {weight.shape}, groups={groups})"
        )
    if 0 in input.shape[-n:] and 0 not in input.shape[:-n]:
        raise RuntimeError(f"{name}: only batch or channels may be of size zero, got an input of shape {input.shape}")
    if 0 in weight.shape[2:] and not is_empty(input, n):
        raise RuntimeError(f"{name}: the kernel size must be positive, got a weight of shape {weight.shape}")
    if bias is not None and (bias.shape != (out_of,) or bias.dtype != weight.dtype):
        raise RuntimeError(
            f"{name}: expected a bias of shape {(out_of,)} and dtype {weight.dtype}, "
            f"got one of shape {bias.shape} and dtype {bias.dtype}"
        )


def is_empty(input: jax.Array, n: int) -> bool:
    """Return whether the batch or the channels are empty; torch then skips the check of some arguments."""
    return 0 in input.shape[:-n]


def check_window(
    stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...], empty: bool, name: str
) -> None:
    """Raise for sizes out of range, as torch does; a window over an empty input may have any dilation."""
    least_dilation = 0 if empty else 1
    for what, sizes, least in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, least_dilation)):
        if min(sizes) < least:
            raise RuntimeError(f"{name}: {what} must be at least {least}, got {sizes}")


def _pads(
    padding: str | Size, kernel_size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], name: str
) -> list[tuple[int, int]]:
    """Return the padding before and after each spatial axis."""
    n = len(kernel_size)
    if padding == "same":
        if max(stride) > 1:
            raise RuntimeError(f"{name}: padding='same' requires stride 1, got stride={stride}")
        return same_padding(kernel_size, dilation)
    if isinstance(padding, str) and padding != "valid":
        raise RuntimeError(f"{name}: padding must be 'valid', 'same' or sizes, got {padding!r}")
    sizes = (0,) * n if isinstance(padding, str) else to_sizes(padding, n, "padding", name, broadcast=True)
    return [(size, size) for size in sizes]


def conv_nd(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Size,
    padding: str | Size,
    dilation: Size,
    groups: int,
    n: int,
    name: str,
) -> jax.Array:
    """Cross-correlate ``(N, C, *spatial)`` or ``(C, *spatial)`` with a weight ``(out, C / groups, *kernel)``."""
    input, weight, bias = cast_operands(input, weight, bias)
    weight = jnp.asarray(weight)
    bias = None if bias is None else jnp.asarray(bias)
    input = as_float_like(input, weight, name)
    check_operands(input, weight, bias, groups, (weight.shape[1] * groups, weight.shape[0]), n, name)
    stride = to_sizes(stride, n, "stride", name, broadcast=True)
    dilation = to_sizes(dilation, n, "dilation", name, broadcast=True)
    kernel_size = weight.shape[2:]
    pads = _pads(padding, kernel_size, stride, dilation, name)
    empty = is_empty(input, n)
    check_window(stride, tuple(before for before, _ in pads), dilation, empty, name)
    for size, kernel, dil, (before, after) in zip(input.shape[-n:], kernel_size, dilation, pads, strict=True):
        if size + before + after < dil * (kernel - 1) + 1:
            raise RuntimeError(
                f"{name}: the kernel {kernel_size} with dilation {dilation} is larger than the padded input "
                f"(input of shape {input.shape}, padding {padding!r})"
            )
    if empty:
        return _empty_output(input, weight, stride, pads, dilation)
    x = input if input.ndim == n + 2 else input[None]
    window = Window(x.shape[2:], kernel_size, stride, tuple(pads), dilation, groups, channels_last=False)
    output = kernels.convolution_implementation(x, weight, window)(x, weight, bias)
    return output if input.ndim == n + 2 else output[0]


def _empty_output(
    input: jax.Array,
    weight: jax.Array,
    stride: tuple[int, ...],
    pads: list[tuple[int, int]],
    dilation: tuple[int, ...],
) -> jax.Array:
    """Return the output for an empty input; as in torch, an input without channels gives no output channels."""
    n = len(stride)
    if weight.size == 0 and weight.shape[1]:
        raise IndexError(f"conv{n}d: expected a weight that is not empty, got one of shape {weight.shape}")
    sizes = zip(input.shape[-n:], weight.shape[2:], stride, pads, dilation, strict=True)
    output = [(size + sum(ends) - d * (kernel - 1) - 1) // step + 1 for size, kernel, step, ends, d in sizes]
    channels = weight.shape[0] if weight.shape[1] else 0
    return jnp.zeros((*input.shape[: -n - 1], channels, *output), weight.dtype)


def conv1d(
    input: Num[Array, "*n c_in length"],
    weight: Num[Array, "c_out c_in_per_group k"],
    bias: Num[Array, " c_out"] | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Num[Array, "*n c_new length_out"]:
    """Cross-correlate sequences with a weight.

    Args:
        input: ``(N, C_in, L)`` or ``(C_in, L)``.
        weight: ``(C_out, C_in / groups, k)``.
        bias: ``(C_out,)``.
        stride: step of the window.
        padding: zeros added on both sides, ``'valid'`` (none) or ``'same'`` (the output has the input's size).
        dilation: distance between the window's elements.
        groups: number of blocks that the channels are divided into; each block has its own kernels.

    Returns:
        ``(N, C_out, L_out)`` or ``(C_out, L_out)``. As in torch, an input without channels gives no output channels.

    Raises:
        RuntimeError: for incompatible arrays or sizes, dtypes that differ, sizes that are out of range, and an input
            that is smaller than the kernel.
        TypeError: for sizes that are not ints.

    See `torch.nn.functional.conv1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv1d.html>`_.

    >>> import jax.numpy as jnp
    >>> conv1d(jnp.arange(4.0).reshape(1, 4), jnp.ones((1, 1, 2))).tolist()
    [[1.0, 3.0, 5.0]]
    """
    return conv_nd(input, weight, bias, stride, padding, dilation, groups, 1, "conv1d")


def conv2d(
    input: Num[Array, "*n c_in h w"],
    weight: Num[Array, "c_out c_in_per_group kh kw"],
    bias: Num[Array, " c_out"] | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Num[Array, "*n c_new h_out w_out"]:
    """Cross-correlate images with a weight; arguments and errors are those of :func:`conv1d`.

    See `torch.nn.functional.conv2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html>`_.

    >>> import jax.numpy as jnp
    >>> conv2d(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 3, 3))).shape
    (1, 1, 2, 2)
    """
    return conv_nd(input, weight, bias, stride, padding, dilation, groups, 2, "conv2d")


def conv3d(
    input: Num[Array, "*n c_in d h w"],
    weight: Num[Array, "c_out c_in_per_group kd kh kw"],
    bias: Num[Array, " c_out"] | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Num[Array, "*n c_new d_out h_out w_out"]:
    """Cross-correlate volumes with a weight; arguments and errors are those of :func:`conv1d`.

    See `torch.nn.functional.conv3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv3d.html>`_.

    >>> import jax.numpy as jnp
    >>> conv3d(jnp.ones((1, 1, 4, 4, 4)), jnp.ones((1, 1, 3, 3, 3))).shape
    (1, 1, 2, 2, 2)
    """
    return conv_nd(input, weight, bias, stride, padding, dilation, groups, 3, "conv3d")


def conv_tbc(
    input: Num[Array, "t n c_in"], weight: Num[Array, "k c_in c_out"], bias: Num[Array, " c_out"], pad: int = 0
) -> Num[Array, "t_out n c_out"]:
    """Cross-correlate sequences of the layout ``(time, batch, channels)``.

    Args:
        input: ``(T, N, C_in)``.
        weight: ``(k, C_in, C_out)``.
        bias: ``(C_out,)``.
        pad: zeros added at both ends. A negative number removes elements.

    Raises:
        RuntimeError: for incompatible arrays, dtypes that differ, and an input that is more than one element shorter
            than the kernel.
        TypeError: for a bias that is None, or a ``pad`` that is not an int.

    See `torch.nn.functional.conv_tbc
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_tbc.html>`_.

    >>> import jax.numpy as jnp
    >>> conv_tbc(jnp.ones((5, 2, 3)), jnp.ones((2, 3, 4)), jnp.zeros(4)).shape
    (4, 2, 4)
    """
    (pad,) = to_ints((pad,), "pad", "conv_tbc")
    if bias is None:
        raise TypeError("conv_tbc: bias must be an array, got None")
    input, weight, bias = cast_operands(input, jnp.asarray(weight), jnp.asarray(bias))
    input = as_float_like(input, weight, "conv_tbc")
    fits = input.ndim == weight.ndim == 3 and input.shape[2] == weight.shape[1] and bias.shape == weight.shape[2:]
    if not fits or input.shape[0] + 2 * pad - weight.shape[0] + 1 < 0:
        raise RuntimeError(
            "conv_tbc: expected an input (time, batch, c_in), a weight (k, c_in, c_out) that is not longer, and a bias "
            f"(c_out,), got the shapes {input.shape}, {weight.shape} and {bias.shape}, and pad={pad}"
        )
    output = jax.lax.conv_general_dilated(input, weight, (1,), [(pad, pad)], dimension_numbers=("WNC", "WIO", "WNC"))
    return add_bias(output, bias, 2)
