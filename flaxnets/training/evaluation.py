"""Evaluation and prediction of a model, without a training run."""

from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flaxnets import kernels, nn
from flaxnets.data import Split
from flaxnets.training.batches import EVALUATION_BATCH, Batches, Stream
from flaxnets.training.engine import evaluate_batches, predict_batches
from flaxnets.training.objectives import Objective
from flaxnets.training.options import Backend
from flaxnets.training.step import make_eval_step, predict_function


def evaluate(
    model: nnx.Module,
    split: Split | Stream,
    *,
    objective: Objective | nn.Module,
    transform: Callable[[Any], Any] = lambda inputs: inputs,
    batch_size: int = EVALUATION_BATCH,
    backend: Backend = "auto",
    compute_dtype: DTypeLike | None = None,
) -> dict[str, Any]:
    """Return the mean metrics of a model in evaluation mode over all examples.

    Args:
        model: The module.
        split: The examples.
        objective: As in :class:`flaxnets.training.Engine`.
        transform: Function from stored inputs to the model's inputs.
        batch_size: Examples of a batch.
        backend: As in :class:`flaxnets.training.StepOptions`.
        compute_dtype: As in :class:`flaxnets.training.StepOptions`.

    >>> import functools, flaxnets
    >>> from flaxnets.data import fit_images, load
    >>> from flaxnets.training import classification
    >>> model, test = flaxnets.create_model("mlp"), load("digits").test
    >>> transform = functools.partial(fit_images, input_shape=(1, 28, 28))
    >>> sorted(evaluate(model, test, objective=classification, transform=transform))
    ['test_accuracy', 'test_loss']
    """
    _, params, model_state = nnx.split(model, nnx.Param, ...)
    step = make_eval_step(model, objective, backend=backend, compute_dtype=compute_dtype)
    return evaluate_batches(step, params, model_state, Batches(split, batch_size, transform))


def predict(
    model: nnx.Module,
    split: Split | Stream,
    *,
    transform: Callable[[Any], Any] = lambda inputs: inputs,
    batch_size: int = EVALUATION_BATCH,
    backend: Backend = "auto",
    compute_dtype: DTypeLike | None = None,
) -> np.ndarray:
    """Return the outputs of a model in evaluation mode for all examples, in their order.

    The arguments are those of :func:`evaluate`.

    >>> import functools, flaxnets
    >>> from flaxnets.data import fit_images, load
    >>> transform = functools.partial(fit_images, input_shape=(1, 28, 28))
    >>> predict(flaxnets.create_model("mlp"), load("digits").test, transform=transform).shape
    (360, 10)
    """
    backend = kernels.choose(backend)
    _, params, model_state = nnx.split(model, nnx.Param, ...)
    step = predict_function(model, backend=backend, compute_dtype=compute_dtype)
    return predict_batches(step, params, model_state, Batches(split, batch_size, transform), backend)
