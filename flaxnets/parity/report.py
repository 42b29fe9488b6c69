"""What a comparison found."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far one array of the Flax module is off.

    Attributes:
        kind: ``"output"``, ``"input gradient"``, ``"parameter gradient"`` or ``"buffer"``.
        name: which one: a position, or the name of a parameter or buffer.
        setting: mode, precision and form of the run, e.g. ``"train float64 jit"``.
        error: the largest deviation, relative to the scale of its kind.
        gate: the largest error that passes.
    """

    kind: str
    name: str
    setting: str
    error: float
    gate: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the gate; NaN is not."""
        return self.error <= self.gate

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.setting}): off by {self.error:.1e}, allowed {self.gate:.0e}"


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of :func:`flaxnets.parity.check`; ``str(report)`` is a table for people.

    Attributes:
        title: which two modules were compared.
        problems: what cannot be measured: names, shapes, dtypes or structures that differ.
        differences: everything that was measured.
        location: the innermost module that, fed with what its torch twin was fed, answers differently.
    """

    title: str
    problems: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    location: str | None = None

    @property
    def failures(self) -> tuple[Difference, ...]:
        """The differences beyond their gates, worst first."""
        failed = (difference for difference in self.differences if not difference.passed)
        # NaN compares as neither smaller nor larger: "not <=" puts it first.
        return tuple(sorted(failed, key=lambda d: (d.error <= float("inf"), -d.error)))

    @property
    def passed(self) -> bool:
        """Whether something was measured and nothing was off."""
        return bool(self.differences) and not self.problems and not self.failures

    def worst(self, kind: str, setting: str = "") -> Difference | None:
        """The largest difference of a kind, over all settings that contain the given words."""
        of_kind = [d for d in self.differences if d.kind == kind and all(w in d.setting for w in setting.split())]
        return max(of_kind, key=lambda d: (d.error != d.error, d.error), default=None)

    def __str__(self) -> str:
        lines = [f"{self.title}: {'equal' if self.passed else 'NOT equal'}"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.location:
            lines.append(f"  the fault is in {self.location}")
        if self.failures:
            lines += [f"  {failure}" for failure in self.failures[:20]]
            if len(self.failures) > 20:
                lines.append(f"  ... and {len(self.failures) - 20} more")
        else:
            for setting in dict.fromkeys(d.setting for d in self.differences):
                kinds = dict.fromkeys(d.kind for d in self.differences)
                worst = [w for kind in kinds if (w := self.worst(kind, setting))]
                lines.append(f"  {setting}: " + ", ".join(f"{w.kind} {w.error:.1e}" for w in worst))
        return "\n".join(lines)
