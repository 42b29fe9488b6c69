"""The windows of a pooling call, and the elements in them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

Arrays = tuple[jax.Array, ...]

COMBINED = 8  # elements of windows that XLA's own computation combines one by one; longer ones share what they can


@dataclasses.dataclass(frozen=True, eq=False)
class Taps:
    """The elements of each window of one axis. An instance equals only itself: JAX compiles once for each.

    Attributes:
        size: elements of the axis.
        index: ``(windows, elements)``, in ascending order. The window's nearest element replaces an element outside of
            the axis. A shorter window repeats its last element.
        is_inside: which elements belong to the window.
    """

    size: int
    index: np.ndarray
    is_inside: np.ndarray

    @classmethod
    def of(cls, size: int, index: np.ndarray, is_inside: np.ndarray) -> "Taps":
        """Returns the taps of an index that may leave the axis; each window has an element inside."""
        rows = np.arange(len(index))
        last = is_inside.shape[1] - 1 - is_inside[:, ::-1].argmax(1)
        bounds = index[rows, is_inside.argmax(1), None], index[rows, last, None]
        return cls(size, np.clip(index, *bounds).astype(np.int32), is_inside)

    @functools.cached_property
    def containing(self) -> np.ndarray:
        """``(k, size)``: for each element the first, second ... window that it is in, or -1."""
        windows, taps = np.nonzero(self.is_inside)
        elements = self.index[windows, taps]
        order = np.lexsort((windows, elements))
        windows, elements = windows[order], elements[order]
        number = np.arange(len(elements)) - np.searchsorted(elements, elements)
        containing = np.full((number.max() + 1, self.size), -1, np.int32)
        containing[number, elements] = windows
        return containing


@functools.lru_cache(maxsize=1024)
def strided(size: int, kernel: int, stride: int, padding: int, dilation: int, output: int) -> Taps | None:
    """The windows of an axis at equal distances; None if one of them holds padding alone."""
    index = np.arange(output)[:, None] * stride - padding + np.arange(kernel) * dilation
    is_inside = (index >= 0) & (index < size)
    return Taps.of(size, index, is_inside) if is_inside.any(1).all() else None


@functools.lru_cache(maxsize=1024)
def adaptive(size: int, output: int) -> Taps:
    """As many windows as the output has elements; they overlap where the sizes do not divide."""
    starts, ends = bounds(size, output)
    index = starts[:, None] + np.arange((ends - starts).max())
    return Taps.of(size, index, index < ends[:, None])


def bounds(size: int, output: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each window of :func:`adaptive` begins and ends."""
    numbers = np.arange(output)
    return numbers * size // output, -(-(numbers + 1) * size // output)


@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows of one pooling call, along each spatial axis; hashable, so that a reduction is compiled once."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def axes(self) -> range:
        """The spatial axes, as negative numbers."""
        return range(-len(self.kernel), 0)

    @property
    def overlap(self) -> bool:
        """Whether elements are in several windows."""
        return any(kernel > stride for kernel, stride in zip(self.kernel, self.stride, strict=True))

    def padded(self, x: jax.Array, axis: int, fill: float) -> jax.Array:
        """What all windows along ``axis`` hold, from the first to the last one."""
        length = (self.output[axis] - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1
        pads = [(0, 0, 0)] * x.ndim
        # A negative end cuts what no window reaches.
        pads[axis] = (self.padding[axis], length - self.padding[axis] - self.size[axis], 0)
        return jax.lax.pad(x, jnp.asarray(fill, x.dtype), pads)

    def starts(self, x: jax.Array, axis: int, position: int) -> jax.Array:
        """What all windows along ``axis`` hold at one position, of the padded array."""
        start, stride = self.dilation[axis] * position, self.stride[axis]
        end = start + (self.output[axis] - 1) * stride + 1
        return jax.lax.slice_in_dim(x, start, end, stride, x.ndim + axis)

    def slices(self, x: jax.Array, axis: int, fill: float) -> list[jax.Array]:
        """For each position in the window, what all windows along ``axis`` hold there."""
        x = self.padded(x, axis, fill)
        return [self.starts(x, axis, position) for position in range(self.kernel[axis])]

    def first(self, axis: int, position: int, shape: tuple[int, ...]) -> jax.Array | None:
        """Which windows along ``axis`` have nothing but padding before this position; None if none has."""
        count = -(-(self.padding[axis] - self.dilation[axis] * (position - 1)) // self.stride[axis])
        # A constant array in its place is slower.
        return jax.lax.broadcasted_iota(int, shape, len(shape) + axis) < count if count > 0 else None

    def taps(self, axis: int) -> Taps | None:
        """The elements of the windows along ``axis``; None if one of them holds padding alone."""
        sizes = self.size, self.kernel, self.stride, self.padding, self.dilation, self.output
        return strided(*(values[axis] for values in sizes))

    def counts(self, count_include_pad: bool) -> np.ndarray:
        """How many elements each window's sum is divided by."""
        total = np.ones((), np.int64)
        for axis in self.axes:
            size, padding = self.size[axis], self.padding[axis]
            start = np.arange(self.output[axis]) * self.stride[axis] - padding
            end = np.minimum(start + self.kernel[axis], size + padding)
            if not count_include_pad:
                start, end = np.maximum(start, 0), np.minimum(end, size)
            total = total[..., None] * (end - start)
        return total


def larger(best: Arrays, other: Arrays, first: jax.Array | None) -> Arrays:
    """The values, and what goes with them, of whichever has the larger first array; NaN is larger than all.

    Where ``first``, the best is padding, and loses even against minus infinity.
    """
    take = (other[0] > best[0]) | jnp.isnan(other[0])
    take = take if first is None else take | first
    return tuple(jnp.where(take, b, a) for a, b in zip(best, other, strict=True))
