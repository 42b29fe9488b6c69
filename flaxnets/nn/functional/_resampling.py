"""Indices and weights of resizing along one axis, computed with torch's arithmetic.

Everything is computed with numpy from sizes alone, in torch's dtypes: float64 for float64, else float32.
"""

from collections.abc import Callable

import numpy as np

Taps = tuple[np.ndarray, np.ndarray]


def _step(
    size: int, output: int, align_corners: bool, factor: float | int | None, dtype: type[np.floating]
) -> np.floating:
    """Return the distance between the centres of neighbouring outputs, in input elements."""
    if align_corners:
        return dtype(size - 1) / dtype(output - 1) if output > 1 else dtype(0)
    return dtype(1.0 / factor) if factor is not None and factor > 0 else dtype(size) / dtype(output)


def nearest(size: int, output: int, factor: float | int | None, exact: bool) -> np.ndarray:
    """Return the source index of each output; torch computes in float32 for every input dtype."""
    positions = np.arange(output)
    if not exact and output == size:
        return positions
    if not exact and output == 2 * size:
        return positions // 2
    step = _step(size, output, False, factor, np.float32)
    real = ((positions + 0.5) * np.float64(step)).astype(np.float32) if exact else positions.astype(np.float32) * step
    return np.minimum(np.floor(real).astype(np.int64), size - 1)


def _split(real: np.ndarray, size: int) -> Taps:
    """Split positions into index and remainder; torch floors in float32 even for float64."""
    index = np.minimum(np.floor(real.astype(np.float32)).astype(np.int64), size - 1)
    return index, np.clip(real - index.astype(real.dtype), 0, 1)


def _source(
    size: int, output: int, align_corners: bool, factor: float | int | None, dtype: type[np.floating]
) -> np.ndarray:
    step, positions = _step(size, output, align_corners, factor, dtype), np.arange(output).astype(dtype)
    return step * positions if align_corners else step * (positions + dtype(0.5)) - dtype(0.5)


def linear(size: int, output: int, align_corners: bool, factor: float | int | None, dtype: type[np.floating]) -> Taps:
    """Return indices and weights of the two neighbours, both ``(output, 2)``."""
    if size == output:
        index, rest = np.arange(size), np.zeros(size, dtype)
        return np.stack([index, index], 1), np.stack([1 - rest, rest], 1)
    index, rest = _split(np.maximum(_source(size, output, align_corners, factor, dtype), 0), size)
    return np.stack([index, np.minimum(index + 1, size - 1)], 1), np.stack([1 - rest, rest], 1)


def cubic_weights(x, a: float = -0.75) -> list:
    """Return the weights of the four neighbours of a point at distance ``x`` from the second; numpy or JAX arrays."""

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(x + 1), near(x), near(1 - x), far(2 - x)]


def cubic(size: int, output: int, align_corners: bool, factor: float | int | None, dtype: type[np.floating]) -> Taps:
    """Return indices and weights of the four neighbours, both ``(output, 4)``."""
    index, rest = _split(_source(size, output, align_corners, factor, dtype), size)
    return np.clip(index[:, None] + np.arange(-1, 3), 0, size - 1), np.stack(cubic_weights(rest), 1)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - abs(x), 0)


def _bicubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


FILTERS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "bilinear": (2, _triangle),
    "bicubic": (4, _bicubic),
    "lanczos": (6, _lanczos),
}


def antialiased(
    size: int, output: int, align_corners: bool, factor: float | int | None, dtype: type[np.floating], mode: str
) -> Taps:
    """Return indices and weights of the elements under a filter as wide as the step.

    The index ``size`` marks an unused position.
    """
    width, kernel = FILTERS[mode]
    step = _step(size, output, align_corners, factor, dtype)
    support = dtype(width / 2) * max(step, dtype(1))
    count = int(np.ceil(support)) * 2 + 1
    centre = (np.float64(step) * (np.arange(output) + 0.5)).astype(dtype)
    start = np.maximum(((centre - support).astype(np.float64) + 0.5).astype(np.int64), 0)
    end = np.minimum(((centre + support).astype(np.float64) + 0.5).astype(np.int64), size)
    index = start[:, None] + np.arange(count)
    inside = np.arange(count) < np.clip(end - start, 0, count)[:, None]
    distance = ((index - centre[:, None]).astype(np.float64) + 0.5) * (1 / max(step, dtype(1)))
    weights = np.where(inside, kernel(distance.astype(dtype)), 0).astype(dtype)
    total = weights.sum(1, keepdims=True)
    return np.where(inside, index, size), weights / np.where(total == 0, dtype(1), total)
