"""The windows of a pooling call, and what stands in them; for images with channels first or last."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

Arrays = tuple[jax.Array, ...]


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

    def padded(self, x: jax.Array, axis: int, fill: float, behind: int = 0) -> jax.Array:
        """What all windows along ``axis`` hold, from the first to the last one.

        ``behind`` is the number of axes behind the spatial ones: 1 where channels come last.
        """
        length = (self.output[axis] - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1
        pads = [(0, 0, 0)] * x.ndim
        # A negative end cuts what no window reaches.
        pads[axis - behind] = (self.padding[axis], length - self.padding[axis] - self.size[axis], 0)
        return jax.lax.pad(x, jnp.asarray(fill, x.dtype), pads)

    def starts(self, x: jax.Array, axis: int, position: int, behind: int = 0) -> jax.Array:
        """What all windows along ``axis`` hold at one position, of the padded array."""
        start, stride = self.dilation[axis] * position, self.stride[axis]
        end = start + (self.output[axis] - 1) * stride + 1
        return jax.lax.slice_in_dim(x, start, end, stride, x.ndim + axis - behind)

    def slices(self, x: jax.Array, axis: int, fill: float, behind: int = 0) -> list[jax.Array]:
        """For each position in the window, what all windows along ``axis`` hold there."""
        x = self.padded(x, axis, fill, behind)
        return [self.starts(x, axis, position, behind) for position in range(self.kernel[axis])]

    def first(self, axis: int, position: int, shape: tuple[int, ...], behind: int = 0) -> jax.Array | None:
        """Which windows along ``axis`` have nothing but padding before this position; None if none has."""
        count = -(-(self.padding[axis] - self.dilation[axis] * (position - 1)) // self.stride[axis])
        # A constant array in its place is slower.
        return jax.lax.broadcasted_iota(int, shape, len(shape) + axis - behind) < count if count > 0 else None

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
