"""The band of rounding errors: the largest difference of two equal trainings at each step."""

import dataclasses
from typing import Any

import numpy as np

from flaxnets.parity.measures import deviation, largest
from flaxnets.parity.training.report import Stage
from flaxnets.parity.training.runs import Step, TorchStep, TorchTrainer, Training, Variant

# An error that always passes, relative to the loss, the norm of all gradients, the largest change of any parameter
# since the start, or the largest value of the buffer.
FLOOR = 1e-9

# The band is this multiple of the difference that a change of each weight by one unit in the last place causes. The
# factor is larger than 1 because Flax rounds differently in every operation, and not only in the weights.
_ALLOWANCE = 64
_PERTURBED_RUNS = 2

STAGES: tuple[Stage, ...] = ("loss", "gradient", "update", "buffer")
Key = tuple[Stage, str]
Numbers = dict[Key, float]

# If the band is wider than this, the comparison proves little.
_CHAOS = 1e-3


class BandedTrainer:
    """Torch's training, and the band of each step.

    The band comes from copies of the training whose weights are changed in their last place before each step.

    Args:
        training: the modules, batches, losses and optimizers.
        variant: the mistake that torch's training makes.

    Attributes:
        trainer: torch's trainer.
        notes: a sentence that names the step from which on the comparison proves little; empty without such a step.
    """

    def __init__(self, training: Training, variant: Variant):
        self.trainer, self.notes = TorchTrainer(training, variant), ()
        self._training, self._variant = training, variant
        self._perturbed: list[TorchTrainer] = []
        self._band: Numbers = {}
        self._scale = 0.0

    def step(self, n: int, random_state: Any) -> tuple[TorchStep, Numbers]:
        """Run step ``n``. Return the step and, for each of its numbers, the largest error that passes."""
        expected = self.trainer.step(n, random_state)
        if n == 0:
            roundings = [np.random.default_rng((self._training.seed, number)) for number in range(_PERTURBED_RUNS)]
            variants = [dataclasses.replace(self._variant, rounding=rounding) for rounding in roundings]
            self._perturbed = [TorchTrainer(self._training, variant) for variant in variants]
        for each in self._perturbed:
            for key, error in self.errors(expected.step, each.step(n, random_state).step).items():
                self._band[key] = max(FLOOR, _ALLOWANCE * error, self._band.get(key, 0.0))
        key = max(self._band, key=lambda key: self._band[key])
        if self._band[key] > _CHAOS and not self.notes:
            self.notes = (
                f"From step {n + 1} on, the comparison proves little: torch's own rounding errors change {shown(key)} "
                f"by {self._band[key] / _ALLOWANCE:.0e} of its scale.",
            )
        return expected, dict(self._band)

    def errors(self, expected: Step, found: Step) -> Numbers:
        """Return all errors of one step by stage and name, each relative to the scale of its stage."""
        self._scale = max(self._scale, abs(expected.loss))
        errors: Numbers = {("loss", "loss"): _relative(abs(found.loss - expected.loss), self._scale)}
        names = [name for name in expected.gradients if name in found.gradients]
        norm = float(np.sqrt(sum(np.sum(np.abs(expected.gradients[name]) ** 2) for name in names)))
        for name in names:
            errors["gradient", name] = _relative(deviation(expected.gradients[name], found.gradients[name]), norm)
        start = self.trainer.parameters
        largest_change = max(
            (
                largest(side[name] - value)
                for name, value in start.items()
                for side in (expected.parameters, found.parameters)
                if side[name].shape == value.shape
            ),
            default=0.0,
        )
        for name, value in expected.parameters.items():
            errors["update", name] = _relative(deviation(value, found.parameters[name]), largest_change)
        for name, value in expected.buffers.items():
            errors["buffer", name] = _relative(deviation(value, found.buffers[name]), largest(value))
        return errors


def _relative(error: float, scale: float) -> float:
    error = float("inf") if np.isnan(error) else error
    return error / scale if scale else error


def ratio(error: float, band: float) -> float:
    """Return error / band; infinity if the error is NaN.

    >>> ratio(float("nan"), 1.0)
    inf
    """
    return float("inf") if np.isnan(error) else error / band


def first_failure(errors: Numbers, band: Numbers) -> Key | None:
    """Return the first number of a step that leaves the band, None if all numbers are within the band.

    >>> first_failure({("loss", "loss"): 0.0, ("update", "weight"): 1.0}, {})
    ('update', 'weight')
    """
    for stage in STAGES:
        failed = [key for key in errors if key[0] == stage and not errors[key] <= band.get(key, FLOOR)]
        if failed:
            return failed[-1] if stage == "gradient" else failed[0]  # The backward pass starts at the last module.
    return None


def shown(key: Key) -> str:
    """Return the readable name of a number of a step.

    >>> shown(("gradient", "weight"))
    'gradient of weight'
    """
    stage, name = key
    return f"gradient of {name}" if stage == "gradient" else name
