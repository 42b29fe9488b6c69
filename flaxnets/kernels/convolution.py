"""Convolutions of images whose gradients are convolutions that CPUs run fast.

Images are NHWC and kernels HWIO inside of this module. JAX writes the gradients of a convolution as convolutions that
are slow on CPUs unless XLA rewrites them, and XLA does not rewrite them within ``lax.scan``. Here, the gradients are
written in the fast layout.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from flaxnets.kernels import onednn
from flaxnets.kernels._primitives import Library, Result, materialized, trilinear, with_materialized_gradient
from flaxnets.kernels.reductions import spread

Pair = tuple[int, int]
Shape = tuple[int, ...]
AXES = ("NHWC", "HWIO", "NHWC")
DATA_AXES, KERNEL_AXES = (0, 3, 1, 2), (2, 3, 0, 1)


class Convolution(NamedTuple):
    """The sizes of a convolution, from which the output and both gradients can be computed."""

    x: Shape
    kernel: Shape
    stride: Pair
    pads: tuple[Pair, Pair]
    dilation: Pair

    @property
    def size(self) -> Pair:
        """Height and width of the output."""
        height, width = (
            (self.x[1 + i] + sum(self.pads[i]) - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in (0, 1)
        )
        return height, width

    @property
    def is_product(self) -> bool:
        """Whether the convolution is a product of matrices: each output pixel depends on one input pixel."""
        return self.kernel[:2] == (1, 1) and self.stride == (1, 1) and self.pads == ((0, 0), (0, 0))

    @property
    def is_stem(self) -> bool:
        """Whether the input has one to three channels, as images of a dataset, and the windows are small."""
        return self.kernel[2] < 4 and math.prod(self.kernel[:2]) <= 64 and self.dilation == (1, 1)

    @property
    def is_narrow(self) -> bool:
        """Whether the input has one channel, the output has few channels, and the windows are small."""
        return self.is_stem and self.kernel[2] == 1 and self.kernel[3] <= 16

    @property
    def is_heavy(self) -> bool:
        """Whether there are many weights for few pixels, so that reordering the weights (4 MB or more) is expensive."""
        weights = math.prod(self.kernel)
        return weights >= 2**20 and math.prod(self.x) <= weights / 8

    def input_pads(self) -> list[Pair]:
        """Return the padding of the output's gradient, dilated by the stride, for the input's gradient."""
        pads = []
        for i, (before, _) in enumerate(self.pads):
            reach = self.dilation[i] * (self.kernel[i] - 1)
            pads.append((reach - before, self.x[1 + i] - (self.size[i] - 1) * self.stride[i] - 1 + before))
        return pads

    def kernel_pads(self) -> list[Pair]:
        """Return the padding of the input for the kernel's gradient."""
        pads = []
        for i, (before, _) in enumerate(self.pads):
            reach = self.dilation[i] * (self.kernel[i] - 1) + self.stride[i] * (self.size[i] - 1)
            pads.append((before, reach + 1 - self.x[1 + i] - before))
        return pads


def _output(x: jax.Array, kernel: jax.Array, conv: Convolution) -> jax.Array:
    if conv.is_narrow:
        return _shifted(x, kernel, conv)
    return lax.conv_general_dilated(x, kernel, conv.stride, conv.pads, None, conv.dilation, AXES)


def _shifted(x: jax.Array, kernel: jax.Array, conv: Convolution) -> jax.Array:
    """Convolve images of one channel: sum the products of shifted images and the elements of the kernel."""
    x, kernel = jnp.pad(x, ((0, 0), *conv.pads, (0, 0))), materialized(kernel)
    (height, width), (down, right) = conv.size, conv.stride
    total = jnp.zeros((), x.dtype)
    for i in range(conv.kernel[0]):
        for j in range(conv.kernel[1]):
            end = (x.shape[0], i + (height - 1) * down + 1, j + (width - 1) * right + 1, 1)
            total = total + lax.slice(x, (0, i, j, 0), end, (1, down, right, 1)) * kernel[i : i + 1, j : j + 1]
    return total


