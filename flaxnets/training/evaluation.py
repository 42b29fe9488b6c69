"""Networks in evaluation mode over all examples: their metrics, and their outputs."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flaxnets import nn
from flaxnets.data import Split
from flaxnets.training.batches import Batches, Stream
from flaxnets.training.execution import compile_predict_step, total
from flaxnets.training.objectives import Objective, means
from flaxnets.training.step import Kernels, make_eval_step, make_predict_step

Record = dict[str, Any]

EVALUATION_BATCH = 250


class Evaluator:
    """Evaluation over all examples, in batches of one size."""

    def __init__(
        self, model: nnx.Module, source: Split | Stream, objective: Objective | nn.Module,
        transform: Callable[[Any], Any], batch_size: int, kernels: Kernels, compute_dtype: DTypeLike | None,
    ):  # fmt: skip
        self.batches = Batches(source, batch_size, transform)
        self.step = make_eval_step(model, objective, self.batches, kernels=kernels, compute_dtype=compute_dtype)

    def __call__(self, params: nnx.State, model_state: nnx.State) -> Record:
        """Returns the mean metrics, under names that begin with ``test_``."""
        return means(total([(1, self.step(params, model_state, chosen)) for chosen in self.batches.all()]), "test")


def evaluate(
    model: nnx.Module,
    split: Split | Stream,
    *,
    objective: Objective | nn.Module,
    transform: Callable[[Any], Any] = lambda inputs: inputs,
    batch_size: int = EVALUATION_BATCH,
    kernels: Kernels = "auto",
    compute_dtype: DTypeLike | None = None,
) -> Record:
    """Returns the mean metrics of ``model`` in evaluation mode over all examples of ``split``.

    Arguments are those of :func:`flaxnets.training.fit`.

    >>> import functools, flaxnets
    >>> from flaxnets.data import fit_images, load
    >>> from flaxnets.training import classification
    >>> model, test = flaxnets.create_model("mlp"), load("digits").test
    >>> transform = functools.partial(fit_images, input_shape=(1, 28, 28))
    >>> sorted(evaluate(model, test, objective=classification, transform=transform))
    ['test_accuracy', 'test_loss']
    """
    _, params, model_state = nnx.split(model, nnx.Param, ...)
    return Evaluator(model, split, objective, transform, batch_size, kernels, compute_dtype)(params, model_state)


def predict(
    model: nnx.Module,
    split: Split | Stream,
    *,
    transform: Callable[[Any], Any] = lambda inputs: inputs,
    batch_size: int = EVALUATION_BATCH,
    kernels: Kernels = "auto",
    compute_dtype: DTypeLike | None = None,
) -> np.ndarray:
    """Returns the outputs of ``model`` in evaluation mode for all examples of ``split``, in their order.

    Arguments are those of :func:`flaxnets.training.fit`.

    >>> import functools, flaxnets
    >>> from flaxnets.data import fit_images, load
    >>> transform = functools.partial(fit_images, input_shape=(1, 28, 28))
    >>> predict(flaxnets.create_model("mlp"), load("digits").test, transform=transform).shape
    (360, 10)
    """
    batches = Batches(split, batch_size, transform)
    _, params, model_state = nnx.split(model, nnx.Param, ...)
    step = make_predict_step(model, batches, kernels=kernels, compute_dtype=compute_dtype)
    step = compile_predict_step(step, params, model_state, batches.example(), kernels)
    outputs = [step(chosen) for chosen in batches.all()]
    return np.concatenate(jax.device_get(outputs))[: len(split)]
