"""Write a report as one HTML page without scripts, fonts or network access."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from flaxnets.parity.report import ModuleRow, Report, error_text

if TYPE_CHECKING:
    from flaxnets.parity.matching import Matching
    from flaxnets.parity.training.report import TrainingReport

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f5f6f8; --text: #1c2024; --dim: #5c6570; --line: #d5d9de;
  --good: #17703a; --bad: #b3261e; --carried: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --card: #1f2429; --text: #e4e7ea; --dim: #9aa4ae;
  --line: #3a4148; --good: #5cc98a; --bad: #ff8a80; --carried: #f0b950; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; }
.dim { color: var(--dim); }
.good { color: var(--good); } .bad { color: var(--bad); } .carried { color: var(--carried); }
.verdict { display: inline-block; padding: .1rem .7rem; border: 2px solid; border-radius: 1rem; font-weight: 600; }
.card { background: var(--card); border-left: 4px solid var(--bad); border-radius: 4px; padding: .75rem 1rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .35rem 1rem; margin: 0; }
dt { color: var(--dim); } dd { margin: 0; }
@media (max-width: 36rem) { dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .5rem; } }
code, .mono { font-family: ui-monospace, monospace; font-size: .9em; }
pre { margin: 0; white-space: pre-wrap; }
pre code { display: block; padding: .4rem .6rem; background: var(--back); border: 1px solid var(--line);
  border-radius: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
th { color: var(--dim); font-weight: 500; }
.chart { display: flex; }
.chart svg { display: block; flex: none; overflow: visible; }
.chart svg + svg { flex: 1 1 0; min-width: 0; }
.chart text { font: 12px system-ui, sans-serif; fill: var(--dim); }
.chart line { stroke: var(--line); }
.chart .gate { stroke: var(--text); stroke-dasharray: 5 4; }
.chart .path { stroke: var(--dim); }
.chart circle { stroke: var(--back); }
.chart .good { fill: var(--good); } .chart .bad { fill: var(--bad); } .chart .carried { fill: var(--carried); }
.legend { display: flex; flex-wrap: wrap; gap: 0 1.2rem; font-size: .9rem; }
details { padding-left: 1.1rem; border-left: 1px solid var(--line); }
details.top { padding-left: 0; border: 0; }
summary { cursor: pointer; padding: .1rem 0; }
.leaf { padding: .1rem 0 .1rem 1.1rem; border-left: 1px solid var(--line); }
"""

_CLASSES = {"equal": "good", "wrong": "bad", "carried in": "carried", "not compared": "dim"}
_MARKS = {"equal": "✓", "wrong": "✗", "carried in": "→", "not compared": "·"}


def page(report: Report, training: "TrainingReport | None" = None) -> str:
    """Write a report as an HTML page.

    Args:
        report: The result of :func:`flaxnets.parity.check`.
        training: The result of :func:`flaxnets.parity.check_training`; the page shows its steps.

    Returns:
        The page. The page has no script, loads no other file, and follows the light or dark scheme of the browser.

    >>> "<b>" in page(Report("<b>"))
    False
    """
    sections = [
        *_header(report),
        *_explanation(report),
        *_chart(report.modules),
        *_tree(report.modules),
        *_settings(report),
        *_failures(report),
        *_training(training),
        *_matching(report.matching),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}: {report.verdict}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def _header(report: Report) -> Iterator[str]:
    yield f"<h1>{escape(report.title)}</h1>"
    color, mark = ("good", "✓") if report.passed else ("bad", "✗")
    yield f'<p><span class="verdict {color}">{mark} {report.verdict}</span></p>'
    seconds = f" Took {report.seconds:.1f} s." if report.seconds else ""
    yield f'<p class="dim">Compared: {escape(report.compared())}.{seconds}</p>'
    for layout in report.layouts:
        yield f"<p>{escape(layout)}</p>"
    if report.problems:
        items = "".join(f"<li>{escape(problem)}</li>" for problem in report.problems)
        yield f'<h2>What cannot be compared</h2><ul class="bad">{items}</ul>'


