"""Tests that the package's metadata, the files for GitHub and pyproject.toml agree."""

import tomllib
from pathlib import Path

import pytest
import yaml

import flaxnets
import torchref

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GITHUB = sorted((ROOT / ".github").rglob("*.yml"))


def _loaded(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("package", [flaxnets, torchref])
def test_type_checkers_read_the_packages(package):
    assert package.__name__ in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert (Path(package.__file__).parent / "py.typed").exists()


def test_the_checks_run_on_the_oldest_and_the_newest_python():
    job = _loaded(ROOT / ".github/workflows/ci.yml")["jobs"]["checks"]
    pythons = job["strategy"]["matrix"]["python"]
    classifiers = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if ":: Python :: 3." in c]
    assert (pythons[0], pythons[-1]) == (classifiers[0], classifiers[-1])
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


@pytest.mark.parametrize("path", [p for p in GITHUB if p.parent.name == "ISSUE_TEMPLATE"], ids=lambda path: path.stem)
def test_issue_templates_have_what_github_requires(path):
    template = _loaded(path)
    if path.stem == "config":
        assert template["blank_issues_enabled"]
        return
    assert template["name"]
    assert template["description"]
    fields = [field["id"] for field in template["body"]]
    assert len(fields) == len(set(fields)) > 0
    assert all(field["attributes"]["label"] for field in template["body"])


def test_a_release_needs_the_tag_of_the_version_and_no_password():
    jobs = _loaded(ROOT / ".github/workflows/release.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"
    assert any('test "v$version" = "$GITHUB_REF_NAME"' in step.get("run", "") for step in jobs["build"]["steps"])
