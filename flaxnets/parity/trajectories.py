"""Whole trainings side by side: :func:`check_training`."""

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import nn, state
from flaxnets.parity._torch import torch
from flaxnets.parity.layouts import Layout, closest_order, suggest_inputs
from flaxnets.parity.matching import Matching, load_torch_weights, match
from flaxnets.parity.measures import deviation, largest
from flaxnets.parity.run import Call, call_flax, prepare_flax, run_torch
from flaxnets.parity.state import compare_names, randomize, transfer
from flaxnets.parity.training_causes import find_training_cause
from flaxnets.parity.training_report import Stage, StepRow, TrainingReport
from flaxnets.parity.training_runs import (
    Batch,
    Evidence,
    Loss,
    Names,
    Step,
    TorchRun,
    Training,
    Trajectory,
    Variant,
    first_loss,
    run_flax_training,
    run_torch_training,
)
from flaxnets.parity.trees import named_modules

# An error that passes without further evidence, relative to the loss, the norm of all gradients, the largest movement
# of any parameter so far, or the buffer's largest value.
FLOOR = 1e-9

# How many times the effect of one unit in the last place of each weight, at each step, a difference may have. Flax
# rounds otherwise in every operation, and not only in the weights.
_ALLOWANCE = 64
_PERTURBED_RUNS = 2

_STAGES: tuple[Stage, ...] = ("loss", "gradient", "update", "buffer")
Key = tuple[Stage, str]


