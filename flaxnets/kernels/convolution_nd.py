"""CPU implementations of grouped, three-dimensional, patchifying and transposed convolutions.

XLA's CPU compiler runs these convolutions, or their gradients, 10 to 1,000 times slower than a one-group convolution of
images. One primitive computes the output and both gradients. On GPU and TPU, the primitive is
``lax.conv_general_dilated``. On CPUs, the primitive consists of dense convolutions, matrix products and sums of shifted
products:

- A depthwise convolution is a sum of shifted products. A convolution of stride 1 with groups of few channels is a sum
  of shifted products in torch's layout.
- Other groups are merged into dense convolutions of about ``WIDTH`` channels, with zeros between the groups.
- The depth of a three-dimensional kernel becomes channels of a two-dimensional convolution.
- Windows that do not overlap are rows of a matrix.
- The input's gradient, which is also a transposed convolution, is a convolution of stride 1 with one block of channels
  for each position of the stride. The pixels of the blocks are then interleaved.

XLA computes dense convolutions and products. In training, oneDNN computes them, and also all groups of an image at
once.

Data is ``(N, *spatial, C)`` and kernels are ``(*spatial, C_in / groups, C_out)`` inside of this module, except for
small groups.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flaxnets.kernels import onednn
from flaxnets.kernels._primitives import Library, Result, materialized, trilinear
from flaxnets.kernels.convolution import DATA_AXES, KERNEL_AXES, Convolution, compute_on_cpu, trimmed, with_bias

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
Element = TypeVar("Element")
Tap = Any  # one position in the kernel: a tuple of ints, or an array inside a loop

WIDTH = 16  # channels of a dense convolution that groups are merged into
ROWS, TAPS = 14, 5  # rows and taps that one loop of a kernel's gradient adds; more are slow in XLA
SMALL = 4  # up to this many channels of a group, shifted products are faster than dense convolutions
JOINED, VECTOR = 16, 8  # small groups: join rows from this many taps, unless rows are multiples of a SIMD vector
REGISTERS, LOOPS = 25, 4  # small groups: taps of one loop, and largest number of unrolled loops
UNROLLED = 36  # largest number of unrolled taps or convolutions, which bounds the compile time; more are a loop


class Window(NamedTuple):
    """The sizes and options of a convolution, without batch and channels. Hashable.

    Attributes:
        size: Spatial shape of the input.
        kernel: Spatial shape of the kernel.
        stride: Stride along each spatial axis.
        pads: Padding before and after each spatial axis; negative padding removes elements.
        dilation: Dilation along each spatial axis.
        groups: Number of groups.
        channels_last: Whether operands and result are channels-last instead of in torch's layout.
        precision: Precision of the products, with the names of ``jax.default_matmul_precision``.
        is_fast: Whether XLA's convolution is fast on CPUs, unless ``jax.vmap`` maps both operands.
        library: Library for dense convolutions and products on CPUs.
    """

    size: Shape
    kernel: Shape
    stride: Shape
    pads: Pads
    dilation: Shape
    groups: int = 1
    channels_last: bool = True
    precision: str | None = None
    is_fast: bool = False
    library: Library = "xla"

    @property
    def output(self) -> Shape:
        """Spatial shape of the output."""
        sizes = zip(self.size, self.kernel, self.stride, self.pads, self.dilation, strict=True)
        return tuple((size + sum(pads) - d * (k - 1) - 1) // s + 1 for size, k, s, pads, d in sizes)

    @property
    def is_blocks(self) -> bool:
        """Whether windows are contiguous blocks that do not overlap."""
        sizes = zip(self.kernel, self.stride, self.dilation, strict=True)
        return all(k <= s and (k == 1 or d == 1) for k, s, d in sizes)

    def padding(self) -> list[tuple[int, int, int]]:
        """Argument of ``lax.pad`` for exactly the elements that the windows cover."""
        sizes = zip(self.size, self.kernel, self.stride, self.pads, self.dilation, self.output, strict=True)
        pads = [(before, (o - 1) * s + d * (k - 1) + 1 - size - before, 0) for size, k, s, (before, _), d, o in sizes]
        return [(0, 0, 0), *pads, (0, 0, 0)]

    def slice(self, x: jax.Array, tap: Tap) -> jax.Array:
        """Return the elements of the padded input that one kernel element multiplies, in the output's shape."""
        lengths = [(o - 1) * s + 1 for o, s in zip(self.output, self.stride, strict=True)]
        starts = [tap[axis] * d for axis, d in enumerate(self.dilation)]
        x = lax.dynamic_slice(x, (0, *starts, 0), (x.shape[0], *lengths, x.shape[-1]))
        return lax.slice(x, (0,) * x.ndim, x.shape, (1, *self.stride, 1))

    def taps(self) -> list[tuple[int, ...]]:
        """The positions in the kernel."""
        return list(itertools.product(*map(range, self.kernel)))


def _pad(x: jax.Array, padding: Sequence[tuple[int, int, int]]) -> jax.Array:
    return lax.pad(x, jnp.zeros((), x.dtype), padding) if any(map(any, padding)) else x


