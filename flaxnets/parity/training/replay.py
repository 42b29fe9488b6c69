"""Replay an optimizer on recorded gradients, without the model, and compare its updates with Flax's."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from flaxnets.parity.training.update_rules import Settings, Updater

# The largest error that passes in a replay, relative to the largest step of a parameter. Only the arithmetic of the
# optimizer causes rounding errors in a replay.
_GATE = 1e-10
_SAMPLED = 20_000  # This number of elements is enough to distinguish two optimizers.

Plan = tuple[str, Sequence[Settings]]  # The name of an update rule, and its settings at each step.


@dataclasses.dataclass(frozen=True)
class Recording:
    """The gradients and updates of one side's optimizer, as flat vectors of all parameters.

    Attributes:
        names: the names of the parameters, in order.
        sizes: the numbers of elements of the parameters.
        raw: the gradients of each step.
        clipped: the gradients after the clipping of torch's loop.
        values: the parameters before the first step, and after each step.
        active: for each step, the elements that torch's optimizer updates.
        plan: torch's rule and settings.
    """

    names: list[str]
    sizes: list[int]
    raw: list[np.ndarray]
    clipped: list[np.ndarray]
    values: list[np.ndarray]
    active: list[Any]
    plan: Plan

    def gates(self) -> np.ndarray:
        """Return the largest error of each element that passes after one step."""
        steps = np.max([np.abs(b - a) for a, b in zip(self.values, self.values[1:], strict=False)], axis=0)
        heights = np.max([np.abs(v) for v in self.values], axis=0)
        gates = np.concatenate(
            [
                np.full(len(s), _GATE * s.max(initial=0.0) + 64 * np.finfo(float).eps * h.max(initial=0.0))
                for s, h in zip(self.split(steps), self.split(heights), strict=True)
            ]
            or [np.zeros(0)]
        )
        return np.maximum(gates, np.finfo(float).tiny)

    def split(self, flat: np.ndarray) -> list[np.ndarray]:
        """Split a flat vector into the parts of the parameters."""
        return np.split(flat, np.cumsum(self.sizes)[:-1])

    def residuals(self, plan: Plan) -> np.ndarray:
        """Return the error / gate of each element after each step, where each step starts from the recorded values."""
        updater, gates = Updater(*plan), self.gates()
        rows = []
        for n, before in enumerate(self.values[:-1]):
            after = updater.step(n, self.raw[n], self.clipped[n], before, self.active[n])
            with np.errstate(all="ignore"):
                rows.append((after - self.values[n + 1]) / gates)
        return np.asarray(rows)

    def errors(self, plan: Plan) -> np.ndarray:
        """Return the largest error / gate of each parameter; infinity for NaN."""
        worst = np.abs(self.residuals(plan)).max(axis=0)
        worst = np.where(np.isnan(worst), np.inf, worst)
        return np.array([part.max(initial=0.0) for part in self.split(worst)])

    def plan_of(self, names: Collection[str]) -> Plan:
        """Return torch's plan for the elements of the named parameters."""
        index, (kind, settings) = np.repeat([name in names for name in self.names], self.sizes), self.plan
        return kind, [{key: _picked(value, index) for key, value in h.items()} for h in settings]

    def sampled(self) -> "Recording":
        """Return the recording of a sample of each parameter's elements, enough to distinguish optimizers."""
        if sum(self.sizes) <= _SAMPLED:
            return self
        limit = max(16, _SAMPLED // len(self.sizes))
        starts = np.cumsum([0, *self.sizes[:-1]])
        rng = np.random.default_rng(0)
        samples = [
            start + (np.arange(size) if size <= limit else np.sort(rng.choice(size, limit, replace=False)))
            for start, size in zip(starts, self.sizes, strict=True)
        ]
        index = np.concatenate(samples)
        kind, settings = self.plan
        return Recording(
            self.names,
            [len(each) for each in samples],
            raw=[_picked(g, index) for g in self.raw],
            clipped=[_picked(g, index) for g in self.clipped],
            values=[_picked(v, index) for v in self.values],
            active=[_picked(a, index) for a in self.active],
            plan=(kind, [{key: _picked(value, index) for key, value in h.items()} for h in settings]),
        )


def _picked(value: Any, index: np.ndarray) -> Any:
    return value[index] if isinstance(value, np.ndarray) and value.ndim else value


def flat(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Concatenate the named arrays to one flat vector.

    >>> flat({"b": np.ones(1), "a": np.zeros((1, 2))}, ["a", "b"]).tolist()
    [0.0, 0.0, 1.0]
    """
    return np.concatenate([np.asarray(arrays[name], np.float64).reshape(-1) for name in names] or [np.zeros(0)])


def joined(settings: Sequence[Settings], sizes: Sequence[int]) -> dict[str, Any]:
    """Return the settings of all elements: one value if the parameters agree, otherwise an array.

    >>> joined([{"lr": 0.1, "eps": 0.0}, {"lr": 0.2, "eps": 0.0}], [1, 2])
    {'lr': array([0.1, 0.2, 0.2]), 'eps': 0.0}
    """
    result = {}
    for key in settings[0]:
        values = [each[key] for each in settings]
        result[key] = values[0] if all(v == values[0] for v in values) else np.repeat(np.array(values), sizes)
    return result


def fit(residuals: Callable[[np.ndarray], np.ndarray], starts: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Find numbers for which all residuals are at most 1. Return the best numbers and their largest residual.

    The function runs Gauss-Newton steps from the two best starts. Residuals that are not finite count as infinite.
    """

    def measured(z: np.ndarray) -> tuple[np.ndarray, float]:
        with np.errstate(all="ignore"):
            r = residuals(z).reshape(-1)
            norm = float(np.sqrt(np.sum(r * r))) if np.all(np.isfinite(r)) else float("inf")
        return r, norm

    ranked = sorted(((measured(z)[1], i) for i, z in enumerate(starts)))[:2]
    best, smallest = starts[ranked[0][1]], float("inf")
    for norm, i in ranked:
        if not np.isfinite(norm):
            continue
        z = _descend(measured, starts[i])
        worst = float(np.abs(measured(z)[0]).max(initial=0.0))
        if worst < smallest:
            best, smallest = z, worst
        if smallest <= 1:
            break
    return best, smallest


def _descend(measured: Callable[[np.ndarray], tuple[np.ndarray, float]], z: np.ndarray) -> np.ndarray:
    r, norm = measured(z)
    good = 0
    for _ in range(25):
        columns = []
        for i in range(len(z)):
            step = 1e-6 * max(1.0, abs(z[i]))
            ahead = z + step * np.eye(len(z))[i]
            columns.append((measured(ahead)[0] - r) / step)
        slopes = np.stack(columns, 1)
        if not np.all(np.isfinite(slopes)):
            return z
        direction = np.linalg.lstsq(slopes, -r, rcond=None)[0]
        for length in (1.0, 0.5, 0.2, 0.05):
            candidate, smaller = measured(z + length * direction)
            if smaller < norm:
                break
        else:
            return z
        slow = smaller > 0.7 * norm
        z, r, norm = z + length * direction, candidate, smaller
        good += bool(np.abs(r).max(initial=0.0) <= 1)  # Two more steps make the number exact.
        if good > 2 or (slow and not good and norm > 1e3):
            return z
    return z