def _explanation(report: Report) -> Iterator[str]:
    facts = report.explanation()
    if not facts:
        return
    yield '<h2>The first wrong module</h2><div class="card"><dl>'
    for label, text in facts.items():
        body = f"<pre><code>{escape(text)}</code></pre>" if label == "change" else escape(text)
        yield f"<dt>{escape(label)}</dt><dd>{body}</dd>"
    yield "</dl></div>"


# The error by depth.

_HEIGHT, _TOP, _BOTTOM = 240, 12, 24
_LOWEST, _HIGHEST = -6, 15  # Range of decades in the chart; errors outside the range are drawn at its border.


def _chart(modules: Sequence[ModuleRow]) -> Iterator[str]:
    """Draw one mark for each module in order of execution; the height is the logarithm of error / gate."""
    measured = [(row, row.error) for row in modules if row.error is not None]
    if not measured:
        return
    decades = [_decade(error) for _, error in measured]
    low, high = math.floor(min([*decades, -2.0])), math.ceil(max([*decades, 1.0]))
    step = max(1, math.ceil((high - low) / 8))

    def y(decade: float) -> float:
        return _TOP + (high - decade) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    levels = [level for level in range(low, high + 1) if level % step == 0]
    labels = [f'<text x="48" y="{y(v) + 4:.1f}" text-anchor="end">{_power(v)}</text>' for v in levels]
    lines = [f'<line x1="0" x2="100%" y1="{y(v):.1f}" y2="{y(v):.1f}"/>' for v in levels]
    lines.append(f'<line class="gate" x1="0" x2="100%" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    places = [100 * (i + 0.5) / len(measured) for i in range(len(measured))]
    points = list(zip(places, map(y, decades), strict=True))
    lines += [
        f'<line class="path" x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1:.1f}" y2="{y2:.1f}"/>'
        for (x1, y1), (x2, y2) in itertools.pairwise(points)
    ]
    marks = []
    for (row, error), (x, height) in zip(measured, points, strict=True):
        radius = 6 if row.status == "wrong" else 4
        title = f"{_name(row)}: error / gate {error_text(error)}, {row.status}"
        marks.append(
            f'<circle class="{_CLASSES[row.status]}" cx="{x:.2f}%" cy="{height:.1f}" r="{radius}">'
            f"<title>{escape(title)}</title></circle>"
        )
    yield "<h2>Error by depth</h2>"
    yield '<p class="dim">Largest error of each module\'s outputs, divided by the largest error that passes (gate).</p>'
    yield (
        f'<div class="chart"><svg width="56" height="{_HEIGHT}" aria-hidden="true">{"".join(labels)}</svg>'
        f'<svg height="{_HEIGHT}" width="100%" role="img" aria-label="Error of each module in order of execution">'
        f'{"".join(lines)}{"".join(marks)}<text x="0" y="{_HEIGHT - 4}">first module</text>'
        f'<text x="100%" y="{_HEIGHT - 4}" text-anchor="end">last</text></svg></div>'
    )
    used = [status for status in _CLASSES if any(row.status == status for row, _ in measured)]
    legend = "".join(f'<span class="{_CLASSES[status]}">● {status}</span>' for status in used)
    yield f'<p class="legend">{legend}<span class="dim">╌ gate: errors above this line are too large</span></p>'


def _decade(error: float) -> float:
    if math.isnan(error):
        return _HIGHEST
    return min(max(math.log10(error), _LOWEST), _HIGHEST) if error > 0 else _LOWEST


def _power(level: int) -> str:
    return "gate" if level == 0 else f"10{str(level).translate(_SUPERSCRIPTS)}"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


# The tree of modules.


@dataclasses.dataclass
class _Node:
    """A node of the tree: a module, or a container without a row."""

    path: str
    rows: list[ModuleRow] = dataclasses.field(default_factory=list)
    children: dict[str, "_Node"] = dataclasses.field(default_factory=dict)

    @property
    def row(self) -> ModuleRow | None:
        """The row of the call with the worst status."""
        order = ("wrong", "carried in", "equal", "not compared")
        return min(self.rows, key=lambda row: order.index(row.status), default=None)

    @property
    def statuses(self) -> set[str]:
        """The statuses of the module and of all modules inside it."""
        return {row.status for row in self.rows}.union(*(child.statuses for child in self.children.values()))


def _tree(modules: Sequence[ModuleRow]) -> Iterator[str]:
    if not modules:
        return
    root = _Node("")
    for row in modules:
        node = root
        for i, part in enumerate(parts := row.torch_name.split(".") if row.torch_name else []):
            node = node.children.setdefault(part, _Node(".".join(parts[: i + 1])))
        node.rows.append(row)
    yield "<h2>Modules</h2>"
    yield from _branch(root)


def _branch(node: _Node) -> Iterator[str]:
    row, statuses = node.row, node.statuses
    status = row.status if row else next((s for s in _CLASSES if statuses == {s}), "not compared")
    words = [f'<span class="{_CLASSES[status]}">{_MARKS[status]}</span>']
    name = node.path.rpartition(".")[2] or "the outermost module"
    words.append(f'<span class="mono" title="{escape(node.path)}">{escape(name)}</span>')
    if row:
        words.append(f'<span class="dim">{escape(row.kind)}</span>')
        if row.flax_name != row.torch_name:
            words.append(
                f'<span class="dim">in Flax</span> <span class="mono">{escape(row.flax_name or "itself")}</span>'
            )
        error = f" {error_text(row.error)}" if row.error is not None else ""
        calls = f", {len(node.rows)} calls" if len(node.rows) > 1 else ""
        words.append(f'<span class="{_CLASSES[status]}">{status}{error}{calls}</span>')
    text = " ".join(words)
    if not node.children:
        yield f'<div class="leaf">{text}</div>'
        return
    opened = " open" if not node.path or "wrong" in statuses else ""
    yield f"<details{opened}{'' if node.path else ' class=top'}><summary>{text}</summary>"
    for child in node.children.values():
        yield from _branch(child)
    yield "</details>"


def _name(row: ModuleRow) -> str:
    return row.torch_name or "the outermost module"


# Tables.


def _settings(report: Report) -> Iterator[str]:
    if report.differences:
        yield "<h2>Settings</h2>"
        yield '<p class="dim">The worst error of each kind.</p>'
        yield _table(report.settings_rows())


def _failures(report: Report) -> Iterator[str]:
    rows = report.failure_rows()
    if len(rows) > 1:
        yield f"<h2>Arrays that differ</h2>{_table(rows)}"


def _training(training: "TrainingReport | None") -> Iterator[str]:
    if training is None:
        return
    yield f'<h2>Training</h2><p class="{"good" if training.passed else "bad"}">{escape(training.verdict)}</p>'
    yield "".join(f"<p>{escape(sentence)}</p>" for sentence in training.explanation())
    rows = [
        [
            str(row.step), f"{row.torch_loss:.9g}", f"{row.flax_loss:.9g}", row.name, f"{row.error:.1e}",
            f"{row.band:.1e}", "equal" if row.passed else "wrong",
        ]
        for row in training.steps
    ]  # fmt: skip
    yield _table([["step", "loss in PyTorch", "loss in Flax", "worst", "error", "allowed", ""], *rows])


def _matching(matching: "Matching | None") -> Iterator[str]:
    if matching is None:
        return
    yield "<h2>Weights</h2>"
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in matching.problems())
    if problems:
        yield f'<ul class="bad">{problems}</ul>'
    rows = [[entry.flax, ", ".join(entry.torch), entry.transform] for entry in matching.entries]
    table = _table([["Flax variable", "PyTorch tensor", "transform"], *rows])
    opened = " open" if len(rows) <= 30 else ""
    yield f'<details class="top"{opened}><summary>{len(rows)} variables</summary>{table}</details>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = []
    for row in body:
        cells = [
            f'<td class="{_CLASSES[cell]}">{_MARKS[cell]} {cell}</td>'
            if cell in _CLASSES
            else f"<td>{escape(cell)}</td>"
            for cell in row
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
