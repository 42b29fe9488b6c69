"""The programs in the pages of docs/ run as they are printed."""

import re
import runpy
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "last"), [("porting.md", "records"), ("parity.md", "Small"), ("training.md", "records")])
def test_the_code_blocks_of_a_page_are_a_program_that_runs(page, last, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    path = tmp_path / "page.py"
    path.write_text("\n\n".join(blocks))
    with jax.numpy_rank_promotion("allow"):  # as in a user's program
        assert last in runpy.run_path(str(path))
