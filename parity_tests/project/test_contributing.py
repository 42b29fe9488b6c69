"""Tests that follow the recipes of CONTRIBUTING.md in a copy of the repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import conftest
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^### (Add [^\n]*)\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE))

# The recipe adds a layer that torch does not have, so it is added to torch here.
NEWER_TORCH = """

class LayerScale(torch.nn.Module):
    def __init__(self, dim, init_values=1e-5, device=None, dtype=None):
        super().__init__()
        self.dim, self.init_values = dim, init_values
        self.weight = torch.nn.Parameter(torch.full((dim,), init_values))

    def reset_parameters(self):
        torch.nn.init.constant_(self.weight, self.init_values)

    def forward(self, input):
        return input * self.weight

    def extra_repr(self):
        return f"{self.dim}, init_values={self.init_values}"


torch.nn.LayerScale = LayerScale
"""


@pytest.fixture
def copy(tmp_path):
    for name in ("flaxnets", "torchref", "parity_tests", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "train.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def write(folder: Path, code: str) -> None:
    """Write a code block to the file that its first line names."""
    name, table, code = re.fullmatch(r"# (\S+\.py)(?:, in (\w+))?\n(.*)", code, re.DOTALL).groups()
    path = folder / name
    before = path.read_text() if path.exists() else ""
    if table is None:
        path.write_text(f"{before}\n\n{code}" if before else code)
        return
    begins = re.search(rf"^{table}\b[^\n]*[\[{{]\n", before, re.MULTILINE)
    ends = re.compile(r"^[\]}]", re.MULTILINE).search(before, begins.end()).start()
    path.write_text(before[:ends] + code + before[ends:])


@pytest.mark.parametrize("recipe", ["Add a layer", "Add a network", "Add an optimizer", "Add a dataset"])
def test_a_recipe_can_be_followed(recipe, copy):
    assert [*RECIPES] == ["Add a layer", "Add a network", "Add an optimizer", "Add a dataset"]
    if recipe == "Add a layer":
        path = copy / "parity_tests/conftest.py"
        path.write_text(path.read_text() + "\n\nimport torch\n" + NEWER_TORCH)
    for code in re.findall(r"^```python\n(.*?)^```$", RECIPES[recipe], re.DOTALL | re.MULTILINE):
        write(copy, code)
    (commands,) = re.findall(r"^```bash\n(.*?)^```$", RECIPES[recipe], re.DOTALL | re.MULTILINE)
    environment = {**os.environ, **conftest.CACHE_VARIABLES, "PYTHONPATH": str(copy)}
    for command in commands.replace("\\\n", "").splitlines():
        program, *arguments = shlex.split(command)
        line = [
            sys.executable,
            *(["-m", "pytest", "-p", "no:cacheprovider"] if program == "pytest" else []),
            *arguments,
        ]
        done = subprocess.run(
            line, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=1800
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
