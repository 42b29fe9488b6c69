"""Transposed convolutions of any number of spatial axes: gradients of convolutions with respect to their inputs."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from flaxnets import kernels
from flaxnets.autocast import cast_operands
from flaxnets.kernels.convolution_nd import Window
from flaxnets.nn._arguments import as_float_like, to_sizes
from flaxnets.nn.functional.conv import Size, check_operands, check_window, is_empty


def conv_transpose_nd(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
    n: int,
    name: str,
) -> jax.Array:
    """Transposed convolution of ``(N, C, *spatial)`` or ``(C, *spatial)``; weight: ``(C, out / groups, *kernel)``."""
    input, weight, bias = cast_operands(input, weight, bias)
    weight = jnp.asarray(weight)
    bias = None if bias is None else jnp.asarray(bias)
    input = as_float_like(input, weight, name)
    check_operands(input, weight, bias, groups, (weight.shape[0], weight.shape[1] * groups), n, name)
    convert = functools.partial(to_sizes, n=n, name=name, broadcast=True)
    stride, dilation = convert(stride, what="stride"), convert(dilation, what="dilation")
    padding, extra = convert(padding, what="padding"), convert(output_padding, what="output_padding")
    empty = is_empty(input, n)
    check_window(stride, padding, dilation, empty, name)
    if min(extra) < 0 or (not empty and any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True))):
        raise RuntimeError(
            f"{name}: output_padding must not be negative, and smaller than stride or dilation, got {extra} "
            f"with stride {stride} and dilation {dilation}"
        )
    if weight.size == 0:
        error = IndexError if empty else RuntimeError  # as in torch
        raise error(f"{name}: expected a weight that is not empty, got one of shape {weight.shape}")
    reach = [d * (k - 1) for k, d in zip(weight.shape[2:], dilation, strict=True)]
    sizes = zip(input.shape[-n:], stride, reach, padding, extra, strict=True)
    output_size = [(size - 1) * s + 1 + r - 2 * p + e for size, s, r, p, e in sizes]
    if min(output_size) < 0:
        raise RuntimeError(
            f"{name}: the output would have the size {output_size}, for an input of shape {input.shape}, "
            f"a weight of shape {weight.shape} and padding {padding}"
        )
    if empty or 0 in output_size:
        channels = weight.shape[1] * groups
        return jnp.zeros((*input.shape[: -n - 1], channels, *output_size), weight.dtype)
    x = input if input.ndim == n + 2 else input[None]
    # The transposed convolution is the gradient of the convolution that maps the output back to the input's size.
    pads = tuple((p, p - e) for p, e in zip(padding, extra, strict=True))
    window = Window(tuple(output_size), weight.shape[2:], stride, pads, dilation, groups, channels_last=False)
    output = kernels.convolution_implementation(x, weight, window, "input")(x, weight, bias)
    return output if input.ndim == n + 2 else output[0]


def conv_transpose1d(
    input: Num[Array, "*n c_in length"],
    weight: Num[Array, "c_in c_out_per_group k"],
    bias: Num[Array, " c_out"] | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Num[Array, "*n c_out length_out"]:
    """Transposed convolution of sequences: spread each element over a window of the output.

    Args:
        input: ``(N, C_in, L)`` or ``(C_in, L)``.
        weight: ``(C_in, C_out / groups, k)``.
        bias: ``(C_out,)``.
        stride: step of the window in the output.
        padding: elements removed from both ends of the output.
        output_padding: elements added at the end of the output.
        groups: number of blocks that the channels are divided into; each block has its own kernels.
        dilation: distance between the window's elements.

    Returns:
        An array of length ``(L - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1``, which may be 0.
        Torch returns such an empty output or raises RuntimeError, depending on the implementation that it selects.

    Raises:
        RuntimeError: for incompatible arrays or sizes, dtypes that differ, sizes that are out of range, an output
            padding that is not smaller than stride or dilation, and a padding that leaves no output.
        TypeError: for sizes that are not ints.

    See `torch.nn.functional.conv_transpose1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose1d.html>`_.

    >>> import jax.numpy as jnp
    >>> conv_transpose1d(jnp.arange(3.0).reshape(1, 3), jnp.ones((1, 1, 2)), stride=2).tolist()
    [[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]]
    """
    arguments = (stride, padding, output_padding, groups, dilation)
    return conv_transpose_nd(input, weight, bias, *arguments, 1, "conv_transpose1d")


def conv_transpose2d(
    input: Num[Array, "*n c_in h w"],
    weight: Num[Array, "c_in c_out_per_group kh kw"],
    bias: Num[Array, " c_out"] | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Num[Array, "*n c_out h_out w_out"]:
    """Transposed convolution of images; arguments and errors are those of :func:`conv_transpose1d`.

    See `torch.nn.functional.conv_transpose2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html>`_.

    >>> import jax.numpy as jnp
    >>> conv_transpose2d(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 2, 3, 3)), stride=2).shape
    (1, 2, 9, 9)
    """
    arguments = (stride, padding, output_padding, groups, dilation)
    return conv_transpose_nd(input, weight, bias, *arguments, 2, "conv_transpose2d")


def conv_transpose3d(
    input: Num[Array, "*n c_in d h w"],
    weight: Num[Array, "c_in c_out_per_group kd kh kw"],
    bias: Num[Array, " c_out"] | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Num[Array, "*n c_out d_out h_out w_out"]:
    """Transposed convolution of volumes; arguments and errors are those of :func:`conv_transpose1d`.

    See `torch.nn.functional.conv_transpose3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose3d.html>`_.

    >>> import jax.numpy as jnp
    >>> conv_transpose3d(jnp.ones((1, 1, 2, 2, 2)), jnp.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 4, 4, 4)
    """
    arguments = (stride, padding, output_padding, groups, dilation)
    return conv_transpose_nd(input, weight, bias, *arguments, 3, "conv_transpose3d")
