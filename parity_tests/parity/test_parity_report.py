"""Test the report as text, tables, JSON, Markdown and HTML."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from flaxnets.parity import Ambiguity, Cause, Difference, Entry, Location, Matching, ModuleRow, Report

CAUSE = Cause("epsilon", "Flax adds 1e-6 to the <variance>, PyTorch 1e-5.", "nnx.BatchNorm(4, epsilon=1e-5)", 3e8, 0.25)
WRONG = Location("body.bn", "BatchNorm2d", "trunk.norm", "BatchNorm", "output 0 is off", None, CAUSE)
MATCHING = Matching(
    entries=(
        Entry("trunk.norm.scale", ("body.bn.weight",)),
        Entry("head.kernel", ("fc.weight", "fc.other"), "transpose"),
    ),
    modules=(("", ""), ("body.bn", "trunk.norm")),
    unmatched_torch=("body.<b>",),
    unmatched_flax=(),
    ambiguous=(Ambiguity("head.bias", ("fc.bias", "fd.bias")),),
)
ROWS = (
    ModuleRow("body.conv", "trunk.conv", "Conv2d / Conv", 0.001, "equal"),
    ModuleRow("body.bn", "trunk.norm", "BatchNorm2d / BatchNorm", 3e8, "wrong"),
    ModuleRow("body", "trunk", "Sequential / Body<&>", float("nan"), "carried in"),
    ModuleRow("", "", "Net / Net", float("inf"), "carried in"),
    ModuleRow("unused", "unused", "Linear / Linear", None, "not compared"),
)
DIFFERENCES = (
    Difference("output", "0", "eval", "float64", "jit", 3e-4, 1e-12),
    Difference("output", "0", "train", "float64", "jit", float("inf"), 1e-12),
    Difference("parameter gradient", "fc.weight", "eval", "float64", "jit", 1e-14, 1e-10),
)
BAD = Report(
    "Net<&> / Net", ("outputs: one & <two>",), DIFFERENCES, WRONG, MATCHING, ("Input 0: NCHW in torch.",), ROWS, 1.5
)
GOOD = Report("Net / Net", differences=DIFFERENCES[2:], modules=ROWS[:1])


def rendered(report: Report, width: int = 120) -> str:
    text = io.StringIO()
    Console(file=text, width=width, color_system="truecolor", force_terminal=True).print(report)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue())


def test_the_text_says_in_this_order_what_a_person_needs():
    words = [
        "Net<&> / Net: NOT equal", "outputs: one & <two>",
        "compared: 1 output, 1 parameter gradient; eval and train; float64; jit", "Input 0: NCHW in torch.",
        "the fault is in body.bn (BatchNorm2d): output 0 is off", "in Flax: trunk.norm (BatchNorm)",
        "tested alone: with PyTorch's inputs", f"cause: {CAUSE.text}", f"change: {CAUSE.fix}",
        "proof: with the same mistake in PyTorch (epsilon), the error falls from 3.0e+08 to 2.5e-01 times the gate",
        "output 0 (train float64 jit and 1 more): off by inf, allowed 1e-12",
    ]  # fmt: skip
    positions = [str(BAD).find(each) for each in words]
    assert -1 not in positions, (dict(zip(words, positions, strict=True)), str(BAD))
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cause": None}, "cause: not one of the known mistakes"),
        ({"between": "conv1 and bn1"}, "begins: in the code between conv1 and bn1"),
        ({"carried": True}, "carried in: with PyTorch's inputs and weights, this module agrees"),
        ({"torch_name": "", "flax_name": ""}, "in the outermost module (BatchNorm2d): output 0 is off"),
    ],
)
def test_every_render_says_where_the_error_comes_from(changes, words):
    report = dataclasses.replace(BAD, location=dataclasses.replace(WRONG, **changes))
    assert words in str(report)
    label, _, text = words.partition(": ")
    flat = [
        " ".join(r.split()) for r in (rendered(report, 300), report.to_markdown().replace("\\", ""), report.to_html())
    ]
    for part in (label.removeprefix("in "), text):
        assert [part in each.replace("&#x27;", "'") for each in flat] == [True] * 3, part


def test_an_equal_report_has_its_worst_errors():
    assert str(GOOD).splitlines() == [
        "Net / Net: equal",
        "  compared: 1 parameter gradient; eval; float64; jit",
        "  eval float64 jit: parameter gradient 1.0e-14",
    ]
    assert "NOT" not in GOOD.to_html() + GOOD.to_markdown() + rendered(GOOD)


@pytest.mark.parametrize("report", [BAD, GOOD, Report("Net")], ids=["bad", "good", "empty"])
def test_json_holds_the_whole_report(report):
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    content = json.loads(report.to_json(), parse_constant=refuse)
    assert content["passed"] == report.passed
    again = Report.from_json(report.to_json())
    assert repr(again) == repr(report)  # Compare the texts, because NaN is not equal to itself.
    assert Report.from_json(again.to_json()).to_html() == report.to_html()


def test_markdown_is_one_table_a_part_and_marks_nothing_by_mistake():
    text = BAD.to_markdown()
    assert text.startswith("# Net\\<&amp;\\> / Net: NOT equal\n")
    assert f"- **change**: `{CAUSE.fix}`" in text
    assert (
        "| array | setting | error | allowed |\n|---|---|---|---|\n| output 0 | train float64 jit and 1 more |" in text
    )
    assert "| body.bn | trunk.norm | BatchNorm2d / BatchNorm | 3.0e+08 | wrong |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    pipes = dataclasses.replace(
        BAD, location=dataclasses.replace(WRONG, cause=dataclasses.replace(CAUSE, fix="a `b` | c"))
    )
    assert "``` a `b` | c ```" in pipes.to_markdown()


def test_tables_have_every_module_or_those_around_the_first_wrong_one():
    assert [row[0] for row in BAD.module_rows()[1:]] == ["body.conv", "body.bn", "body", "", "unused"]
    equal = [ModuleRow(f"m{i}", f"m{i}", "A / A", 0.0, "equal") for i in range(100)]
    equal[70] = dataclasses.replace(equal[70], status="wrong", error=5.0)
    rows = dataclasses.replace(BAD, modules=tuple(equal)).module_rows()
    assert (len(rows), rows[-1][2]) == (22, "80 more")
    assert "m70" in [row[0] for row in rows]
    assert "BatchNorm2d / BatchNorm" in rendered(BAD)


class Page(HTMLParser):
    """Check that tags are closed in order, and record their names, attributes and texts."""

    VOID = frozenset(("meta", "line", "circle"))

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.tags)


def test_the_page_needs_nothing_else_and_escapes_everything():
    page = Page(BAD.to_html())
    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe"} == set()
    assert [(tag, key) for tag, found in page.tags for key in found if key in ("src", "href")] == []
    assert "url(" not in BAD.to_html()
    assert "@import" not in BAD.to_html()
    text = " ".join(page.text)
    for words in ("Net<&> / Net", "outputs: one & <two>", CAUSE.text, "Body<&>", "body.<b>", "Took 1.5 s"):
        assert words in text, words
    assert {tag for tag, _ in page.tags} & {"b", "variance", "two"} == set()


def test_the_picture_has_one_mark_a_measured_module():
    page = Page(BAD.to_html())
    marks = [found["class"] for tag, found in page.tags if tag == "circle"]
    assert marks == ["good", "bad", "carried", "carried"]
    heights = [float(found["cy"] or "") for tag, found in page.tags if tag == "circle"]
    assert heights[0] > heights[1] > heights[2] == heights[3]  # NaN and infinity are at the border of the chart.
    gate = next(float(found["y1"] or "") for tag, found in page.tags if found.get("class") == "gate")
    assert heights[0] > gate > heights[1]
    assert page.count("circle") == page.text.count("body.bn: error / gate 3.0e+08, wrong") + 3
    assert "circle" not in {tag for tag, _ in Page(Report("Net").to_html()).tags}


def test_the_tree_opens_where_the_first_error_is():
    rows = (*ROWS, ModuleRow("tail.a.b", "tail.a.b", "Linear / Linear", 0.0, "equal"))
    text = dataclasses.replace(BAD, modules=rows).to_html()
    opened = re.findall(r"<details( open)?[^>]*><summary>.*?title=\"([^\"]*)\"", text)
    assert opened == [(" open", ""), (" open", "body"), ("", "tail"), ("", "tail.a")]
    assert text.index("conv</span>") < text.index("bn</span>")  # Modules are in order of execution.


def test_a_module_of_several_calls_shows_the_worst_one():
    rows = (
        ModuleRow("cell", "cell", "GRUCell / GRU", 1e-3, "equal"),
        ModuleRow("cell", "cell", "GRUCell / GRU", 9.0, "wrong"),
    )
    assert "wrong 9.0e+00, 2 calls" in dataclasses.replace(BAD, modules=rows).to_html()


def test_weights_are_listed_with_what_is_unmatched():
    text = " ".join(Page(BAD.to_html()).text)
    assert "fc.weight, fc.other" in text
    assert "transpose" in text
    for problem in MATCHING.problems():
        assert problem in text
    assert "head.bias" in text
