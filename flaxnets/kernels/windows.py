"""The windows of a pooling call and their elements."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

Arrays = tuple[jax.Array, ...]

COMBINED = 8  # up to this many elements of a window are combined one by one; longer windows share partial results


@dataclasses.dataclass(frozen=True, eq=False)
class Taps:
    """The elements of each window of one axis. Instances compare by identity, so that JAX compiles once for each.

    Attributes:
        size: Number of elements of the axis.
        index: Index of shape ``(windows, elements)``, in ascending order. The nearest element of the window replaces an
            element outside of the axis. A shorter window repeats its last element.
        is_inside: Mask of the elements that belong to the window.
    """

    size: int
    index: np.ndarray
    is_inside: np.ndarray

    @classmethod
    def of(cls, size: int, index: np.ndarray, is_inside: np.ndarray) -> "Taps":
        """Create taps from an index that may leave the axis. Each window needs an element inside the axis."""
        rows = np.arange(len(index))
        last = is_inside.shape[1] - 1 - is_inside[:, ::-1].argmax(1)
        bounds = index[rows, is_inside.argmax(1), None], index[rows, last, None]
        return cls(size, np.clip(index, *bounds).astype(np.int32), is_inside)

    @functools.cached_property
    def containing(self) -> np.ndarray:
        """Array ``(k, size)`` with the first, second ... window that contains each element, or -1."""
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
    """Return the windows of an axis with a constant stride, or None if a window contains only padding."""
    index = np.arange(output)[:, None] * stride - padding + np.arange(kernel) * dilation
    is_inside = (index >= 0) & (index < size)
    return Taps.of(size, index, is_inside) if is_inside.any(1).all() else None


@functools.lru_cache(maxsize=1024)
def adaptive(size: int, output: int) -> Taps:
    """Return the windows of adaptive pooling; they overlap if ``output`` does not divide ``size``."""
    starts, ends = bounds(size, output)
    index = starts[:, None] + np.arange((ends - starts).max())
    return Taps.of(size, index, index < ends[:, None])


def bounds(size: int, output: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and the end of each window of :func:`adaptive`."""
    numbers = np.arange(output)
    return numbers * size // output, -(-(numbers + 1) * size // output)


@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows of one pooling call along each spatial axis. Hashable, so that JAX compiles a reduction once."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def axes(self) -> range:
        """The spatial axes as negative numbers."""
        return range(-len(self.kernel), 0)

    @property
    def overlap(self) -> bool:
        """Whether an element can belong to several windows."""
        return any(kernel > stride for kernel, stride in zip(self.kernel, self.stride, strict=True))

    def padded(self, x: jax.Array, axis: int, fill: float) -> jax.Array:
        """Pad the array to the range of all windows along ``axis``."""
        length = (self.output[axis] - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1
        pads = [(0, 0, 0)] * x.ndim
        # Negative padding at the end removes elements that no window reaches.
        pads[axis] = (self.padding[axis], length - self.padding[axis] - self.size[axis], 0)
        return jax.lax.pad(x, jnp.asarray(fill, x.dtype), pads)

    def starts(self, x: jax.Array, axis: int, position: int) -> jax.Array:
        """Return the elements at one position of all windows along ``axis``, from the padded array."""
        start, stride = self.dilation[axis] * position, self.stride[axis]
        end = start + (self.output[axis] - 1) * stride + 1
        return jax.lax.slice_in_dim(x, start, end, stride, x.ndim + axis)

    def slices(self, x: jax.Array, axis: int, fill: float) -> list[jax.Array]:
        """Return the elements of all windows along ``axis``, one array for each position in the window."""
        x = self.padded(x, axis, fill)
        return [self.starts(x, axis, position) for position in range(self.kernel[axis])]

    def first(self, axis: int, position: int, shape: tuple[int, ...]) -> jax.Array | None:
        """Return a mask of the windows with only padding before this position, or None if there are no such windows."""
        count = -(-(self.padding[axis] - self.dilation[axis] * (position - 1)) // self.stride[axis])
        # A constant mask would be slower than this comparison.
        return jax.lax.broadcasted_iota(int, shape, len(shape) + axis) < count if count > 0 else None

    def taps(self, axis: int) -> Taps | None:
        """Return the elements of the windows along ``axis``, or None if a window contains only padding."""
        sizes = self.size, self.kernel, self.stride, self.padding, self.dilation, self.output
        return strided(*(values[axis] for values in sizes))

    def counts(self, count_include_pad: bool) -> np.ndarray:
        """Return the divisor of each window's average."""
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
    """Select, element by element, the arrays of ``other`` where its first array is larger or NaN.

    Where ``first`` is true, ``best`` is padding, so that even minus infinity is selected.
    """
    is_larger = (other[0] > best[0]) | jnp.isnan(other[0])
    is_larger = is_larger if first is None else is_larger | first
    return tuple(jnp.where(is_larger, b, a) for a, b in zip(best, other, strict=True))