def check_training(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    batches: Iterable[Any],
    *,
    loss: str | tuple[Loss, Loss],
    torch_optimizer: Callable[[Any], torch.optim.Optimizer] | torch.optim.Optimizer,
    optimizer: Any,
    matching: Matching | None = None,
    torch_scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    torch_clip: Callable[[list[torch.nn.Parameter]], Any] | None = None,
    layout: Layout | None = None,
    mode: Literal["train", "eval"] = "train",
    weights: Literal["random", "torch"] = "random",
    seed: int = 0,
) -> TrainingReport:
    """Compare a training in torch with the same training in Flax, step by step, in float64.

    Both sides start from the same weights and take one step on each batch. After every step the losses, gradients,
    parameters and buffers are compared. A difference passes if it is within a *band*: 1e-9, or 64 times the difference
    that torch has to itself when each weight is moved by one unit in its last place before each step, whichever is
    more. So a model that amplifies rounding errors gives no false alarm, and the report says from where on the
    comparison proves little. If something leaves the band, torch's training is repeated with known mistakes until it is
    Flax's training: that mistake is the cause.

    Neither module is changed. Dropout layers of torch use the masks that Flax layers of flaxnets with the same names
    draw. Other dropout layers are switched off on both sides, and the report notes that.

    Args:
        torch_module: the reference.
        flax_module: the module that must train in the same way.
        batches: one for each step: a pair of inputs and targets. The inputs are an array, or a tuple with the
            arguments of the call.
        loss: a pair of functions of outputs and targets, the first for torch, the second for Flax. Or
            ``"cross_entropy"`` or ``"mse"``, of the first output, with its classes on axis 1.
        torch_optimizer: from parameters to an optimizer, such as ``functools.partial(torch.optim.SGD, lr=0.1)``. A
            function whose argument is named ``module`` gets the module. Or an optimizer over the parameters of
            ``torch_module``.
        optimizer: one of :mod:`flaxnets.optim` or of optax.
        matching: which Flax variables are made of which torch tensors, a :class:`flaxnets.parity.Matching`; None if
            both sides have the same names.
        torch_scheduler: from an optimizer to a scheduler of ``torch.optim.lr_scheduler``, which takes a step after
            each update.
        torch_clip: called with the parameters between the gradients and the update, such as
            ``lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 1.0)``.
        layout: axis orders of the Flax module's inputs and outputs; found by trial if None. Batches, and the outputs
            that the loss gets, have torch's.
        mode: ``"eval"`` trains with dropout off and constant running statistics.
        weights: ``"random"`` moves all weights and buffers off their initial values, so that no zero hides a fault;
            ``"torch"`` takes them as they are.
        seed: of all random numbers.

    Returns:
        A report; ``report.passed`` says whether the trainings are equal.

    Raises:
        TypeError: for an optimizer that is none.
        ValueError: for names without a match, batches that do not fit, an optimizer over other parameters, a loss that
            is not one finite number, and a torch module that computes two losses from one batch.

    >>> import functools, optax
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
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"optimizer: {optimizer!r}. Expected an optimizer of optax or flaxnets.optim. Fix: optax.sgd(0.1)"
        )
    if mode not in ("train", "eval"):
        raise ValueError(f"mode: {mode!r}. Expected 'train' or 'eval'")
    torch_loss, flax_loss = _losses(loss)
    make_optimizer = _optimizer_factory(torch_optimizer, torch_module)
    listed = [_batch(batch, n) for n, batch in enumerate(batches)]
    if not listed:
        raise ValueError("batches: there are none. Expected one for each training step")
    call = Call(listed[0].inputs, {}, training=mode == "train", dtype="float64")
    with jax.enable_x64(True), jax.default_matmul_precision("float32"):
        matching = matching or _matching(torch_module, flax_module, call)
        twin = copy.deepcopy(torch_module).double().train(call.training)
        ours = prepare_flax(flax_module, call)
        if weights == "random":
            randomize(twin, np.random.default_rng(seed))
        _load(twin, ours, matching)
        notes = _without_masks(twin, ours)
        training = Training(
            torch_module=twin,
            flax_module=ours,
            names=Names(ours, matching),
            layout=layout if layout or matching is None else _layout(twin, ours, call),
            training=call.training,
            batches=listed,
            torch_loss=torch_loss,
            flax_loss=flax_loss,
            make_optimizer=make_optimizer,
            make_scheduler=torch_scheduler,
            clip=torch_clip,
            optimizer=optimizer,
            seed=seed,
        )
        title = f"{type(torch_module).__name__} / {type(flax_module).__name__}"
        return _report(title, training, notes)


def random_batches(
    torch_module: torch.nn.Module, inputs: Sequence[Any], steps: int, seed: int = 0, *, outputs: Any = None
) -> tuple[list[tuple[tuple[Any, ...], np.ndarray]], str]:
    """Return batches like an example, and the name of a loss for them.

    Floating-point inputs are normal numbers, other numbers lie between the smallest and the largest of the example.
    Targets are random classes where the first output of the module has the shape (batch, classes), and normal numbers
    otherwise.

    Args:
        torch_module: which outputs there are; called once on a copy.
        inputs: example arguments of a call: numpy arrays, or nested tuples of them.
        steps: how many batches.
        seed: of the random numbers.
        outputs: of the module for these inputs, if they are known already.

    >>> batches, loss = random_batches(torch.nn.Linear(3, 5), [np.ones((4, 3))], steps=2)
    >>> loss, batches[0][0][0].shape, batches[0][1].shape
    ('cross_entropy', (4, 3), (4,))
    """
    rng = np.random.default_rng(seed)
    if outputs is None:
        twin = copy.deepcopy(torch_module).double().eval()
        with torch.no_grad():
            outputs = twin(*jax.tree.map(_example, tuple(inputs)))
    output = _first(outputs)
    shape = tuple(output.shape)
    classes = shape[1] if len(shape) == 2 and shape[1] > 1 else None

    def like(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        if leaf.dtype.kind == "f":
            return rng.normal(size=leaf.shape).astype(np.float32).astype(np.float64)
        if leaf.dtype.kind == "b" or not leaf.size:
            return leaf
        return rng.integers(leaf.min(), leaf.max() + 1, leaf.shape).astype(leaf.dtype)

    batches = []
    for _ in range(steps):
        target = rng.integers(0, classes, shape[:1]) if classes else rng.normal(size=shape)
        batches.append((jax.tree.map(like, tuple(inputs)), target))
    return batches, "cross_entropy" if classes else "mse"


def _example(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    tensor = torch.from_numpy(leaf.copy())
    return tensor.double() if tensor.is_floating_point() else tensor


def _first(outputs: Any) -> Any:
    """The first floating-point output, which the named losses are of."""
    for leaf in jax.tree.leaves(outputs):
        floating = leaf.is_floating_point() if isinstance(leaf, torch.Tensor) else jnp.issubdtype(leaf.dtype, float)
        if floating:
            return leaf
    raise ValueError(f"no output is floating-point: {outputs!r}. Expected one for the loss. Fix: give a pair of losses")


_LOSSES: dict[str, tuple[Loss, Loss]] = {
    "cross_entropy": (
        lambda outputs, targets: torch.nn.functional.cross_entropy(_first(outputs), targets),
        lambda outputs, targets: nn.functional.cross_entropy(_first(outputs), targets),
    ),
    "mse": (
        lambda outputs, targets: torch.nn.functional.mse_loss(_first(outputs), targets),
        lambda outputs, targets: nn.functional.mse_loss(_first(outputs), targets),
    ),
}


def _losses(loss: Any) -> tuple[Loss, Loss]:
    if isinstance(loss, str) and loss in _LOSSES:
        return _LOSSES[loss]
    if isinstance(loss, (tuple, list)) and len(loss) == 2 and all(map(callable, loss)):
        return loss[0], loss[1]
    raise ValueError(
        f"loss: {loss!r}. Expected {' or '.join(map(repr, _LOSSES))}, or a pair of functions of outputs and targets, "
        "the first for torch, the second for Flax"
    )


def _matching(torch_module: torch.nn.Module, flax_module: nnx.Module, call: Call) -> Matching | None:
    """Find what each Flax variable is made of; None if both sides have the same names."""
    if not compare_names(torch_module, flax_module):
        return None
    found = match(torch_module, flax_module, *call.args)
    if not found.is_complete():
        raise ValueError(
            f"the names have no complete match: {' '.join(found.problems())} Expected a partner for each parameter. "
            "Fix: matching=flaxnets.parity.match(torch_module, flax_module, *inputs, names=...)"
        )
    return found


def _load(torch_module: torch.nn.Module, flax_module: nnx.Module, matching: Matching | None) -> None:
    if matching is None:
        transfer(torch_module, flax_module)
    else:
        load_torch_weights(flax_module, torch_module.state_dict(), matching)


def _layout(torch_module: torch.nn.Module, flax_module: nnx.Module, call: Call) -> Layout:
    """The axis orders in which the outputs are torch's, or closest to them."""
    expected, _ = run_torch(torch_module, call, None, np.random.default_rng(0))
    errors: list[tuple[float, Layout]] = []
    for each in suggest_inputs(flax_module, call, [o.shape for o in expected.outputs]):
        outputs = [np.asarray(o) for o in jax.tree.leaves(call_flax(nnx.clone(flax_module), each.to_flax(call)))]
        pairs = [closest_order(a, b) for a, b in zip(expected.outputs, outputs, strict=False)]
        orders = tuple(order or tuple(range(o.ndim)) for (order, _), o in zip(pairs, outputs, strict=False))
        errors.append((max((error for _, error in pairs), default=float("inf")), Layout(each.inputs, orders)))
    return min(errors, key=lambda pair: (np.isnan(pair[0]), pair[0]))[1]


