"""Errors of one array against another."""

import numpy as np


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest deviation over the largest expected value; infinities and NaN must be in the same places."""
    return scaled_error(expected, found, largest(expected))


def scaled_error(expected: np.ndarray, found: np.ndarray, scale: float) -> float:
    """Return the largest deviation over a scale; the deviation itself where the scale is zero."""
    return deviation(expected, found) / scale if scale else deviation(expected, found)


def largest(array: np.ndarray) -> float:
    """Return the largest finite magnitude; 0 if there is none."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def deviation(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest deviation; infinite for another shape, and where only one of the two is infinite or NaN."""
    if expected.shape != found.shape:
        return float("inf")
    wide = np.result_type(expected.dtype, np.float64)
    a, b = expected.astype(wide), found.astype(wide)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        worst = float(np.where(same, 0.0, np.abs(a - b)).max(initial=0.0))
    return float("inf") if np.isnan(worst) else worst
