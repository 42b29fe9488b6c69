"""Relative and absolute errors between two arrays."""

import numpy as np


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest deviation, relative to the largest expected magnitude.

    Infinities and NaN must be at the same positions in both arrays.
    """
    return scaled_error(expected, found, largest(expected))


def scaled_error(expected: np.ndarray, found: np.ndarray, scale: float) -> float:
    """Return the largest deviation, relative to a scale; the absolute deviation if the scale is zero."""
    return deviation(expected, found) / scale if scale else deviation(expected, found)


def largest(array: np.ndarray) -> float:
    """Return the largest finite magnitude; 0 if no element is finite."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def deviation(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest absolute deviation.

    The result is infinity if the shapes differ, or if an element is infinite or NaN in only one array.
    """
    if expected.shape != found.shape:
        return float("inf")
    wide = np.result_type(expected.dtype, np.float64)
    a, b = expected.astype(wide), found.astype(wide)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        worst = float(np.where(same, 0.0, np.abs(a - b)).max(initial=0.0))
    return float("inf") if np.isnan(worst) else worst
