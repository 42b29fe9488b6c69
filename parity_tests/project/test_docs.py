"""Tests that run the programs in the pages of docs/."""

import re
import runpy
import tomllib
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "last"),
    [("porting.md", "records"), ("parity.md", "Small"), ("training.md", "records"), ("scaling.md", "records")],
)
def test_the_code_blocks_of_a_page_are_a_program_that_runs(page, last, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    path = tmp_path / "page.py"
    path.write_text("\n\n".join(blocks))
    with jax.numpy_rank_promotion("allow"):  # as in a user's program
        assert last in runpy.run_path(str(path))


DESIGN = (DOCS / "design.md").read_text()


def test_the_walk_to_the_step_names_modules_that_exist_and_each_once():
    walk = DESIGN.partition("## From `train.py`")[2].partition("### ")[0]
    modules = re.findall(r"`((?:flaxnets/[\w/]+(?:\.py)?)|train\.py)`", walk)
    assert len(modules) > 15
    assert sorted(modules[1:]) == sorted({*modules[1:]})  # the heading names the first file
    assert [module for module in modules if not (DOCS.parent / module).exists()] == []


def test_the_diagram_of_packages_is_the_import_contract():
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    expected = [re.sub(r"\bflaxnets\.", "", layer) for layer in contract["layers"]]
    diagram = DESIGN.partition("flowchart TD")[2].partition("```")[0]
    assert re.findall(r'\["(.*?)"\]', diagram) == expected
    packages = DESIGN.partition("## The packages")[2].partition("```mermaid")[0]
    assert {name for layer in expected for name in layer.split(" | ")} <= {*re.findall(r"`flaxnets\.(\w+)`", packages)}
