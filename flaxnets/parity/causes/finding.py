"""Search for a known mistake that explains a difference."""

import contextlib
import functools
import itertools
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flaxnets.parity._torch import torch
from flaxnets.parity.causes import (
    activations,
    arithmetic,
    arrangement,
    attention,
    normalization,
    precision,
    recurrent,
    spatial,
    structure,
    training,
    unknowns,
)
from flaxnets.parity.causes.sites import Described, Key, Note, Site, Watched
from flaxnets.parity.causes.suspects import suspicious
from flaxnets.parity.causes.variants import (
    COMMON,
    Cause,
    Hints,
    Unknown,
    Variant,
    argument,
    at_sites,
    guarded,
    number,
    setting,
)
from flaxnets.parity.measures import relative_error
from flaxnets.parity.run import Outcome

if TYPE_CHECKING:
    from flaxnets.parity.isolation import Isolated

SITE_RULES = (
    *normalization.SITE_RULES, *activations.SITE_RULES, *spatial.SITE_RULES, *recurrent.SITE_RULES,
    *attention.SITE_RULES, *arrangement.SITE_RULES, *training.SITE_RULES, *precision.SITE_RULES,
    *arithmetic.SITE_RULES,
)  # fmt: skip
MODULE_RULES = (
    *normalization.MODULE_RULES, *attention.MODULE_RULES, *arrangement.MODULE_RULES, *structure.MODULE_RULES,
    *unknowns.MODULE_RULES, *training.MODULE_RULES, *arithmetic.MODULE_RULES,
)  # fmt: skip

# The budget of a search is a number of runs of the torch module, so that every machine tries the same mistakes. For
# large modules, the CPU time is also limited.
RUNS = 6000
_SECONDS = 60.0
# The largest number of combined mistakes.
_DEPTH = 3
_BEAM = 4

# The largest relative change of a module's outputs that another order of additions causes.
_ROUNDING = 1e-9

# The ranks that are added for a mistake in a call whose surroundings agree.
_FAR = 4


def find_cause(isolated: "Isolated", runs: int = RUNS) -> Cause | None:
    """Find the mistake that makes a Flax module differ from a torch module.

    The search makes each known mistake in a copy of the torch module. A mistake is the cause if this copy has the same
    outputs, buffers and gradients as the Flax module.

    Args:
        isolated: the two modules, the inputs, and both outcomes.
        runs: the largest number of runs of the torch module.

    Returns:
        The cause, or None if the two agree, or if no known mistake explains the difference.
    """
    before = isolated.error(isolated.expected)
    if before <= 1:
        return None
    cause = precision.find_narrow(isolated, before)
    if cause is not None:
        return cause
    with warnings.catch_warnings(), _one_thread():
        warnings.simplefilter("ignore")  # Torch may warn about a call with a mistake.
        try:
            search = _Search(isolated, runs)
        except Exception:  # The calls of some modules cannot be recorded.
            return None
        result = search.tied() or search.single(0.6) or search.number(0.75) or search.several(1.0)
    if result is None:
        return None
    variant, after = result
    return Cause(variant.name, variant.text, variant.fix, before, after)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Return a context in which torch uses one thread: for small calls, the synchronisation of threads is slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


Found = tuple[Variant, float]


