"""The report of a comparison of two trainings."""

import dataclasses
import json
import math
from typing import Any, Literal

from flaxnets.parity.causes import Cause

Stage = Literal["loss", "gradient", "update", "buffer"]

_AGREE = {
    "loss": "The weights and buffers before this step agree, so the forward pass or the loss function differs",
    "gradient": "The losses agree, so the backward pass differs",
    "update": "The losses and gradients agree, so the optimizer differs",
    "buffer": "The losses, gradients and updates agree, so the forward pass stores different values in its buffers",
}
_ADVICE = {
    "loss": "Fix: run flaxnets.parity.check on the two modules; if they are equal, compare the two loss functions",
    "gradient": "Fix: run flaxnets.parity.check on the two modules; if they are equal, compare the two loss functions",
    "update": "Fix: compare the settings of the two optimizers, or use the optimizer of flaxnets.optim with torch's "
    "name and arguments",
    "buffer": "Fix: run flaxnets.parity.check(..., modes=('train',)) on the two modules",
}


@dataclasses.dataclass(frozen=True)
class StepRow:
    """One step of the two trainings.

    Attributes:
        step: number of the step, counted from 1.
        torch_loss: torch's loss of the batch, before the update.
        flax_loss: Flax's loss of the batch, before the update.
        name: the loss, gradient, parameter or buffer with the largest error / band.
        error: relative error of this number.
        band: the largest error of this number that passes at this step.
    """

    step: int
    torch_loss: float
    flax_loss: float
    name: str
    error: float
    band: float

    @property
    def passed(self) -> bool:
        """Whether the worst error is within the band; a NaN error never passes."""
        return self.error <= self.band


@dataclasses.dataclass(frozen=True)
class TrainingReport:
    """The result of :func:`flaxnets.parity.check_training`; ``str(report)`` is a readable table.

    Attributes:
        title: the classes of the two modules.
        steps: one row for each step.
        first_step: the first step, counted from 1, at which a number leaves the band; None if all numbers are within.
        first_name: the number that leaves the band first: ``"loss"``, or the name of a parameter or buffer in Flax.
        stage: the stage of this number: ``"loss"``, ``"gradient"``, ``"update"`` or ``"buffer"``.
        error: relative error of this number.
        band: the largest error of this number that passes.
        cause: the known mistake that was proved to be the reason; None if no mistake was proved.
        notes: further sentences, for example about rounding errors that grow fast.
    """

    title: str
    steps: tuple[StepRow, ...]
    first_step: int | None = None
    first_name: str | None = None
    stage: Stage | None = None
    error: float = 0.0
    band: float = 0.0
    cause: Cause | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether at least one step was compared and all numbers are within the band."""
        return bool(self.steps) and self.first_step is None

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.passed:
            return f"{self.title}: {len(self.steps)} training steps are equal"
        return f"{self.title}: NOT equal from training step {self.first_step} on"

    def explanation(self) -> list[str]:
        """Return sentences about the first difference, its cause and the fix."""
        if self.stage is None:
            return [*self.notes]
        subject = {"loss": "the loss", "gradient": f"the gradient of {self.first_name}"}.get(
            self.stage, f"{self.first_name} after the {'update' if self.stage == 'update' else 'forward pass'}"
        )
        first = f"Step {self.first_step}: {subject} is off by {self.error:.1e}, allowed {self.band:.1e}."
        if self.cause is None:
            return [first, f"{_AGREE[self.stage]}. {_ADVICE[self.stage]}.", *self.notes]
        return [first, f"Cause: {self.cause.text}", f"Fix: {self.cause.fix}", *self.notes]

    def __str__(self) -> str:
        lines = [self.verdict, *(f"  {line}" for line in self.explanation())]
        width = max([len("worst"), *(len(row.name) for row in self.steps)])
        lines.append(f"  {'step':>4}  {'loss in torch':>15}  {'loss in Flax':>15}  {'worst':{width}}  error    band")
        lines += [
            f"  {row.step:>4}  {row.torch_loss:>15.9g}  {row.flax_loss:>15.9g}  {row.name:{width}}  "
            f"{row.error:.1e}  {row.band:.1e}{'' if row.passed else '  <--'}"
            for row in self.steps
        ]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the report as JSON; NaN and infinities are null."""
        content = dataclasses.asdict(self) | {"passed": self.passed}
        return json.dumps(_finite(content), indent=2)

    def to_markdown(self) -> str:
        """Return the report as Markdown: the sentences, and a table of the steps."""
        lines = [f"**{self.verdict}**", "", *(f"- {line}" for line in self.explanation())]
        lines += ["", "| step | loss in torch | loss in Flax | worst | error | band |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {row.step} | {row.torch_loss:.9g} | {row.flax_loss:.9g} | `{row.name}` | "
            f"{f'{row.error:.1e}' if row.passed else f'**{row.error:.1e}**'} | {row.band:.1e} |"
            for row in self.steps
        ]
        return "\n".join(lines)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