def _sum(term: Callable[[Tap], jax.Array], taps: list[tuple[int, ...]]) -> jax.Array:
    """Add a term for each tap."""

    def added(taps: Any) -> jax.Array:
        return functools.reduce(operator.add, map(term, taps))

    first = len(taps) % UNROLLED or UNROLLED
    total = added(taps[:first])
    if len(taps) == first:
        return total
    rest = jnp.asarray(taps[first:]).reshape(-1, UNROLLED, len(taps[0]))
    return lax.scan(lambda total, taps: (total + added(taps), None), total, rest)[0]


def _partial_sums(term: Callable[[Tap], jax.Array], taps: list[tuple[int, ...]]) -> jax.Array:
    """Add a term for each tap, in loops whose weights fit into the processor's registers."""
    count = -(-len(taps) // REGISTERS)
    if count > LOOPS:
        return _sum(term, taps)
    bounds = itertools.pairwise(i * len(taps) // count for i in range(count + 1))
    sums = [functools.reduce(operator.add, map(term, taps[first:last])) for first, last in bounds]
    return functools.reduce(lambda total, some: materialized(total) + some, sums)


def _stack(term: Callable[[Tap], jax.Array], taps: list[tuple[int, ...]]) -> jax.Array:
    """Stack a term for each tap along the first axis."""
    return jnp.stack([*map(term, taps)]) if len(taps) <= UNROLLED else lax.map(term, jnp.asarray(taps))


def _blocks(x: jax.Array, window: Window, channels_last: bool = True) -> jax.Array:
    """Return windows as rows: ``(N * outputs, kernel * C)``, or ``(N * outputs, C * kernel)`` for channels-first."""
    axes, kernel, stride, output = range(len(window.size)), window.kernel, window.stride, window.output
    first = 1 if channels_last else 2
    lead, rest = x.shape[:first], x.shape[first + len(axes) :]
    sizes = zip(window.size, window.pads, stride, output, strict=True)
    pads = [(before, o * s - size - before, 0) for size, (before, _), s, o in sizes]
    x = _pad(x, [*((0, 0, 0) for _ in lead), *pads, *((0, 0, 0) for _ in rest)])
    x = x.reshape(*lead, *itertools.chain(*zip(output, stride, strict=True)), *rest)
    x = x[(*(slice(None) for _ in lead), *itertools.chain(*((slice(None), slice(k)) for k in kernel)))]
    outputs, elements = ([first + i + 2 * axis for axis in axes] for i in (0, 1))
    x = x.transpose(0, *outputs, *(*elements, x.ndim - 1) if channels_last else (1, *elements))
    return materialized(x.reshape(len(x) * math.prod(output), -1))


def _interleaved(y: jax.Array, stride: Shape, groups: int) -> jax.Array:
    """Move channels ``(groups, *stride, rest)`` to pixels: the spatial axes become ``stride`` times as long."""
    (n, *sizes, _), axes = y.shape, range(len(stride))
    y = y.reshape(n, *sizes, groups, *stride, y.shape[-1] // (groups * math.prod(stride)))
    pairs = itertools.chain(*((1 + i, 2 + len(sizes) + i) for i in axes))
    y = y.transpose(0, *pairs, 1 + len(sizes), y.ndim - 1)
    return y.reshape(n, *(size * s for size, s in zip(sizes, stride, strict=True)), -1)


def _folded(x: jax.Array, window: Window) -> tuple[jax.Array, Window]:
    """Convert a volume to images, one for each output depth, with the depths of the kernel as channels."""
    n, _, *size, channels = x.shape
    depth, kernel = window.output[0], window.kernel[0]
    along = Window(window.size[:1], (kernel,), window.stride[:1], window.pads[:1], window.dilation[:1])
    x = _pad(x.reshape(n, window.size[0], -1), along.padding())
    x = jnp.stack([along.slice(x, tap).reshape(n * depth, *size, channels) for tap in along.taps()], -2)
    flat = Window(
        window.size[1:], window.kernel[1:], window.stride[1:], window.pads[1:], window.dilation[1:],
        library=window.library,
    )  # fmt: skip
    return materialized(x.reshape(n * depth, *size, kernel * channels)), flat


def _product(a: jax.Array, b: jax.Array, window: Window, transpose_a: bool = False) -> jax.Array:
    if window.library == "onednn":
        return onednn.matmul(a, b, transpose_a=transpose_a)
    return (a.T if transpose_a else a) @ b


def _pair(values: Sequence[Element]) -> tuple[Element, Element]:
    height, width = values
    return height, width


def _as_image(x: jax.Array, kernel: Shape, window: Window) -> tuple[jax.Array, Convolution]:
    """Return a sequence or image as image, without the elements that negative padding removes, and its convolution."""
    x, pads = trimmed(x, window.pads)
    stride, dilation = window.stride, window.dilation
    if x.ndim == 3:  # a sequence becomes an image of one row
        x, kernel, stride, dilation, pads = x[:, None], (1, *kernel), (1, *stride), (1, *dilation), [(0, 0), *pads]
    return x, Convolution(x.shape, kernel, _pair(stride), _pair(pads), _pair(dilation))


def _dense(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Compute the output for one group."""
    shape = (x.shape[0], *window.output, kernel.shape[-1])
    if window.is_blocks:
        return _product(_blocks(x, window), kernel.reshape(-1, shape[-1]), window).reshape(shape)
    if x.ndim == 5:
        x, flat = _folded(x, window)
        return _dense(x, jnp.moveaxis(kernel, 0, 2).reshape(*flat.kernel, -1, shape[-1]), flat).reshape(shape)
    if window.library == "onednn":
        x, conv = _as_image(x, kernel.shape, window)
        kernel = kernel.reshape(conv.kernel)
        return compute_on_cpu(x, kernel, result="output", conv=conv, library="onednn").reshape(shape)
    if x.dtype == jnp.float64:  # XLA's convolutions of float64 are slow
        x = _pad(x, window.padding())
        return _sum(lambda tap: window.slice(x, tap) @ _element(kernel, tap), window.taps())
    return _convolve(x, kernel, window.stride, window.dilation, window)


def _convolve(x: jax.Array, kernel: jax.Array, stride: Shape, dilation: Shape, window: Window) -> jax.Array:
    """Apply XLA's convolution to the covered elements, which is fast for channels-last and non-negative padding."""
    x, pads = trimmed(x, [(before, after) for before, after, _ in window.padding()[1:-1]])
    spatial = "DHW"[5 - x.ndim :]
    axes = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return lax.conv_general_dilated(x, kernel, stride, pads, None, dilation, axes)


def _element(kernel: jax.Array, tap: Tap) -> jax.Array:
    """Return the kernel's matrix at one tap."""
    matrix = kernel.shape[-2:]
    starts = (*(tap[axis] for axis in range(kernel.ndim - 2)), 0, 0)
    return lax.dynamic_slice(kernel, starts, (1,) * (kernel.ndim - 2) + matrix).reshape(matrix)


def _dense_kernel(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """Compute the kernel's gradient for one group."""
    channels, outputs = x.shape[-1], g.shape[-1]
    shape = (*window.kernel, channels, outputs)
    if window.is_blocks:
        return _product(_blocks(x, window), g.reshape(-1, outputs), window, transpose_a=True).reshape(shape)
    if x.ndim == 5:
        images, flat = _folded(x, window)
        kernel = _dense_kernel(images, g.reshape(-1, *g.shape[2:]), flat)
        return jnp.moveaxis(kernel.reshape(*flat.kernel, window.kernel[0], channels, outputs), 2, 0)
    if window.library == "onednn":
        x, conv = _as_image(x, shape, window)
        g = g.reshape(len(g), *conv.size, outputs)
        return compute_on_cpu(x, g, result="weight", conv=conv, library="onednn").reshape(shape)
    if x.dtype == jnp.float64:
        x, matrix = materialized(_pad(x, window.padding())), g.reshape(-1, outputs)
        return _stack(lambda tap: window.slice(x, tap).reshape(-1, channels).T @ matrix, window.taps()).reshape(shape)
    # Channels and batch are exchanged. Without the barriers, XLA merges the transposes into the convolution, which then
    # is slow.
    images, kernel = lax.optimization_barrier((jnp.moveaxis(x, (0, -1), (-1, 0)), jnp.moveaxis(g, 0, -2)))
    out = _convolve(images, kernel, window.dilation, window.stride, window)
    return jnp.moveaxis(lax.optimization_barrier(out), 0, -2)


def _shifted(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Compute a depthwise convolution: a sum of shifted products."""
    channels, shape = x.shape[-1], (x.shape[0], *window.output, kernel.shape[-1])
    # Channels stay the innermost axis, also with several outputs for each, so that SIMD vectors hold adjacent elements.
    kernel = materialized(kernel.reshape(*window.kernel, channels, -1).swapaxes(-1, -2))
    x = materialized(_pad(x, window.padding()))
    ones = (1,) * (x.ndim - 1)
    y = _sum(
        lambda tap: window.slice(x, tap)[..., None, :] * _element(kernel, tap).reshape(*ones, -1, channels),
        window.taps(),
    )
    return y.swapaxes(-1, -2).reshape(shape)


def _grouped(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Compute the output of a sequence or image, with all groups in one call of oneDNN."""
    shape = (x.shape[0], *window.output, kernel.shape[-1])
    x, conv = _as_image(x, kernel.shape, window)
    return onednn.convolution(
        x, kernel.reshape(conv.kernel), stride=conv.stride, pads=conv.pads, dilation=conv.dilation,
        data_axes=DATA_AXES, kernel_axes=KERNEL_AXES, groups=window.groups,
    ).reshape(shape)  # fmt: skip


def _tall_kernel(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """Compute the kernel's gradient of a depthwise convolution of images, by oneDNN.

    The images are stacked vertically to one image, and their gradients to its kernel. Both have the same number of rows
    for each image, so that a gradient never multiplies pixels of another image.
    """
    (n, height, width, outputs), stride = g.shape, window.stride
    down, step = window.stride[0], window.dilation[0]
    reach = down * (height - 1) + step * (window.kernel[0] - 1) + 1  # rows of an image that the windows cover
    rows = -(-reach // down)
    x = jnp.repeat(x, outputs // x.shape[-1], -1)
    padding = window.padding()
    x = _pad(x, [padding[0], (padding[1][0], padding[1][1] + rows * down - reach, 0), *padding[2:]])
    x = x.reshape(1, -1, *x.shape[2:])[:, : (n - 1) * rows * down + reach]
    g = _pad(g, [(0, 0, 0), (0, rows - height, 0), (0, 0, 0), (0, 0, 0)]).reshape(-1, width, 1, outputs)
    kernel = onednn.convolution(
        x, g[: (n - 1) * rows + height], stride=window.dilation, pads=((0, 0), (0, 0)), dilation=stride,
        data_axes=DATA_AXES, kernel_axes=KERNEL_AXES, groups=outputs,
    )  # fmt: skip
    return kernel.reshape(*window.kernel, 1, outputs)


def _shifted_kernel(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """Compute the kernel's gradient of a depthwise convolution.

    The products of some rows of pixels are added one by one, and the remaining sums are a product with ones, because
    XLA does not vectorize a sum over all pixels. One loop computes several taps, so that it reads the gradient once.
    """
    n, rows, *rest, outputs = g.shape
    blocks = -(-rows // ROWS)
    each = -(-rows // blocks)
    more = blocks * each - rows
    (before, after), *pads = window.pads
    window = window._replace(pads=((before, after + more * window.stride[0]), *pads))
    x = materialized(_pad(jnp.repeat(x, outputs // x.shape[-1], -1), window.padding()))
    g = _pad(g, [(0, 0, 0), (0, more, 0), *((0, 0, 0) for _ in (*rest, 0))]).reshape(n, blocks, each, *rest, outputs)
    ones = jnp.ones((1, n * blocks * math.prod(rest)), x.dtype)

    def products(tap: Tap) -> jax.Array:
        elements = window.slice(x, tap).reshape(g.shape)
        return functools.reduce(operator.add, [elements[:, :, i] * g[:, :, i] for i in range(each)])

    def sums(*taps: Tap) -> jax.Array:
        terms = jnp.stack([*map(products, taps)], -2)
        return (ones @ materialized(terms.reshape(ones.shape[1], -1))).reshape(len(taps), outputs)

    return _joined_sums(sums, window.taps(), TAPS).reshape(*window.kernel, 1, outputs)


def _joined_sums(sums: Callable[..., jax.Array], taps: list[tuple[int, ...]], count: int) -> jax.Array:
    """Return one row for each tap; one loop computes ``count`` taps."""
    if len(taps) > UNROLLED:
        return lax.map(sums, jnp.asarray(taps))
    return jnp.concatenate([sums(*taps[i : i + count]) for i in range(0, len(taps), count)])


def _has_small_groups(a: jax.Array, b: jax.Array, result: Result, window: Window) -> bool:
    """Return whether torch's layout is the fastest for sequences or images and their gradients."""
    groups = window.groups
    inputs, outputs = (a.shape[1] // groups, b.shape[1]) if result == "weight" else (b.shape[1], b.shape[0])
    is_small = groups > 1 and len(window.kernel) < 3 and max(inputs, outputs // groups) <= SMALL
    if not is_small or window.channels_last:
        return False
    return max(window.stride) == 1 or (result == "output" and inputs * math.prod(window.kernel) <= UNROLLED)


def _steps(window: Window, joins_rows: bool) -> Shape:
    """Return the distance, along each axis, of elements that :func:`_padded_groups` stores in one array.

    XLA reads adjacent elements faster than every second or third element of a row.
    """
    return window.stride if joins_rows else (*(1 for _ in window.stride[1:]), window.stride[-1])


def _lengths(window: Window, steps: Shape) -> list[int]:
    """Return the spatial shape of an array of :func:`_padded_groups`."""
    sizes = zip(window.output, window.kernel, window.dilation, window.stride, steps, strict=True)
    return [((o - 1) * s + d * (k - 1)) // step + 1 for o, k, d, s, step in sizes]


def _padded_groups(x: jax.Array, window: Window, joins_rows: bool = False) -> list[jax.Array]:
    """Return padded arrays ``(N, groups, C / groups, *spatial)``; ``joins_rows`` merges the spatial axes."""
    steps = _steps(window, joins_rows)
    lengths = _lengths(window, steps)
    lengths[0] += joins_rows  # joined rows of results are as long as padded rows, so the last one needs another row
    pads = [
        (before, length * step - size - before, 0)
        for size, (before, _), length, step in zip(window.size, window.pads, lengths, steps, strict=True)
    ]
    x = _pad(x, [(0, 0, 0), (0, 0, 0), *pads])
    shape = (x.shape[0], window.groups, x.shape[1] // window.groups, *([math.prod(lengths)] if joins_rows else lengths))
    starts = itertools.product(*map(range, steps))
    parts = [lax.slice(x, (0, 0, *start), x.shape, (1, 1, *steps)) for start in starts]
    return [materialized(part).reshape(shape) for part in parts]


def _elements(parts: list[jax.Array], tap: Tap, window: Window, joins_rows: bool = False) -> jax.Array:
    """Return the elements of one channel of each group that one kernel element multiplies.

    For strided convolutions, the tap must be known at compile time.
    """
    starts = [place * d for place, d in zip(tap[1:], window.dilation, strict=True)]
    steps, number = _steps(window, joins_rows), 0
    if max(steps) > 1:
        number = int(np.ravel_multi_index([*map(operator.mod, starts, steps)], steps))
        starts = [*map(operator.floordiv, starts, steps)]
    x, sizes, strides = parts[number], window.output, [*map(operator.floordiv, window.stride, steps)]
    if joins_rows:
        width = _lengths(window, steps)[1]
        starts, sizes, strides = [starts[0] * width + starts[1]], [sizes[0] * width], [1]
    sizes = [(size - 1) * stride + 1 for size, stride in zip(sizes, strides, strict=True)]
    x = lax.dynamic_slice(x, (0, 0, tap[0], *starts), (*x.shape[:2], 1, *sizes))
    return lax.slice(x, (0,) * x.ndim, x.shape, (1, 1, 1, *strides))


def _small_taps(inputs: int, window: Window) -> list[tuple[int, ...]]:
    """Return the positions in the kernel of a group: channel and spatial position."""
    return [(channel, *tap) for channel in range(inputs) for tap in window.taps()]


def _small_output(x: jax.Array, weight: jax.Array, window: Window) -> jax.Array:
    """Compute the output for groups of few channels, in torch's layout."""
    taps = _small_taps(weight.shape[1], window)
    # XLA computes the end of each row element by element, which costs more than another copy of the output.
    joins_rows = x.ndim == 4 and len(taps) >= JOINED and window.output[1] % VECTOR > 0
    parts = _padded_groups(x, window, joins_rows)
    weight = weight.reshape(window.groups, -1, *weight.shape[1:])
    ones = (1,) * (parts[0].ndim - 3)

    def term(tap: Tap) -> jax.Array:
        element = lax.dynamic_slice(weight, (0, 0, *tap), (*weight.shape[:2], *(1 for _ in tap)))
        return _elements(parts, tap, window, joins_rows) * element.reshape(1, *weight.shape[:2], *ones)

    y = _partial_sums(term, taps)
    if not joins_rows:
        return y.reshape(x.shape[0], -1, *window.output)
    height, width = window.output
    return materialized(y).reshape(x.shape[0], -1, height, _lengths(window, window.stride)[1])[..., :width]


def _small_input_gradient(g: jax.Array, weight: jax.Array, window: Window) -> jax.Array:
    pads = tuple(
        (d * (k - 1) - before, size - o + before)
        for size, k, (before, _), d, o in zip(
            window.size, window.kernel, window.pads, window.dilation, window.output, strict=True
        )
    )
    back = window._replace(size=window.output, pads=pads)
    return _small_output(g, _exchanged(weight, window.groups).swapaxes(0, 1), back)


def _small_kernel_gradient(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """Compute the weight's gradient for groups of few channels, in torch's layout; see :func:`_shifted_kernel`."""
    n, outputs, rows, *rest = g.shape
    each = -(-rows // -(-rows // ROWS))
    block = -(-rows // each)
    more = each * block - rows
    (before, after), *pads = window.pads
    window = window._replace(pads=((before, after + more), *pads))
    (x,) = _padded_groups(x, window)
    g = _pad(g, [(0, 0, 0), (0, 0, 0), (0, more, 0), *((0, 0, 0) for _ in rest)])
    g = g.reshape(n, window.groups, -1, *g.shape[2:])
    ones = jnp.ones(block * math.prod(rest), x.dtype)

    def product(tap: Tap) -> jax.Array:
        elements = _elements([x], tap, window)
        parts = [[lax.slice_in_dim(a, i * block, (i + 1) * block, axis=3) for a in (elements, g)] for i in range(each)]
        return functools.reduce(operator.add, [a * b for a, b in parts])

    def sums(*taps: Tap) -> jax.Array:
        # The batch stays the first axis, which may be sharded over devices.
        terms = materialized(jnp.stack([*map(product, taps)], 1))
        return (terms.reshape(-1, len(ones)) @ ones).reshape(n, len(taps), outputs).sum(0)

    kernel = _joined_sums(sums, _small_taps(x.shape[2], window), 3)
    return kernel.reshape(-1, outputs).T.reshape(outputs, x.shape[2], *window.kernel)


def _has_large_groups(x: jax.Array, weight: jax.Array, window: Window) -> bool:
    """Return whether XLA's convolution is fast for each group of images."""
    is_dense = x.ndim == 4 and max(window.dilation) == 1 and not window.is_blocks and x.dtype != jnp.float64
    channels = min(weight.shape[1], weight.shape[0] // window.groups)
    return is_dense and not window.channels_last and 1 < window.groups <= UNROLLED and channels >= WIDTH


def _large_output(x: jax.Array, weight: jax.Array, window: Window) -> jax.Array:
    """Compute the output for groups of many channels by one convolution for each group, in torch's layout."""
    one, groups = window._replace(groups=1), window.groups
    parts = zip(jnp.split(x, groups, 1), jnp.split(weight, groups), strict=True)
    return jnp.concatenate(
        [materialized(native(materialized(x), weight, result="output", window=one)) for x, weight in parts], 1
    )


def _block_output(x: jax.Array, weight: jax.Array, window: Window) -> jax.Array:
    """Compute the output for one group and windows that do not overlap, in torch's layout."""
    blocks = _blocks(x, window, channels_last=False).reshape(len(x), -1, math.prod(weight.shape[1:]))
    y = jnp.einsum("of,npf->nop", weight.reshape(len(weight), -1), blocks)
    return y.reshape(*y.shape[:2], *window.output)


def _block_kernel_gradient(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """Compute the weight's gradient for one group and windows that do not overlap, in torch's layout."""
    blocks = _blocks(x, window, channels_last=False)
    g = materialized(jnp.moveaxis(g, 1, 0)).reshape(g.shape[1], -1)
    return (g @ blocks).reshape(len(g), x.shape[1], *window.kernel)


def _merged(groups: int, channels: int) -> int:
    """Return the number of groups that are merged into one dense convolution."""
    return max(count for count in range(1, max(1, WIDTH // channels) + 1) if groups % count == 0)


def _split(x: jax.Array, chunks: int) -> jax.Array:
    """Split channels into chunks along a new first axis."""
    return materialized(jnp.moveaxis(x.reshape(*x.shape[:-1], chunks, -1), -2, 0))


def _each(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Map a function over the first axis."""
    if len(arrays[0]) > UNROLLED:
        return lax.map(lambda arrays: function(*arrays), arrays)
    return jnp.stack([function(*slices) for slices in zip(*arrays, strict=True)])


def _in_float32(compute: Callable[..., jax.Array], a: jax.Array, b: jax.Array, window: Window) -> jax.Array:
    """Compute in float32 or more, because sums in half precision are inexact."""
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return compute(a.astype(wide), b.astype(wide), window).astype(a.dtype)


def _output(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    groups, (inputs, outputs) = window.groups, kernel.shape[-2:]
    if groups == 1:
        return _dense(x, kernel, window)
    if inputs == 1 and window.library == "onednn" and x.ndim == 4 and outputs == groups:
        return _grouped(x, kernel, window)
    if inputs == 1:  # oneDNN is slow with several outputs for each channel
        return _in_float32(_shifted, x, kernel, window)
    merged = _merged(groups, max(inputs, outputs // groups))
    chunks, one = groups // merged, window._replace(groups=1)
    kernel = kernel.reshape(*window.kernel, 1, inputs, chunks, merged, outputs // groups)
    own = jnp.eye(merged, dtype=bool).reshape(*(1 for _ in window.kernel), merged, 1, 1, merged, 1)
    kernel = jnp.where(own, kernel, 0).reshape(*window.kernel, merged * inputs, outputs)
    if window.library == "onednn" and x.ndim < 5 and chunks > 1:
        return _grouped(x, materialized(kernel), window._replace(groups=chunks))
    y = _each(lambda x, kernel: _dense(x, kernel, one), _split(x, chunks), _split(kernel, chunks))
    return jnp.moveaxis(y, 0, -2).reshape(x.shape[0], *window.output, outputs)


def _kernel_gradient(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    groups, inputs, outputs = window.groups, x.shape[-1] // window.groups, g.shape[-1]
    if groups == 1:
        return _dense_kernel(x, g, window)
    if inputs == 1 and window.library == "onednn" and x.ndim == 4 and math.prod(window.kernel) > 9:
        return _tall_kernel(x, g, window)
    if inputs == 1:
        return _in_float32(_shifted_kernel, x, g, window)
    merged = _merged(groups, max(inputs, outputs // groups))
    chunks, one = groups // merged, window._replace(groups=1)
    kernel = _each(lambda x, g: _dense_kernel(x, g, one), _split(x, chunks), _split(g, chunks))
    kernel = kernel.reshape(chunks, *window.kernel, merged, inputs, merged, outputs // groups)
    kernel = jnp.diagonal(kernel, axis1=-4, axis2=-2)  # (chunks, *kernel, inputs, outputs of a group, merged)
    return jnp.moveaxis(kernel, (0, -1), (-3, -2)).reshape(*window.kernel, inputs, outputs)


def _input_gradient(g: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    groups, inputs, stride = window.groups, kernel.shape[-2], window.stride
    axes = range(len(stride))
    if max(stride) > 1 and max(window.dilation) > 1:
        g = _pad(g, [(0, 0, 0), *((0, 0, s - 1) for s in stride), (0, 0, 0)])
        stride = (1,) * len(stride)
    taps = [-(-k // s) for k, s in zip(window.kernel, stride, strict=True)]
    more = [(0, t * s - k, 0) for t, s, k in zip(taps, stride, window.kernel, strict=True)]
    kernel = _pad(kernel, [*more, (0, 0, 0), (0, 0, 0)])
    kernel = kernel.reshape(*itertools.chain(*zip(taps, stride, strict=True)), inputs, groups, -1)
    order = (*(2 * i for i in axes), -1, -2, *(1 + 2 * i for i in axes), -3)
    kernel = lax.rev(kernel.transpose(*(axis % kernel.ndim for axis in order)), tuple(axes))
    kernel = materialized(kernel.reshape(*taps, kernel.shape[len(taps)], -1))
    # Blocks of `stride` pixels, from the first to the last block that overlaps the input.
    first = [before // s for (before, _), s in zip(window.pads, stride, strict=True)]
    last = [-(-(size + p[0]) // s) for size, p, s in zip(window.size, window.pads, stride, strict=True)]
    pads = tuple(
        (d * (t - 1) - a, b - size)
        for d, t, a, b, size in zip(window.dilation, taps, first, last, g.shape[1:-1], strict=True)
    )
    back = Window(g.shape[1:-1], tuple(taps), (1,) * len(taps), pads, window.dilation, groups, library=window.library)
    x = _interleaved(_output(g, kernel, back), stride, groups)
    starts = [before - a * s for (before, _), a, s in zip(window.pads, first, stride, strict=True)]
    return lax.slice(x, (0, *starts, 0), (x.shape[0], *map(operator.add, starts, window.size), x.shape[-1]))


_CPU = {"output": _output, "input": _input_gradient, "weight": _kernel_gradient}
_BLOCKS = {"output": _block_output, "weight": _block_kernel_gradient}
_SMALL = {"output": _small_output, "input": _small_input_gradient, "weight": _small_kernel_gradient}


def _compute_on_cpu(a: jax.Array, b: jax.Array, *, result: Result, window: Window) -> jax.Array:
    if window.is_fast or 0 in (*a.shape, *b.shape):
        return native(a, b, result=result, window=window)
    if _has_small_groups(a, b, result, window):
        return materialized(_in_float32(_SMALL[result], a, b, window))
    if result == "output" and _has_large_groups(a, b, window):
        return _large_output(a, b, window)
    if result in _BLOCKS and window.is_blocks and window.groups == 1 and not window.channels_last:
        return _in_float32(_BLOCKS[result], a, b, window)
    compute = _CPU[result]
    if window.library == "xla":  # half precision is computed in float32, as XLA's own convolution is
        compute = functools.partial(_in_float32, compute)
    if not window.channels_last:
        a, b = jnp.moveaxis(a, 1, -1), jnp.moveaxis(b, 1, -1) if result == "weight" else _moved_last(b)
    # Without this, XLA computes the operands again for each tap, and one element at a time in another axis order.
    y = materialized(compute(materialized(a), materialized(b), window))
    if window.channels_last:
        return y
    return _moved_first(y) if result == "weight" else jnp.moveaxis(y, -1, 1)


def _moved_last(weight: jax.Array) -> jax.Array:
    """Transpose ``(C_out, C_in, *spatial)`` to ``(*spatial, C_in, C_out)``."""
    return jnp.moveaxis(weight, (0, 1), (-1, -2))


def _moved_first(kernel: jax.Array) -> jax.Array:
    return jnp.moveaxis(kernel, (-1, -2), (0, 1))


def native(a: jax.Array, b: jax.Array, *, result: Result, window: Window) -> jax.Array:
    """Compute an output or a gradient with ``lax.conv_general_dilated``, for any dtype.

    Args:
        a: The input, or for ``result="input"`` the output's gradient.
        b: The weight, or for ``result="weight"`` the output's gradient, which must be floating-point.
        result: ``"output"``, or the gradient of the ``"input"`` or the ``"weight"``.
        window: Sizes of the convolution.
    """
    spatial = "DHW"[-len(window.size) :]
    data = f"N{spatial}C" if window.channels_last else f"NC{spatial}"
    convolve = functools.partial(
        lax.conv_general_dilated, rhs_dilation=window.dilation, feature_group_count=window.groups,
        precision=window.precision,
    )  # fmt: skip

    def output(x: jax.Array, weight: jax.Array) -> jax.Array:
        weight = _moved_first(weight) if window.channels_last else weight
        return convolve(x, weight, window.stride, window.pads, dimension_numbers=(data, f"OI{spatial}", data))

    if result == "output":
        return output(a, b)
    if result == "input":
        pads = []
        sizes = zip(window.size, window.kernel, window.stride, window.pads, window.dilation, window.output, strict=True)
        for size, k, s, (before, _), d, o in sizes:
            pads.append((d * (k - 1) - before, size - (o - 1) * s - 1 + before))
        weight = _exchanged(_moved_first(b) if window.channels_last else b, window.groups)
        axes = (data, f"IO{spatial}", data)
        return convolve(a, weight, (1,) * len(pads), pads, lhs_dilation=window.stride, dimension_numbers=axes)
    channels, outputs = (array.shape[-1 if window.channels_last else 1] for array in (a, b))
    channels //= window.groups
    last, first = (*window.kernel, channels, outputs), (outputs, channels, *window.kernel)
    weight = jax.ShapeDtypeStruct(last if window.channels_last else first, a.dtype)
    return jax.linear_transpose(functools.partial(output, a), weight)(b)[0]


def _exchanged(weight: jax.Array, groups: int) -> jax.Array:
    """Return the weight ``(in, out, *kernel)`` of the convolution that computes the input's gradient."""
    outputs, inputs, *kernel = weight.shape
    weight = jnp.moveaxis(weight.reshape(groups, outputs // groups, inputs, *kernel), 0, 1) if groups > 1 else weight
    return lax.rev(weight.reshape(outputs // groups, groups * inputs, *kernel), tuple(range(2, 2 + len(kernel))))


# The axes of batch, input channels and output channels of each array, channels-last and in torch's layout.
_AXES: dict[bool, dict[str, dict[str, int]]] = {
    True: {"x": {"n": 0, "i": -1}, "w": {"i": -2, "o": -1}, "y": {"n": 0, "o": -1}},
    False: {"x": {"n": 0, "i": 1}, "w": {"i": 1, "o": 0}, "y": {"n": 0, "o": 1}},
}
_ARRAYS: dict[Result, tuple[str, str, str]] = {
    "output": ("x", "w", "y"), "input": ("y", "w", "x"), "weight": ("x", "y", "w"),
}  # fmt: skip


def _batched(
    operands: Sequence[jax.Array], dims: Sequence[int | None], *, result: Result, window: Window
) -> tuple[jax.Array, int]:
    """Batch by one larger convolution.

    The mapped axis of one operand is merged into the batch or the channels, depending on the axis that this operand
    shares with the result. A mapped axis of both operands becomes additional groups.
    """
    names, axes = _ARRAYS[result], _AXES[window.channels_last]
    count = next(x.shape[dim] for x, dim in zip(operands, dims, strict=True) if dim is not None)
    if count == 0:
        return jax.vmap(functools.partial(native, result=result, window=window), dims)(*operands), 0
    if None in dims:
        (letter,) = axes[names[1 - dims.index(None)]].keys() & axes[names[2]].keys()
        letters, blocks, larger = dict.fromkeys("xwy", letter), window.groups, window
    else:
        letters, blocks = {"x": "i", "w": "o", "y": "o"}, 1
        larger = window._replace(groups=window.groups * count, is_fast=False)
    larger = larger._replace(library="xla")

    def place(name: str) -> tuple[int, int]:
        """Return the axis to merge into, and its number of blocks. A weight has the input channels of one group."""
        letter = letters[name]
        return axes[name][letter], blocks if letter == "o" or (name, letter) == ("x", "i") else 1

    joined = [
        x if dim is None else _joined(x, dim, *place(name)) for x, dim, name in zip(operands, dims, names, strict=False)
    ]
    out = _conv.bind(*joined, result=result, window=larger)
    axis, parts = place(names[2])
    axis, size = axis % out.ndim, out.shape[axis] // count
    out = out.reshape(*out.shape[:axis], parts, count, size // parts, *out.shape[axis + 1 :])
    out = jnp.moveaxis(out, axis + 1, 0)
    return out.reshape(count, *out.shape[1 : 1 + axis], size, *out.shape[3 + axis :]), 0


def _joined(x: jax.Array, dim: int, axis: int, blocks: int) -> jax.Array:
    """Merge the axis ``dim`` into another axis, between its blocks and their elements."""
    x = jnp.moveaxis(x, dim, 0)
    count, axis = x.shape[0], axis % (x.ndim - 1)
    shape = x.shape[1:]
    x = x.reshape(count, *shape[:axis], blocks, shape[axis] // blocks, *shape[axis + 1 :])
    return jnp.moveaxis(x, 0, axis + 1).reshape(*shape[:axis], count * shape[axis], *shape[axis + 1 :])


_conv = trilinear("convolution_nd", native, _compute_on_cpu, _batched)


def add_bias(output: jax.Array, bias: jax.Array | None, axis: int) -> jax.Array:
    """Add a bias along ``axis``. Half precision is added in float32, so that the bias's gradient is a float32 sum."""
    if bias is None:
        return output
    is_float = jnp.issubdtype(output.dtype, jnp.floating)
    wide = jnp.promote_types(output.dtype, jnp.float32) if is_float else output.dtype
    vector = bias.astype(wide).reshape(*(-1 if i == axis else 1 for i in range(output.ndim)))
    return (output.astype(wide) + vector).astype(output.dtype)


def convolution_nd(
    a: jax.Array, weight: jax.Array, bias: jax.Array | None, *, result: Literal["output", "input"], window: Window
) -> jax.Array:
    """Cross-correlate ``(N, C_in, *spatial)`` with a weight ``(C_out, C_in / groups, *kernel)``, or transpose this map.

    Args:
        a: Input of float16, bfloat16, float32 or float64; ``(N, C_out, *spatial)`` for ``result="input"``.
        weight: Weight of the same dtype.
        bias: Bias for the channels of the result, or None.
        result: ``"output"``, or ``"input"`` for the transposed convolution.
        window: Sizes of the convolution. Operands have torch's layout; ``channels_last`` selects the layout of the
            computation.

    >>> x, weight = jnp.ones((1, 2, 4)), jnp.ones((2, 1, 3))
    >>> window = Window((4,), (3,), (1,), ((0, 0),), (1,), groups=2)
    >>> convolution_nd(x, weight, None, result="output", window=window).tolist()
    [[[3.0, 3.0], [3.0, 3.0]]]
    """
    if not window.channels_last:
        return add_bias(_conv.bind(a, weight, result=result, window=window), bias, 1)
    y = _conv.bind(materialized(jnp.moveaxis(a, 1, -1)), _moved_last(weight), result=result, window=window)
    if bias is not None:
        y = with_bias(y.reshape(len(y), -1, *y.shape[-2:]), bias).reshape(y.shape)
    return jnp.moveaxis(y, -1, 1)


def native_convolution(
    a: jax.Array, weight: jax.Array, bias: jax.Array | None, *, result: Literal["output", "input"], window: Window
) -> jax.Array:
    """Compute :func:`convolution_nd` with ``lax.conv_general_dilated`` on every platform, for any dtype.

    >>> x, weight = jnp.ones((1, 2, 4), int), jnp.ones((2, 1, 3), int)
    >>> window = Window((4,), (3,), (1,), ((0, 0),), (1,), groups=2, channels_last=False)
    >>> native_convolution(x, weight, None, result="output", window=window).tolist()
    [[[3, 3], [3, 3]]]
    """
    return add_bias(native(a, weight, result=result, window=window), bias, 1)
