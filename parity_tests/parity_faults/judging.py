"""Whether a check finds the planted fault."""

import dataclasses
from typing import Any

import numpy as np

from flaxnets.parity import Report, check
from parity_faults.common import Fault


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a check says about one fault.

    Attributes:
        where: the first wrong module as the report names it, ``"torch name / Flax path"``; None if it names none.
        cause: the name of the cause; None if there is none.
        module_is_right: whether ``where`` is one of the fault's answers.
        cause_is_right: whether ``cause`` is, or one of its parts.
        report: the whole report.
    """

    where: str | None
    cause: str | None
    module_is_right: bool
    cause_is_right: bool
    report: Report

    def __str__(self) -> str:
        return f"named {self.where}, cause {self.cause}\n{self.report}"


def judge(fault: Fault, seed: int = 0, **options: Any) -> Verdict:
    """Check the faulty network against torch's, and hold the report against the fault."""
    inputs = fault.inputs(np.random.default_rng(seed))
    settings = {"modes": (fault.mode,), "dtypes": ("float64",), "runs": ("eager",), "seed": seed, **options}
    report = check(*fault.pair(), *inputs, **settings)
    location = report.location
    where = location and f"{location.torch_name or '.'} / {location.flax_name or '.'}"
    cause = location and location.cause and location.cause.name
    parts = cause.split("+") if cause else []
    return Verdict(where, cause, where in fault.where, any(part in fault.causes for part in parts), report)
