"""Tests of the refusals of ``from_torch``: file, line, text, cause and fix of each place."""

import inspect
from pathlib import Path

import pytest
import torch
from port_models import refused
from port_models.refused import REFUSED, Refused
from torch import nn

from flaxnets.port import PortError, from_torch

# torch warns about torch.jit and quantization.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*")


def marked_lines(*models: type) -> set[int]:
    """Return the numbers of the lines of classes that have the comment ``# here``."""
    sources = map(inspect.getsourcelines, models)
    return {first + i for lines, first in sources for i, line in enumerate(lines) if "# here" in line}


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_a_refusal_names_the_place_the_cause_and_what_to_do(row: Refused) -> None:
    torch.manual_seed(0)
    with pytest.raises(PortError, match="cannot be ported") as caught:
        from_torch(row.model(), row.inputs())
    refusals = caught.value.refusals
    assert {(r.file, r.line) for r in refusals} == {(refused.__file__, n) for n in marked_lines(row.model)}
    lines = Path(refused.__file__).read_text().splitlines()
    assert all(r.text.splitlines()[0] in lines[r.line - 1] for r in refusals)
    assert any(row.cause in r.cause for r in refusals), [r.cause for r in refusals]
    assert any(row.fix in r.fix for r in refusals), [r.fix for r in refusals]
    assert str(refusals[0]) in str(caught.value)


def test_one_error_lists_all_places_of_all_modules() -> None:
    models = refused.IfOnSum, refused.Item, refused.OwnGenerator, refused.AppendsState
    with pytest.raises(PortError, match="4 places cannot be ported") as caught:
        from_torch(nn.Sequential(*(model() for model in models)), torch.randn(4, 3))
    assert {r.line for r in caught.value.refusals} == marked_lines(*models)
