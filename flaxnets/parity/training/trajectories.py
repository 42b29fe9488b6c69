"""Compare two trainings step by step: :func:`check_training`."""

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.draws import SharedDraws
from flaxnets.parity.matching import Matching, match
from flaxnets.parity.matching import Names as Mappings
from flaxnets.parity.pairs import Pair, pair_of_equal_names, pair_of_matching, with_layout
from flaxnets.parity.preconditions import require_module
from flaxnets.parity.run import Call, prepare_flax
from flaxnets.parity.state import compare_names, randomize_parameters
from flaxnets.parity.training.bands import FLOOR, STAGES, BandedTrainer, Key, Numbers, first_failure, ratio, shown
from flaxnets.parity.training.batches import as_batch, losses
from flaxnets.parity.training.causes import find_training_cause
from flaxnets.parity.training.report import Stage, StepRow, TrainingReport
from flaxnets.parity.training.runs import (
    Evidence,
    FlaxTrainer,
    Loss,
    Names,
    Step,
    TorchStep,
    Training,
    Variant,
    first_loss,
)
from flaxnets.parity.wrapping import as_nnx

# The largest error / band at which a mistake is still tried: its own rounding errors may need a wider band.
_NEAR = 1e6

# The largest number of parameters times steps that is recorded for the search of a cause.
_RECORDED = 50_000_000


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Options of :func:`check_training`.

    Attributes:
        torch_scheduler: Function from an optimizer to a scheduler of ``torch.optim.lr_scheduler``. The scheduler steps
            after each update.
        torch_clip: Function that clips the gradients of a list of parameters before the update, such as
            ``lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 1.0)``.
        mode: ``"eval"`` trains with dropout off and constant running statistics.
        weights: ``"random"`` adds noise to all weights and buffers, so that no zero hides a fault; ``"torch"`` uses
            torch's values.
        seed: Seed of all random numbers.

    Raises:
        ValueError: If the mode is neither ``"train"`` nor ``"eval"``.

    >>> TrainingOptions(mode="eval").seed
    0
    """

    torch_scheduler: Callable[[torch.optim.Optimizer], Any] | None = None
    torch_clip: Callable[[list[torch.nn.Parameter]], Any] | None = None
    mode: Literal["train", "eval"] = "train"
    weights: Literal["random", "torch"] = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("train", "eval"):
            raise ValueError(f"mode: {self.mode!r}. Expected 'train' or 'eval'")


def check_training(
    torch_module: torch.nn.Module,
    flax_module: Any,
    batches: Iterable[Any],
    *,
    loss: str | tuple[Loss, Loss],
    torch_optimizer: Callable[[Any], torch.optim.Optimizer] | torch.optim.Optimizer,
    optimizer: Any,
    matching: Matching | Mappings | None = None,
    **options: Any,
) -> TrainingReport:
    """Compare a training in torch with the same training in Flax, step by step, in float64.

    Both sides start from the same weights and take one step on each batch. After every step, the check compares losses,
    gradients, parameters and buffers. A difference passes if it is within a *band*: the larger of 1e-9 and 64 times the
    difference that appears in torch when each weight is changed by one unit in its last place before each step. So a
    model that amplifies rounding errors gives no false alarm, and the report names the step from which on the
    comparison proves little. If a number leaves the band, torch's training is repeated with known mistakes. A mistake
    is the cause if torch then repeats Flax's training.

    Neither module is changed. Dropout drops the same elements on both sides. If the names of the two modules differ,
    dropout drops the same elements at every step, and dropout inside recurrent and attention layers is off. The axis
    orders of the Flax module are found automatically. Batches, and the outputs that the loss gets, have torch's axis
    order.

    Args:
        torch_module: the reference.
        flax_module: the module to compare: NNX, Linen or Equinox.
        batches: one pair of inputs and targets for each step. The inputs are an array, or a tuple with the arguments of
            the call.
        loss: a pair of functions of outputs and targets, the first for torch, the second for Flax. Or the name of a
            loss of the first output: ``"cross_entropy"``, with the classes on axis 1, or ``"mse"``.
        torch_optimizer: a function from parameters to an optimizer, such as
            ``functools.partial(torch.optim.SGD, lr=0.1)``. A function whose argument is named ``module`` gets the
            module. Or an optimizer over the parameters of ``torch_module``.
        optimizer: an optimizer of :mod:`flaxnets.optim` or optax.
        matching: a matching that :func:`flaxnets.parity.match` returned, or the value of its argument ``names``. By
            default, modules with different names get a suggested matching.
        **options: Fields of :class:`TrainingOptions`.

    Returns:
        A report; ``report.passed`` says whether the trainings are equal.

    Raises:
        TypeError: if a module or an optimizer has the wrong type.
        ValueError: if the module has no parameters, the names cannot be matched, a batch does not fit, the optimizer
            has other parameters, the loss is not one finite number, or the torch module is not deterministic.

    >>> import functools, optax
    >>> from flaxnets import nn
    >>> from torch import nn as torch_nn
    >>> rng = np.random.default_rng(0)
    >>> batches = [(rng.normal(size=(4, 3)), rng.normal(size=(4, 2))) for _ in range(3)]
    >>> report = check_training(
    ...     torch_nn.Linear(3, 2), nn.Linear(3, 2, rngs=nnx.Rngs(0)), batches, loss="mse",
    ...     torch_optimizer=functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    ...     optimizer=optax.sgd(0.1, momentum=0.8),
    ... )
    >>> report.cause.text
    'Flax has momentum=0.8, torch momentum=0.9.'
    """
    require_module(torch_module)
    if not any(True for _ in torch_module.parameters()):
        raise ValueError(
            f"{type(torch_module).__name__} has no parameters to train. Expected a module with parameters. "
            "Fix: use flaxnets.parity.check"
        )
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"optimizer: {optimizer!r}. Expected an optimizer of optax or flaxnets.optim. Fix: optax.sgd(0.1)"
        )
    settings = TrainingOptions(**options)
    torch_loss, flax_loss = losses(loss)
    make_optimizer = _optimizer_factory(torch_optimizer, torch_module)
    listed = [as_batch(batch, n) for n, batch in enumerate(batches)]
    if not listed:
        raise ValueError("batches is empty. Expected one batch for each training step")
    title = f"{type(torch_module).__name__} / {type(flax_module).__name__}"
    flax_module = as_nnx(flax_module, torch_module, *listed[0].inputs)
    call = Call(listed[0].inputs, {}, training=settings.mode == "train", dtype="float64")
    with jax.enable_x64(True), jax.default_matmul_precision("float32"):
        twin = copy.deepcopy(torch_module).double().train(call.training)
        ours = prepare_flax(flax_module, call)
        pair = _pair(
            twin, ours, call, matching, np.random.default_rng(settings.seed) if settings.weights == "random" else None
        )
        training = Training(
            pair=pair,
            names=Names(ours, pair.matching),
            training=call.training,
            batches=listed,
            torch_loss=torch_loss,
            flax_loss=flax_loss,
            make_optimizer=make_optimizer,
            make_scheduler=settings.torch_scheduler,
            clip=settings.torch_clip,
            optimizer=optimizer,
            seed=settings.seed,
        )
        return _report(title, training)


def _pair(
    torch_module: torch.nn.Module, flax_module: nnx.Module, call: Call, matching: Any, rng: np.random.Generator | None
) -> Pair:
    """Copy torch's weights to the Flax module, and pair the names, axes and dropout masks of the two modules.

    With an ``rng``, all weights, and the buffers that both sides have, get noise before the copy.
    """
    if rng is not None:
        randomize_parameters(torch_module, rng)
    draws = SharedDraws(0)
    if matching is None and not compare_names(torch_module, flax_module):
        return pair_of_equal_names(torch_module, flax_module, rng, draws)
    if not isinstance(matching, Matching):
        matching = match(torch_module, flax_module, *call.args, names=matching)
    if not matching.is_complete():
        raise ValueError(
            f"the names have no complete match: {' '.join(matching.problems())} Expected a partner for each parameter. "
            "Fix: matching=flaxnets.parity.match(torch_module, flax_module, *inputs, names=...)"
        )
    return with_layout(pair_of_matching(torch_module, flax_module, matching, rng, draws), call)


def _optimizer_factory(given: Any, original: torch.nn.Module) -> Callable[[torch.nn.Module], torch.optim.Optimizer]:
    """Return a function that builds an optimizer over the parameters of a copy of the module."""
    if isinstance(given, torch.optim.Optimizer):
        if given.state:
            raise ValueError(
                f"torch_optimizer: a {type(given).__name__} that has taken steps. Expected a new optimizer, since the "
                "Flax optimizer is new. Fix: pass a function from parameters to an optimizer"
            )
        names = {id(p): name for name, p in original.named_parameters()}

        def copied(module: torch.nn.Module) -> torch.optim.Optimizer:
            groups = [
                group | {"params": [module.get_parameter(names[id(p)]) for p in group["params"] if id(p) in names]}
                for group in given.param_groups
            ]
            twin = copy.copy(given)
            twin.param_groups, twin.state = groups, type(given.state)(dict)
            return twin

        return copied
    if not callable(given):
        raise TypeError(
            f"torch_optimizer: {given!r}. Expected a function from parameters to a torch optimizer. "
            "Fix: functools.partial(torch.optim.SGD, lr=0.1)"
        )
    make: Any = given
    try:
        first = next(iter(inspect.signature(given).parameters), "")
    except ValueError:
        first = ""
    return lambda module: make(module if first == "module" else list(module.parameters()))


def _check_repeatable(training: Training) -> None:
    first, second = (first_loss(training, Variant(), training.seed + i) for i in range(2))
    if abs(first - second) > FLOOR * abs(first):
        raise ValueError(
            f"the torch module is not deterministic: the same batch has the losses {first:.9g} and {second:.9g}. "
            "Expected no random numbers outside dropout layers. Fix: mode='eval'"
        )


def _report(title: str, training: Training) -> TrainingReport:
    """Train both sides step by step, and report the first difference. Record the first steps to find its cause."""
    _check_repeatable(training)
    flax, banded = FlaxTrainer(training), BandedTrainer(training, Variant())
    size = sum(value.size for value in banded.trainer.start.values())
    recorded: list[_Recorded] = []
    rows: list[StepRow] = []
    failure: tuple[int, Key] | None = None
    error = allowed = 0.0
    for n in range(len(training.batches)):
        random_state = flax.random_state()
        expected, band = banded.step(n, random_state)
        found = flax.step(n)
        errors = banded.errors(expected.step, found)
        worst = max(errors, key=lambda key: ratio(errors[key], band.get(key, FLOOR)))
        rows.append(StepRow(n + 1, expected.step.loss, found.loss, shown(worst), errors[worst], band.get(worst, FLOOR)))
        failed = first_failure(errors, band)
        if failure is None and failed is not None:
            failure = n, failed
            error, allowed = errors[failed], band.get(failed, FLOOR)
        if n == 0 or (n + 1) * size <= _RECORDED:
            recorded.append(_Recorded(random_state, expected, found, band))
    notes = (*(training.pair.layout.describe() if training.pair.layout else ()), *banded.notes)
    if failure is None:
        return TrainingReport(title, tuple(rows), notes=notes)
    n, (stage, name) = failure
    report = TrainingReport(title, tuple(rows), n + 1, name, stage, error, allowed, None, notes)
    if n >= len(recorded):
        note = (
            f"The difference begins after step {len(recorded)}, the last step in which a cause is searched: parameters "
            f"times steps exceed {_RECORDED:.0e}. Fix: train a smaller variant of the module."
        )
        return dataclasses.replace(report, notes=(*notes, note))
    evidence = Evidence(
        training,
        banded.trainer,
        [each.expected for each in recorded],
        flax.start,
        [each.found for each in recorded],
        # A mistake in a loss or an optimizer need not explain the running statistics, which may have another mistake.
        functools.partial(_worst, training, recorded, STAGES if stage == "buffer" else STAGES[:-1]),
    )
    return dataclasses.replace(report, cause=find_training_cause(evidence, stage, n + 1))


@dataclasses.dataclass(frozen=True)
class _Recorded:
    """One step of both sides."""

    random_state: Any
    expected: TorchStep
    found: Step
    band: Numbers


def _worst(
    training: Training, recorded: Sequence[_Recorded], stages: Sequence[Stage], variant: Variant | None
) -> float:
    """Return the largest error / band in these stages, between Flax and torch with a mistake."""

    def worst_of(errors: Numbers, band: Numbers) -> float:
        return max((ratio(e, band.get(key, FLOOR)) for key, e in errors.items() if key[0] in stages), default=0.0)

    banded, worst = BandedTrainer(training, variant or Variant()), 0.0
    for n, each in enumerate(recorded):
        changed = banded.trainer.step(n, each.random_state)
        worst = max(worst, worst_of(banded.errors(changed.step, each.found), each.band))
        if variant is not None and worst > _NEAR:
            return worst
    if worst <= 1 or variant is None:
        return worst
    # Rounding errors may grow faster with the mistake than without the mistake: measure again with its own band.
    banded, worst = BandedTrainer(training, variant), 0.0
    for n, each in enumerate(recorded):
        changed, band = banded.step(n, each.random_state)
        worst = max(worst, worst_of(banded.errors(changed.step, each.found), band))
    return worst