def _input_gradient(g: jax.Array, kernel: jax.Array, conv: Convolution) -> jax.Array:
    flipped = lax.optimization_barrier(lax.rev(kernel, (0, 1)).transpose(0, 1, 3, 2))
    return lax.conv_general_dilated(g, flipped, (1, 1), conv.input_pads(), conv.stride, conv.dilation, AXES)


def _kernel_gradient(x: jax.Array, g: jax.Array, conv: Convolution) -> jax.Array:
    if conv.is_product:
        return (x.reshape(-1, x.shape[3]).T @ g.reshape(-1, g.shape[3])).reshape(conv.kernel)
    # Without the barriers, XLA merges the transposes into the convolution, which then has a slow layout.
    images, kernel = lax.optimization_barrier((x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)))
    out = lax.conv_general_dilated(images, kernel, conv.dilation, conv.kernel_pads(), None, conv.stride, AXES)
    return lax.optimization_barrier(out).transpose(1, 2, 0, 3)


def trimmed(x: jax.Array, pads: Sequence[Pair]) -> tuple[jax.Array, list[Pair]]:
    """Slice off the elements that negative padding removes, and return the rest with the remaining padding."""
    for i, (before, after) in enumerate(pads):
        x = lax.slice_in_dim(x, max(-before, 0), x.shape[1 + i] - max(-after, 0), axis=1 + i)
    return x, [(max(before, 0), max(after, 0)) for before, after in pads]


def _onednn_output(x: jax.Array, kernel: jax.Array, conv: Convolution) -> jax.Array:
    if conv.is_narrow:
        return _shifted(x, kernel, conv)
    if conv.is_heavy:
        return _output(x, kernel, conv)
    return onednn.convolution(
        x, kernel, stride=conv.stride, pads=conv.pads, dilation=conv.dilation,
        data_axes=DATA_AXES, kernel_axes=KERNEL_AXES,
    )  # fmt: skip


