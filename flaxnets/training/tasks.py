"""What the kinds of tasks differ in, so that whoever trains need not ask which one it is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flaxnets.data import fit_images, time_major
from flaxnets.training.objectives import Objective, classification, language, regression

# What a network's recipe, and its task's defaults, leave open.
DEFAULTS: Mapping[str, Any] = {"epochs": 5, "batch_size": 32, "lr": 0.01, "optimizer": "sgd"}


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of task.

    Attributes:
        objective: what is minimised and reported.
        unit: what is counted: ``images`` and the like.
        score: the metric that says how good a network is.
        transform: from stored inputs, and the shape of an example as ``input_shape``, to the network's inputs.
        fits_inputs: whether the transform makes examples of any shape fit a network.
        defaults: of the recipe.
    """

    objective: Objective
    unit: str
    score: str
    transform: Callable[..., Any]
    fits_inputs: bool = False
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)


TASKS = {
    "classification": Task(classification, "images", "accuracy", fit_images, fits_inputs=True),
    "language": Task(
        language, "characters", "perplexity", lambda ids, input_shape: time_major(ids), defaults={"clip_norm": 1.0}
    ),
    "regression": Task(regression, "examples", "loss", lambda inputs, input_shape: inputs),
}
