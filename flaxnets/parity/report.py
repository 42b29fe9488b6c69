"""The report of a comparison, as text, rich tables, JSON, Markdown and HTML."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flaxnets.parity.causes import Cause
    from flaxnets.parity.matching import Matching

Status = Literal["equal", "wrong", "carried in", "not compared"]

_SHOWN = 20  # The largest number of arrays or modules in one list.


@dataclasses.dataclass(frozen=True)
class Difference:
    """The error of one array of the Flax module.

    Attributes:
        kind: ``"output"``, ``"input gradient"``, ``"parameter gradient"`` or ``"buffer"``.
        name: Position of the array, or name of the parameter or buffer.
        mode: ``"train"`` or ``"eval"``.
        dtype: ``"float64"`` or ``"float32"``.
        run: ``"eager"`` or ``"jit"``.
        error: Largest deviation, relative to the scale of its kind.
        gate: Largest error that passes.
    """

    kind: str
    name: str
    mode: str
    dtype: str
    run: str
    error: float
    gate: float

    @property
    def setting(self) -> str:
        """Mode, dtype and run as one string, such as ``"train float64 jit"``."""
        return f"{self.mode} {self.dtype} {self.run}"

    @property
    def passed(self) -> bool:
        """Whether the error is within the gate; a NaN error never passes."""
        return self.error <= self.gate

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.setting}): off by {self.error:.1e}, allowed {self.gate:.0e}"


@dataclasses.dataclass(frozen=True)
class Location:
    """The first module that differs from its PyTorch twin; ``str(location)`` is one sentence.

    Attributes:
        torch_name: name of the module in PyTorch; empty for the outermost module.
        torch_type: class of the module in PyTorch.
        flax_name: path of the twin in the Flax module.
        flax_type: class of the twin.
        details: the first array that differs, with its error.
        between: the two calls of submodules between which the difference begins; None if the module has no submodules,
            or if the calls do not show where the difference begins.
        cause: the known mistake that was proved to be the reason; None if no mistake was proved.
        carried: whether the module agrees with PyTorch on PyTorch's own inputs, so that its error comes from its
            inputs.
    """

    torch_name: str
    torch_type: str
    flax_name: str
    flax_type: str
    details: str
    between: str | None = None
    cause: "Cause | None" = None
    carried: bool = False

    def __str__(self) -> str:
        return f"{self.torch_name or 'the outermost module'} ({self.torch_type}): {self.details}"


@dataclasses.dataclass(frozen=True)
class ModuleRow:
    """One call of a pair of modules; rows are in order of execution.

    Attributes:
        torch_name: name of the module in PyTorch.
        flax_name: path of the twin in the Flax module.
        kind: the classes of the two modules.
        error: the error of the outputs, divided by the gate: up to 1 passes. None if nothing was measured.
        status: ``"wrong"`` if the module differs on PyTorch's own inputs, ``"carried in"`` if its error comes from its
            inputs.
    """

    torch_name: str
    flax_name: str
    kind: str
    error: float | None
    status: Status


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of :func:`flaxnets.parity.check`; ``str(report)`` is readable text.

    Attributes:
        title: the classes of the two modules.
        problems: differences that have no error to measure: names, shapes, dtypes or structures.
        differences: the errors of all compared arrays.
        location: the first module that returns a different result on the inputs and weights of its PyTorch twin.
        matching: the PyTorch tensors of each Flax variable.
        layouts: a sentence for each input and output whose axis order in Flax differs.
        modules: all pairs of modules in order of execution.
        seconds: duration of the comparison.

    >>> difference = Difference("output", "0", "eval", "float64", "jit", error=2e-16, gate=1e-12)
    >>> Report("Net / Net", differences=(difference,)).passed
    True
    """

    title: str
    problems: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    location: Location | None = None
    matching: "Matching | None" = None
    layouts: tuple[str, ...] = ()
    modules: tuple[ModuleRow, ...] = ()
    seconds: float = 0.0

    @property
    def failures(self) -> tuple[Difference, ...]:
        """The differences that exceed their gates, worst first."""
        failed = (difference for difference in self.differences if not difference.passed)
        # A comparison with NaN is false, and False sorts before True: NaN errors come first.
        return tuple(sorted(failed, key=lambda d: (d.error <= float("inf"), -d.error)))

    @property
    def passed(self) -> bool:
        """Whether arrays were compared, no array failed and there are no problems."""
        return bool(self.differences) and not self.problems and not self.failures

    @property
    def verdict(self) -> str:
        """``"equal"`` or ``"NOT equal"``."""
        return "equal" if self.passed else "NOT equal"

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that were compared, in order."""
        return tuple(dict.fromkeys(d.setting for d in self.differences))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of arrays that were compared, in order."""
        return tuple(dict.fromkeys(d.kind for d in self.differences))

    def worst(self, kind: str, setting: str = "") -> Difference | None:
        """Return the largest difference of a kind, over all settings that contain the given words."""
        of_kind = [d for d in self.differences if d.kind == kind and all(w in d.setting for w in setting.split())]
        return max(of_kind, key=lambda d: (d.error != d.error, d.error), default=None)

    def compared(self) -> str:
        """Describe what was compared.

        >>> Report("Net", differences=(Difference("output", "0", "eval", "float64", "jit", 0.0, 1e-12),)).compared()
        '1 output; eval; float64; jit'
        """
        if not self.differences:
            return "nothing"
        counts = {kind: len({d.name for d in self.differences if d.kind == kind}) for kind in self.kinds}
        parts = [", ".join(f"{count} {kind}{'s' if count != 1 else ''}" for kind, count in counts.items())]
        columns = zip(*((d.mode, d.dtype, d.run) for d in self.differences), strict=True)
        parts += [" and ".join(dict.fromkeys(column)) for column in columns]
        return "; ".join(parts)

    def explanation(self) -> dict[str, str]:
        """Return the location of the first error, its cause and the fix, by label; empty without a location."""
        location = self.location
        if location is None:
            return {}
        facts = {"the fault is in": str(location), "in Flax": _named(location.flax_name, location.flax_type)}
        if location.between:
            facts["begins"] = f"in the code between {location.between}"
        facts["tested alone" if not location.carried else "carried in"] = (
            "with PyTorch's inputs and weights, this module agrees; its own inputs are already wrong"
            if location.carried
            else "with PyTorch's inputs and weights, this module returns a different result"
        )
        cause = location.cause
        if cause is None:
            return facts | {"cause": "not one of the known mistakes; compare the source of the two modules"}
        facts |= {"cause": cause.text, "change": cause.fix}
        if math.isnan(cause.before):  # An extra variable needs no proof: the names show it.
            return facts
        return facts | {
            "proof": f"with the same mistake in PyTorch ({cause.name}), the error falls from "
            f"{cause.before:.1e} to {cause.after:.1e} times the gate"
        }

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.verdict}"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.differences:
            lines.append(f"  compared: {self.compared()}")
        lines += [f"  {layout}" for layout in self.layouts]
        lines += [
            f"  {label} {text}" if label == "the fault is in" else f"    {label}: {text}"
            for label, text in self.explanation().items()
        ]
        lines += [f"  {line}" for line in self._numbers()]
        return "\n".join(lines)

    def _numbers(self) -> Iterator[str]:
        for array, setting, error, gate in self.failure_rows()[1:]:
            yield f"{array} ({setting}): off by {error}, allowed {gate}" if setting else array
        if not self.failures:
            for setting in self.settings:
                worst = [w for kind in self.kinds if (w := self.worst(kind, setting))]
                yield f"{setting}: " + ", ".join(f"{w.kind} {w.error:.1e}" for w in worst)

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        color = "green" if self.passed else "red"
        parts: list[RenderableType] = [Text.assemble(f"{self.title}: ", (self.verdict, f"bold {color}"))]
        parts += [Text(problem, "red") for problem in self.problems]
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold", no_wrap=True)
        facts.add_column(overflow="fold")
        facts.add_row("compared", Text(self.compared()))
        for layout in self.layouts:
            facts.add_row("axes", Text(layout))
        for label, text in self.explanation().items():
            facts.add_row(label, Text(text, {"the fault is in": "red", "change": "green"}.get(label, "")))
        parts.append(facts)
        rows = [self.settings_rows(), self.module_rows()]
        for (header, *body), title in zip(rows, ("Worst error of each setting", "Modules"), strict=True):
            if not body:
                continue
            table = Table(*header, title=title, title_justify="left")
            for row in body:
                table.add_row(*(Text(cell, _COLORS.get(cell, "")) for cell in row))
            parts.append(table)
        return Group(*parts)

    def settings_rows(self) -> list[list[str]]:
        """Return a table of the worst error of each kind in each setting; the first row is the header."""
        rows = []
        for setting in self.settings:
            cells = [self.worst(kind, setting) for kind in self.kinds]
            passed = all(d.passed for d in self.differences if d.setting == setting)
            rows.append([setting, "equal" if passed else "wrong", *(f"{d.error:.1e}" if d else "" for d in cells)])
        return [["setting", "", *self.kinds], *rows]

    def module_rows(self) -> list[list[str]]:
        """Return a table of at most 20 modules around the first wrong module; the first row is the header."""
        rows = [[m.torch_name, m.flax_name, m.kind, error_text(m.error), m.status] for m in self.modules]
        wrong = next((i for i, m in enumerate(self.modules) if m.status == "wrong"), 0)
        start = max(min(wrong - _SHOWN // 2, len(rows) - _SHOWN), 0)
        chosen = rows[start : start + _SHOWN]
        if len(rows) > len(chosen):
            chosen.append(["...", "", f"{len(rows) - len(chosen)} more", "", ""])
        return [["PyTorch", "Flax", "classes", "error / gate", ""], *chosen]

    def failure_rows(self) -> list[list[str]]:
        """Return a table of the arrays that differ, worst first, each in its worst setting; first row: header."""
        arrays: dict[str, list[Difference]] = {}
        for each in self.failures:
            arrays.setdefault(f"{each.kind} {each.name}", []).append(each)
        rows = [[name, _with_more(f), f"{f[0].error:.1e}", f"{f[0].gate:.0e}"] for name, f in arrays.items()]
        footer = [[f"... and {len(rows) - _SHOWN} more", "", "", ""]] if len(rows) > _SHOWN else []
        return [["array", "setting", "error", "allowed"], *rows[:_SHOWN], *footer]

    def to_json(self) -> str:
        """Return the report as JSON: its attributes and ``passed``. :meth:`from_json` reads the text.

        >>> json.loads(Report("Net / Net").to_json())["passed"]
        False
        """
        return json.dumps({"passed": self.passed, **_plain(dataclasses.asdict(self))}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read a report that :meth:`to_json` wrote.

        >>> report = Report("Net / Net", problems=("outputs differ",))
        >>> Report.from_json(report.to_json()) == report
        True
        """
        from flaxnets.parity.causes import Cause
        from flaxnets.parity.matching import Matching

        return _built(cls, json.loads(text), {"Cause": Cause, "Matching": Matching})

    def to_markdown(self) -> str:
        """Return the report as Markdown, for example for a pull request comment.

        >>> print(Report("Net / Net", problems=("outputs differ",)).to_markdown())
        # Net / Net: NOT equal
        <BLANKLINE>
        - outputs differ
        - **compared**: nothing
        <BLANKLINE>
        """
        lines = [f"# {_escaped(self.title)}: {self.verdict}", ""]
        lines += [f"- {_escaped(problem)}" for problem in self.problems]
        lines.append(f"- **compared**: {self.compared()}")
        lines += [f"- {_escaped(layout)}" for layout in self.layouts]
        for label, text in self.explanation().items():
            lines.append(f"- **{label}**: {_code(text) if label == 'change' else _escaped(text)}")
        for header, *body in (self.failure_rows(), self.settings_rows(), self.module_rows()):
            if body:
                lines += ["", *_markdown_table([header, *body])]
        return "\n".join([*lines, ""])

    def to_html(self) -> str:
        """Return the report as one HTML page that needs no other file and no network.

        >>> Report("Net / Net").to_html().startswith("<!doctype html>")
        True
        """
        from flaxnets.parity.html import page

        return page(self)


_COLORS = {"equal": "green", "wrong": "bold red", "carried in": "yellow", "not compared": "dim"}


def error_text(error: float | None) -> str:
    """Format the error of a module for a table; an empty string if nothing was measured.

    >>> error_text(0.00123), error_text(None)
    ('1.2e-03', '')
    """
    return "" if error is None else f"{error:.1e}"


def _with_more(failures: Sequence[Difference]) -> str:
    """Return the setting of the first failure, and the number of other settings in which the array fails."""
    others = len(failures) - 1
    return failures[0].setting + (f" and {others} more" if others else "")


def _named(name: str, kind: str) -> str:
    return f"{name or 'the outermost module'} ({kind})"


# Markdown.


def _escaped(text: str) -> str:
    """Return the text in one line, with the special characters of Markdown and HTML escaped."""
    escaped = "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in " ".join(text.split()))
    return escaped.replace("&", "&amp;")


def _code(text: str) -> str:
    line = " ".join(text.split())
    return f"``` {line} ```" if "`" in line else f"`{line}`"


def _markdown_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    header, *body = rows
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in body:
        yield f"| {' | '.join(map(_escaped, row))} |"


# JSON. JSON has no infinity or NaN: the report writes these numbers as strings, which float() reads.


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value


def _built(kind: Any, value: Any, names: dict[str, Any]) -> Any:
    """Build a value of a type from its JSON representation."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _built(next(p for p in parts if p is not type(None)), value, names)
    if origin is tuple:
        each = [parts[0]] * len(value) if parts[-1] is ... else parts
        return tuple(_built(part, v, names) for part, v in zip(each, value, strict=True))
    if origin is Mapping:
        return {key: _built(parts[1], each, names) for key, each in value.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, localns=names)
        return kind(**{f.name: _built(hints[f.name], value[f.name], names) for f in dataclasses.fields(kind)})  # type: ignore[operator]
    return float(value) if kind is float else value