def _onednn_input_gradient(g: jax.Array, kernel: jax.Array, conv: Convolution) -> jax.Array:
    strided = conv.stride != (1, 1)
    # For larger windows, the product would be many times as large as the image.
    if conv.is_heavy or (strided and math.prod(conv.kernel[:2]) <= 9):
        return _scattered_input_gradient(g, kernel, conv)
    if strided:
        return _input_gradient(g, kernel, conv)
    g, pads = trimmed(g, conv.input_pads())
    # Treat adjacent pixels as one, so that their channels fill a SIMD vector.
    channels, width = kernel.shape[2], conv.x[2]
    pixels = 16 // channels if 2 < channels <= 8 and conv.dilation == (1, 1) else 1
    flipped = lax.rev(kernel, (0, 1))
    each = [jnp.pad(flipped, ((0, 0), (i, pixels - 1 - i), (0, 0), (0, 0))) for i in range(pixels)]
    count = -(-width // pixels)
    out = onednn.convolution(
        g, jnp.concatenate(each, 2), stride=(1, pixels),
        pads=(pads[0], (pads[1][0], pads[1][1] + count * pixels - width)), dilation=conv.dilation,
        data_axes=DATA_AXES, kernel_axes=(3, 2, 0, 1),
    )  # fmt: skip
    return out.reshape(*out.shape[:2], count * pixels, channels)[:, :, :width]


def _scattered_input_gradient(g: jax.Array, kernel: jax.Array, conv: Convolution) -> jax.Array:
    """Compute the input's gradient as one product with all weights, whose results are added at their window positions.

    The weights keep their order in memory.
    """
    (kh, kw, channels, _), zero = conv.kernel, jnp.zeros((), g.dtype)
    product = onednn.matmul(g.reshape(-1, g.shape[3]), kernel.reshape(-1, g.shape[3]), transpose_b=True)
    parts = product.reshape(*g.shape[:3], kh, kw, channels)

    def padded(*element: int) -> jax.Array:
        pads = []
        for i in (0, 1):
            before = conv.dilation[i] * element[i] - conv.pads[i][0]
            length = conv.stride[i] * (conv.size[i] - 1) + 1
            pads.append((before, conv.x[1 + i] - before - length, conv.stride[i] - 1))
        return lax.pad(parts[:, :, :, *element], zero, [(0, 0, 0), *pads, (0, 0, 0)])

    return functools.reduce(operator.add, [padded(i, j) for i in range(kh) for j in range(kw)])


def _onednn_kernel_gradient(x: jax.Array, g: jax.Array, conv: Convolution) -> jax.Array:
    channels, out = conv.kernel[2:]
    if conv.is_product:
        x, g = x.reshape(-1, channels), g.reshape(-1, out)
        # The product is faster if its rows are the smaller number of channels.
        product = onednn.matmul(g, x, transpose_a=True).T if out < channels else onednn.matmul(x, g, transpose_a=True)
        return product.reshape(conv.kernel)
    if conv.is_stem:
        return _stem_kernel_gradient(x, g, conv)
    if channels < 4:
        return _kernel_gradient(x, g, conv)
    if out < channels and conv.stride == (1, 1):
        # Correlate the gradient with the input as window. The result is reversed, because the last element comes first.
        product = _correlated(g, conv.input_pads(), x, conv.dilation, (1, 1))
        return lax.rev(product, (0, 1)).transpose(0, 1, 3, 2)
    return _correlated(x, conv.kernel_pads(), g, conv.dilation, conv.stride)


def _correlated(x: jax.Array, pads: list[Pair], window: jax.Array, stride: Pair, dilation: Pair) -> jax.Array:
    """Cross-correlate every channel of ``x`` with every channel of ``window``, summed over the images.

    The computation is a three-dimensional convolution whose third dimension is the channels of ``x``. ``x`` is
    transposed for it, so ``x`` should be the array with fewer channels.

    Args:
        x: Array NHWC.
        pads: Padding of ``x``; negative padding removes elements.
        window: Array NHWC.
        stride: Stride of the window.
        dilation: Dilation of the window.

    Returns:
        ``(height, width, channels of x, channels of window)``.
    """
    n = len(x)
    x, pads = trimmed(x, pads)
    volume = lax.optimization_barrier(x.reshape(n, -1).T).reshape(1, *x.shape[1:], n)
    out = onednn.convolution(
        volume, window[:, :, :, None], stride=(*stride, 1), pads=(*pads, (0, 0)), dilation=(*dilation, 1),
        data_axes=(0, 4, 1, 2, 3), kernel_axes=(0, 4, 1, 2, 3),
    )  # fmt: skip
    return out[0]


def _elements(x: jax.Array, count: int, size: int, stride: int) -> jax.Array:
    """Stack the elements at each of ``size`` positions of ``count`` windows along axis 3."""
    length = (count - 1) * stride + 1
    return jnp.stack([lax.slice_in_dim(x, start, start + length, stride, 3) for start in range(size)])


def _stem_kernel_gradient(x: jax.Array, g: jax.Array, conv: Convolution) -> jax.Array:
    """Compute the kernel's gradient as a product of shifted images with the output's gradient.

    With few output channels, the product would have too few columns to be fast. Then four pixels are one row of the
    gradient. Products of a pixel with inputs outside of its window are dropped.
    """
    (kh, kw, channels, out), (height, width), (down, right) = conv.kernel, conv.size, conv.stride
    pixels = 4 if out <= 16 else 1
    rows, reach = -(-width // pixels), (pixels - 1) * right + kw  # reach: joint width of the windows of a row
    last = ((height - 1) * down + kh, (rows - 1) * pixels * right + reach)
    pads = [
        (before, end - size - before, 0) for (before, _), end, size in zip(conv.pads, last, x.shape[1:3], strict=True)
    ]
    x = lax.pad(x.transpose(3, 0, 1, 2), jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *pads])
    g = jnp.pad(g, ((0, 0), (0, 0), (0, rows * pixels - width), (0, 0)))
    # Compile time grows with the number of slices. A 7x7 window needs 14 slices by rows and columns, instead of 49.
    images = _elements(_elements(x, rows, reach, pixels * right), height, kh, down)
    stacked = lax.optimization_barrier(images).reshape(kh * reach * channels, -1)
    products = onednn.matmul(stacked, g.reshape(-1, pixels * out)).reshape(kh, reach, channels, pixels, out)
    parts = [products[:, right * pixel : right * pixel + kw, :, pixel] for pixel in range(pixels)]
    return sum(parts[1:], parts[0])


_XLA = {"output": _output, "input": _input_gradient, "weight": _kernel_gradient}
_ONEDNN = {"output": _onednn_output, "input": _onednn_input_gradient, "weight": _onednn_kernel_gradient}


def _compute(a: jax.Array, b: jax.Array, *, result: Result, conv: Convolution, library: str) -> jax.Array:
    return _XLA[result](a, b, conv)


def compute_on_cpu(a: jax.Array, b: jax.Array, *, result: Result, conv: Convolution, library: str) -> jax.Array:
    """Compute an output or a gradient of NHWC images and an HWIO kernel with the library.

    Args:
        a: The input, or for ``result="input"`` the output's gradient.
        b: The kernel, or for ``result="weight"`` the output's gradient.
        result: ``"output"``, or the gradient of the ``"input"`` or the ``"weight"``.
        conv: Sizes of the convolution.
        library: ``"xla"`` or ``"onednn"``.
    """
    compute, dtype = (_ONEDNN if library == "onednn" else _XLA)[result], a.dtype
    if dtype == jnp.bfloat16 and not _is_single_onednn_call(result, conv):
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return compute(a, b, conv).astype(dtype)


def _is_single_onednn_call(result: Result, conv: Convolution) -> bool:
    """Return whether one call of oneDNN computes the result. XLA's bfloat16 is slow, and its sums are less exact."""
    if conv.is_narrow or conv.is_heavy:
        return False
    if result == "input":
        return conv.stride == (1, 1)
    return result == "output" or conv.is_product or conv.kernel[2] >= 4


def with_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Add a bias to the channels of ``(N, H, W, C)``; its gradient is summed in float32 or more."""
    wide = jnp.promote_types(y.dtype, jnp.float32)
    total = y.astype(wide) + spread(bias.astype(wide), y)
    return with_materialized_gradient(total.astype(y.dtype))


_conv = trilinear("conv_nhwc", _compute, compute_on_cpu)


def convolution(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Pair,
    pads: tuple[Pair, Pair],
    dilation: Pair,
    library: Library,
) -> jax.Array:
    """Cross-correlate images ``(N, C_in, H, W)`` with a weight ``(C_out, C_in, kh, kw)``.

    Args:
        x: Images of float32, float64 or bfloat16.
        weight: Weight of the same dtype.
        bias: Bias ``(C_out,)`` or None.
        stride: Stride along height and width.
        pads: Padding before and after, for height and width.
        dilation: Dilation along height and width.
        library: Library for the computation on CPUs.

    >>> x, weight = jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 3, 3))
    >>> convolution(x, weight, None, (1, 1), ((0, 0), (0, 0)), (1, 1), "xla").ravel().tolist()
    [9.0, 9.0, 9.0, 9.0]
    """
    x, kernel = materialized(lax.transpose(x, (0, 2, 3, 1))), lax.transpose(weight, (2, 3, 1, 0))
    conv = Convolution(x.shape, kernel.shape, stride, pads, dilation)
    y = _conv.bind(x, kernel, result="output", conv=conv, library=library)
    if bias is not None:
        y = with_bias(y, bias)
    return lax.transpose(y, (0, 3, 1, 2))