class _Search:
    def __init__(self, isolated: "Isolated", runs: int):
        self.isolated, self.limit, self.runs = isolated, runs, 0
        self.begin = time.thread_time()
        self.watched = Watched(isolated.torch_module)
        with torch.no_grad():
            unchanged = self.watched.run(isolated.run, {})
            if any(relative_error(a, b) > _ROUNDING for a, b in _arrays(unchanged, isolated.expected)):
                self.watched.is_out_of_place = False
            self.sites = sites = self.watched.record(isolated.run)
        hints = Hints.of(isolated.flax_module)
        proposals = list(_proposals(sites, hints))
        self.unknowns = [p for p in proposals if isinstance(p, Unknown)]
        self.base = self.progress(isolated.expected)
        variants = [p for p in proposals if isinstance(p, Variant)]
        if self.base[0] > 1:
            # A stopped gradient cannot explain a wrong output.
            variants = [v for v in variants if not v.name.startswith("stop-gradient")]
        suspects = self._suspects(sites)
        self.variants = sorted(variants, key=lambda v: v.rank + _FAR * suspects.isdisjoint(_changed(v)))
        self.unknowns.sort(key=lambda u: suspects.isdisjoint(u.variant(u.start).plan))
        self.improving: list[tuple[float, Variant]] = []
        # Gradients are comparable only if Flax's outputs have the shapes of torch's cotangents.
        pairs = zip(isolated.expected.outputs, isolated.observed.outputs, strict=False)
        self.has_gradients = all(a.shape == b.shape for a, b in pairs)

    def _suspects(self, sites: Sequence[Site]) -> set[Key]:
        """Return the calls in which mistakes are tried first: all calls, unless an output is wrong."""
        errors = self.isolated.errors(self.isolated.expected)
        has_wrong_output = any(kind == "output" and not error <= gate for kind, _, error, gate in errors)
        return (has_wrong_output and suspicious(self.isolated, sites)) or {site.key for site in sites}

    def is_late(self, part: float) -> bool:
        """Return whether the search has used this fraction of its budget."""
        return self.runs > part * self.limit or time.thread_time() - self.begin > part * _SECONDS

    def run(self, variant: Variant, gradients: bool = False) -> Outcome | None:
        """Run the torch module with a mistake. Return None if the mistake does not apply to these calls."""
        self.runs += 1
        try:
            with torch.set_grad_enabled(gradients):
                return self.watched.run(self.isolated.run, variant.plan)
        except Exception:  # The mistake does not fit the shapes of these calls.
            return None

    def progress(self, outcome: Outcome) -> tuple[float, float]:
        """Return the largest error / gate of outputs and buffers, and the sum of their errors."""
        ratios, total = [0.0], 0.0
        for kind, _, error, gate in self.isolated.errors(outcome):
            if kind in ("output", "buffer"):
                ratios.append(error / gate if error == error else float("inf"))
                total += min(error, 10.0) if error == error else 10.0
        return max(ratios), total

    def accepted(self, variant: Variant, outcome: Outcome | None) -> float | None:
        """Return the remaining error if the mistake explains the whole difference, otherwise None."""
        if outcome is None:
            return None
        worst, total = self.progress(outcome)
        if worst > 1:
            if total < 0.98 * self.base[1]:
                self.improving.append((total, variant))
            return None
        if not self.has_gradients:
            return worst
        full = self.run(variant, gradients=True)
        error = float("inf") if full is None else self.isolated.error(full)
        if error <= 1:
            return error
        self.improving.append((total, variant))
        return None

    def single(self, part: float) -> Found | None:
        """Return the first single mistake that explains the difference."""
        for variant in self.variants:
            if self.is_late(part):
                return None
            error = self.accepted(variant, self.run(variant))
            if error is not None:
                return variant, error
        return None

    def tied(self) -> Found | None:
        """Find weights that are shared in torch and separate in Flax: each Flax weight has only its own gradient."""
        uses: dict[str, list[Site]] = {}
        for site in self.sites:
            if site.function in ("linear", "embedding"):
                weight = argument(site, "weight")
                if isinstance(weight, Described) and weight.name is not None:
                    uses.setdefault(weight.name, []).append(site)
        shared = [sites for sites in uses.values() if len({site.key.module for site in sites}) > 1]
        if self.base[0] > 1 or not shared:
            return None
        errors: dict[tuple[str, str], float] = {}
        for use in [site for sites in shared for site in sites]:
            others = [s for sites in shared for s in sites if s.key.module != use.key.module]
            plan = {s.key: setting(s.function, weight=lambda w: w.detach()) for s in others}
            outcome = self.run(Variant("", "", "", plan), gradients=True)
            if outcome is None:
                return None
            for kind, name, error, gate in self.isolated.errors(outcome):
                errors[kind, name] = min(errors.get((kind, name), float("inf")), error / gate)
        names = " and ".join(dict.fromkeys(site.where for site in shared[0]))
        text = f"Flax has separate weights where torch's {names} share one weight: each has only its own gradient."
        variant = Variant("tied-weights", text, "use one nnx.Param in both layers", {}, COMMON)
        return (variant, max(errors.values())) if max(errors.values()) <= 1 else None

    def number(self, part: float) -> Found | None:
        """Find a mistake that contains an unknown number, and solve for the number."""
        if self.base[0] <= 1:
            return None
        for unknown in self.unknowns:
            if self.is_late(part):
                return None
            value = self.solved(unknown)
            if value is None:
                continue
            for candidate in (float(number(value)), value):
                variant = unknown.variant(candidate)
                error = self.accepted(variant, self.run(variant))
                if error is not None:
                    return variant, error
        return None

    def solved(self, unknown: Unknown) -> float | None:
        """Return the number for which torch's outputs are closest to Flax's, by the secant method."""
        target = _vector(self.isolated.observed)
        old_value, old = unknown.start, _vector(self.isolated.expected)
        if target.shape != old.shape or not np.isfinite(target).all():
            return None
        value = unknown.start * 1.01 if unknown.start else 0.01
        misfit = remaining = np.linalg.norm(target - old)
        for _ in range(12):
            outcome = self.run(unknown.variant(value))
            if outcome is None:
                return None
            new = _vector(outcome)
            if new.shape != target.shape or value == old_value or not np.isfinite(new).all():
                return None
            slope = (new - old) / (value - old_value)
            steepness = float(slope @ slope)
            if not steepness:
                return None
            old_value, old = value, new
            value = value + float(slope @ (target - new)) / steepness
            remaining = np.linalg.norm(target - new)
            if remaining <= 1e-13 * np.linalg.norm(target) or abs(value - old_value) <= 1e-15 * abs(value):
                return value
        return value if remaining < 1e-6 * misfit else None

    def several(self, part: float) -> Found | None:
        """Find two or three mistakes that together explain the difference. Each mistake must reduce the error."""
        beam = sorted(self.improving, key=lambda pair: pair[0])[:_BEAM]
        totals = {id(variant): total for total, variant in self.improving}
        # Common mistakes come first, then mistakes that reduce the error alone.
        candidates = sorted(self.variants, key=lambda v: (v.rank > COMMON, totals.get(id(v), float("inf")), v.rank))
        for _ in range(_DEPTH - 1):
            better: list[tuple[float, Variant]] = []
            for second, (total, first) in itertools.product(candidates, beam):
                if self.is_late(part):
                    return None
                result = self._both(total, first, second, better)
                if result:
                    return result
                if better and min(t for t, _ in better) < 0.1 * total:
                    break  # Most of the difference is explained: search for the remaining mistake now.
            beam = sorted(better, key=lambda pair: pair[0])[:_BEAM]
        return None

    def _both(self, total: float, first: Variant, second: Variant, better: list[tuple[float, Variant]]) -> Found | None:
        if second.fix in first.fix:  # One line cannot contain two mistakes.
            return None
        overlap = first.plan.keys() & second.plan.keys()
        for joined in (first.joined(second), *([second.joined(first)] if overlap else [])):
            outcome = self.run(joined)
            error = self.accepted(joined, outcome)
            if error is not None:
                return self._reduced(joined, error)
            if outcome is not None and (new_total := self.progress(outcome)[1]) < 0.98 * total:
                better.append((new_total, joined))
        return None

    def _reduced(self, variant: Variant, error: float) -> Found:
        """Remove unnecessary mistakes: two of three mistakes may cancel each other."""
        for part in variant.parts:
            rest = [p for p in variant.parts if p is not part]
            if not rest:
                continue
            fewer = functools.reduce(lambda inner, outer: outer.joined(inner), rest)
            remaining = self.accepted(fewer, self.run(fewer))
            if remaining is not None:
                return self._reduced(fewer, remaining)
        return variant, error


def _changed(variant: Variant) -> list[Key]:
    """Return the calls that a mistake changes."""
    return [key for key, change in variant.plan.items() if not isinstance(change, Note)]


def _proposals(sites: Sequence[Site], hints: Hints) -> Iterator[Variant | Unknown]:
    yield from at_sites(sites, SITE_RULES, hints)
    for rule in MODULE_RULES:
        yield from guarded(lambda rule=rule: rule(sites, hints))


def _arrays(a: Outcome, b: Outcome) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from zip(a.outputs, b.outputs, strict=True)
    yield from zip(a.buffers.values(), b.buffers.values(), strict=True)


def _vector(outcome: Outcome) -> np.ndarray:
    arrays = [np.asarray(a, np.float64).ravel() for a in outcome.outputs if a.dtype.kind == "f"]
    return np.concatenate(arrays) if arrays else np.zeros(0)