def _optimizer_factory(given: Any, original: torch.nn.Module) -> Callable[[torch.nn.Module], torch.optim.Optimizer]:
    """From a copy of the module to an optimizer over its parameters."""
    if isinstance(given, torch.optim.Optimizer):
        if given.state:
            raise ValueError(
                f"torch_optimizer: a {type(given).__name__} that has taken steps. Expected a new one, since the Flax "
                "optimizer is new. Fix: give a function that makes it"
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
    try:
        first = next(iter(inspect.signature(given).parameters), "")
    except ValueError:
        first = ""
    return lambda module: given(module if first == "module" else list(module.parameters()))


def _batch(given: Any, n: int) -> Batch:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ValueError(
            f"batch {n + 1} is {_described(given)}. Expected a pair of inputs and targets; several inputs are a tuple"
        )
    inputs = tuple(given[0]) if isinstance(given[0], (tuple, list)) else (given[0],)
    return jax.tree.map(_array, Batch(inputs, given[1]))


def _described(given: Any) -> str:
    size = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
    return f"a {type(given).__name__}{size}"


def _array(leaf: Any) -> Any:
    if not isinstance(leaf, (np.ndarray, np.generic, jax.Array, torch.Tensor)):
        return leaf
    array = np.asarray(leaf)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _without_masks(torch_module: torch.nn.Module, flax_module: nnx.Module) -> tuple[str, ...]:
    """Switches the dropout layers off that cannot share their masks; says so."""
    twins = dict(state.named_modules(flax_module, remove_duplicate=False))
    off = []
    for name, module in torch_module.named_modules():
        rate = getattr(module, "p", getattr(module, "dropout", 0.0))
        if not module.training or not isinstance(rate, float) or rate == 0.0:
            continue
        if "Dropout" in type(module).__name__ and not hasattr(twins.get(name), "draw_mask"):
            module.eval()
            off.append(name)
    if not off:
        return ()
    for module in named_modules(flax_module).values():
        if isinstance(module, nnx.Dropout):
            module.rate = 0.0
        elif isinstance(module, nnx.MultiHeadAttention):
            module.dropout_rate = 0.0
    return (f"Dropout is off on both sides, since its masks cannot be shared: {', '.join(off[:5])}.",)


def _check_repeatable(training: Training) -> None:
    random_states = [nnx.state(training.flax_module, nnx.RngState)]
    one, other = (first_loss(training, random_states, Variant(), training.seed + i) for i in range(2))
    if abs(one - other) > FLOOR * abs(one):
        raise ValueError(
            f"the torch module is not deterministic: the same batch has the losses {one:.9g} and {other:.9g}. Expected "
            "no random numbers but those of dropout layers. Fix: mode='eval'"
        )


def _report(title: str, training: Training, notes: tuple[str, ...]) -> TrainingReport:
    _check_repeatable(training)
    flax, random_states = run_flax_training(training)
    run = functools.partial(run_torch_training, training, random_states)
    expected = run()
    bands = _bands(expected.trajectory, run, training.seed)
    compare = functools.partial(_errors, reference=expected.trajectory)
    errors = [compare(step=step, n=n) for n, step in enumerate(flax.steps)]
    rows, first = [], None
    for n, found in enumerate(errors):
        ratios = {key: _ratio(error, bands[n].get(key, FLOOR)) for key, error in found.items()}
        worst = max(ratios, key=lambda key: ratios[key])
        rows.append(
            StepRow(
                n + 1,
                expected.trajectory.steps[n].loss,
                flax.steps[n].loss,
                _shown(worst),
                found[worst],
                bands[n].get(worst, FLOOR),
            )
        )
        if first is None:
            first = _first_failure(n, found, bands[n])
    notes += _chaos(bands)
    if first is None:
        return TrainingReport(title, tuple(rows), notes=notes)
    n, stage, name = first
    located = TrainingReport(
        title, tuple(rows), n + 1, name, stage, errors[n][stage, name], bands[n].get((stage, name), FLOOR), None, notes
    )

    def ratio(reference: Trajectory, bands: list[dict[Key, float]]) -> float:
        found = [_errors(step=s, n=i, reference=reference) for i, s in enumerate(flax.steps)]
        return max(_ratio(e, bands[i].get(key, FLOOR)) for i, each in enumerate(found) for key, e in each.items())

    def worst(variant: Variant | None) -> float:
        if variant is None:
            return ratio(expected.trajectory, bands)
        changed = run(variant).trajectory
        remaining = ratio(changed, bands)
        if remaining <= 1 or remaining > 1e-3 * ratio(expected.trajectory, bands):
            return remaining
        # With the mistake, rounding errors may grow where they did not without it.
        return ratio(changed, _bands(changed, lambda v: run(dataclasses.replace(variant, rounding=v.rounding)), seed))

    seed = training.seed
    evidence = Evidence(training, flax, expected, worst, random_states)
    return dataclasses.replace(located, cause=find_training_cause(evidence, stage, n + 1))


def _first_failure(n: int, errors: dict[Key, float], bands: dict[Key, float]) -> tuple[int, Stage, str] | None:
    for stage in _STAGES:
        failed = [key for key, error in errors.items() if key[0] == stage and not error <= bands.get(key, FLOOR)]
        if failed:
            # The first in the order of the module for an update; the order of the backward pass is the reverse.
            key = failed[-1] if stage == "gradient" else failed[0]
            return n, stage, key[1]
    return None


def _errors(step: Step, n: int, reference: Trajectory) -> dict[Key, float]:
    """All errors of one step by stage and name, each relative to the scale of its stage."""
    expected = reference.steps[n]
    scale = max(abs(each.loss) for each in reference.steps)
    errors: dict[Key, float] = {("loss", "loss"): _relative(abs(step.loss - expected.loss), scale)}
    names = [name for name in expected.gradients if name in step.gradients]
    norm = float(np.sqrt(sum(np.sum(np.abs(expected.gradients[name]) ** 2) for name in names)))
    for name in names:
        errors["gradient", name] = _relative(deviation(expected.gradients[name], step.gradients[name]), norm)
    moved = max(
        (
            max(largest(expected.parameters[name] - start), largest(step.parameters[name] - start))
            for name, start in reference.parameters.items()
            if step.parameters[name].shape == start.shape
        ),
        default=0.0,
    )
    for name, value in expected.parameters.items():
        errors["update", name] = _relative(deviation(value, step.parameters[name]), moved)
    for name, value in expected.buffers.items():
        errors["buffer", name] = _relative(deviation(value, step.buffers[name]), largest(value))
    return errors


def _relative(error: float, scale: float) -> float:
    error = float("inf") if np.isnan(error) else error
    return error / scale if scale else error


def _ratio(error: float, band: float) -> float:
    return float("inf") if np.isnan(error) else error / band


def _bands(reference: Trajectory, run: Callable[[Variant], TorchRun], seed: int) -> list[dict[Key, float]]:
    """For each step, what passes: torch against itself with weights moved in their last place; it never shrinks."""
    bands: list[dict[Key, float]] = [{} for _ in reference.steps]
    for number in range(_PERTURBED_RUNS):
        moved = run(Variant(rounding=np.random.default_rng((seed, number)))).trajectory
        before: dict[Key, float] = {}
        for n, step in enumerate(moved.steps):
            for key, error in _errors(step=step, n=n, reference=reference).items():
                allowed = max(FLOOR, _ALLOWANCE * error, before.get(key, 0.0), bands[n].get(key, 0.0))
                bands[n][key] = before[key] = allowed
    return bands


def _chaos(bands: list[dict[Key, float]]) -> tuple[str, ...]:
    for n, each in enumerate(bands):
        key = max(each, key=lambda k: each[k])
        if each[key] > 1e-3:
            return (
                f"From step {n + 1} on the comparison proves little: torch's own rounding errors move {_shown(key)} by "
                f"{each[key] / _ALLOWANCE:.0e} of its scale.",
            )
    return ()


def _shown(key: Key) -> str:
    stage, name = key
    return name if stage in ("loss", "update", "buffer") else f"{stage} of {name}"
