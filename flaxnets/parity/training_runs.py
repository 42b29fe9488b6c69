"""The same training in torch and in Flax, recorded step by step as numpy arrays in Flax's names and axis orders."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flaxnets import state
from flaxnets.optim.frozen import mask, unmask
from flaxnets.parity._torch import torch
from flaxnets.parity.layouts import Layout
from flaxnets.parity.masks import shared_masks
from flaxnets.parity.run import Call, call_flax, mapped_call
from flaxnets.parity.trees import named_variables

Arrays = dict[str, np.ndarray]
Loss = Callable[[Any, Any], Any]


class Batch(NamedTuple):
    """The arguments of a call, and what the loss gets besides the outputs."""

    inputs: tuple[Any, ...]
    targets: Any


@dataclasses.dataclass(frozen=True)
class Step:
    """What one step computed and left behind."""

    loss: float
    gradients: Arrays
    parameters: Arrays
    buffers: Arrays


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """A training: the values before its first step, and its steps."""

    parameters: Arrays
    buffers: Arrays
    steps: list[Step]


class Names:
    """Torch's state under the names and in the axis orders of a Flax module.

    Args:
        flax_module: whose names.
        matching: a :class:`flaxnets.parity.matching.Matching`; None if the names are the same.
    """

    def __init__(self, flax_module: nnx.Module, matching: Any = None):
        self.matching, self._module = matching, flax_module
        variables = named_variables(flax_module)
        self.parameters = [name for name, v in variables.items() if isinstance(v, nnx.Param)]
        self.buffers = [name for name, v in variables.items() if not isinstance(v, nnx.Param)]
        self.trained = [name for name in self.parameters if not state.is_frozen(variables[name])]

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the names in torch of the tensors that a Flax variable is made of."""
        if self.matching is None:
            return (name,)
        return next((entry.torch for entry in self.matching.entries if entry.flax == name), ())

    def values(self, torch_values: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
        """Return parameters and buffers."""
        values = torch_values
        if self.matching is not None:
            values = self.matching.flax_values(torch_values, self._module)
        return _chosen(values, self.parameters), _chosen(values, self.buffers)

    def gradients(self, torch_gradients: Mapping[str, np.ndarray]) -> Arrays:
        """Return gradients."""
        gradients = torch_gradients
        if self.matching is not None:
            gradients = self.matching.expected_gradients(torch_gradients)
        return _chosen(gradients, self.parameters)


def _chosen(arrays: Mapping[str, Any], names: Sequence[str]) -> Arrays:
    return {name: np.asarray(arrays[name]) for name in names if name in arrays}


@dataclasses.dataclass(frozen=True)
class Training:
    """Everything that the two sides train with; the modules are in float64 and have the same weights.

    Attributes:
        torch_module: the reference, in its mode.
        flax_module: its counterpart, in the same mode.
        names: torch's state under the names of Flax.
        layout: axis orders of the Flax module; None if they are torch's.
        training: whether both modules are in training mode.
        batches: one for each step, in torch's axis order.
        torch_loss: of outputs and targets.
        flax_loss: the same in Flax; its outputs are in torch's axis order.
        make_optimizer: from the torch module.
        make_scheduler: from the torch optimizer.
        clip: changes the gradients of a list of torch parameters.
        optimizer: of optax or flaxnets.optim.
        seed: of torch's random numbers.
    """

    torch_module: torch.nn.Module
    flax_module: nnx.Module
    names: Names
    layout: Layout | None
    training: bool
    batches: Sequence[Batch]
    torch_loss: Loss
    flax_loss: Loss
    make_optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer]
    make_scheduler: Callable[[Any], Any] | None
    clip: Callable[[list[Any]], Any] | None
    optimizer: Any
    seed: int

    def flax_outputs(self, model: nnx.Module, inputs: tuple[Any, ...]) -> Any:
        """Call a Flax module on inputs in torch's axis order, and return outputs in torch's."""
        call = Call(inputs, {}, training=self.training, dtype="float64")
        if self.layout is None:
            return call_flax(model, call)
        orders = iter(self.layout.inputs)
        call = mapped_call(call, lambda leaf: jnp.transpose(leaf, next(orders)) if hasattr(leaf, "ndim") else leaf)
        outputs, orders = call_flax(model, call), iter(self.layout.outputs)
        return jax.tree.map(lambda leaf: jnp.transpose(leaf, np.argsort(next(orders))), outputs)


@dataclasses.dataclass(frozen=True)
class Variant:
    """What torch does otherwise.

    Attributes:
        module: changes the module before the first step.
        loss: takes the place of the loss.
        scope: within which a forward pass and its loss are computed, such as a torch function mode.
        penalty: of the module, added to the loss.
        settings: what all groups of the optimizer have instead.
        update: takes the optimizer's place: gets the number of the step, the parameters by name, and their gradients
            before and after clipping, and returns the new values.
        rounding: a generator that moves each weight by at most one unit in its last place before each step.
    """

    module: Callable[[torch.nn.Module], None] = lambda module: None
    loss: Loss | None = None
    scope: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    penalty: Callable[[torch.nn.Module], Any] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    update: Callable[[int, Arrays, Arrays, Arrays], Arrays] | None = None
    rounding: np.random.Generator | None = None


@dataclasses.dataclass
class TorchRun:
    """A training in torch.

    Attributes:
        trajectory: in Flax's names.
        optimizer: as it is after the last step.
        settings: of the optimizer, by parameter, before each step and after the last; empty for one in no group.
        start: the parameters, by torch's names.
        gradients: of each step, by torch's names, before clipping; of those parameters that have one.
        clipped: the same after clipping.
        values: the parameters after each step, by torch's names.
    """

    trajectory: Trajectory
    optimizer: torch.optim.Optimizer
    settings: list[dict[str, dict[str, Any]]]
    start: Arrays
    gradients: list[Arrays]
    clipped: list[Arrays]
    values: list[Arrays]


@contextlib.contextmanager
def _double_precision() -> Iterator[None]:
    """Within this context torch's optimizers keep their scalars, and modules make tensors, in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@_double_precision()
def run_torch_training(training: Training, random_states: Sequence[Any], variant: Variant | None = None) -> TorchRun:
    """Trains a copy of the torch module.

    Raises:
        ValueError: for a batch that the module or the loss refuses, and a loss that is no finite number.
    """
    variant = variant or Variant()
    module = copy.deepcopy(training.torch_module)
    variant.module(module)
    optimizer = training.make_optimizer(module)
    for group in getattr(optimizer, "param_groups", ()):
        group.update(variant.settings)
    named = dict(module.named_parameters())
    _check_optimizer(optimizer, named)
    scheduler = training.make_scheduler(optimizer) if training.make_scheduler else None
    drawn, start = nnx.clone(training.flax_module), _numbers(named)
    run = TorchRun(
        Trajectory(*training.names.values(_state(module)), []), optimizer, [_settings(optimizer, named)], start,
        [], [], [],
    )  # fmt: skip
    torch.manual_seed(training.seed)
    for n, batch in enumerate(training.batches):
        if variant.rounding is not None:
            _move_last_places(named, variant.rounding)
        module.zero_grad()  # those that the optimizer does not have, too
        nnx.update(drawn, random_states[n])
        with shared_masks(module, drawn), variant.scope():
            loss = _torch_loss(training, variant, module, batch, n)
        if loss.requires_grad:
            loss.backward()
        raw = _gradients(named)
        if training.clip is not None:
            training.clip([p for p in named.values() if p.grad is not None])
        clipped = _gradients(named)
        if variant.update is not None:
            new = variant.update(n, _numbers(named), raw, clipped)
            with torch.no_grad():
                for name, value in new.items():
                    named[name].copy_(torch.from_numpy(value))
        else:
            optimizer.step()
            _advance(scheduler, loss)
        run.settings.append(_settings(optimizer, named))
        run.gradients.append(raw)
        run.clipped.append(clipped)
        run.values.append(_numbers(named))
        zeros = {name: np.zeros(tuple(p.shape)) for name, p in named.items() if p.requires_grad}
        gradients = training.names.gradients(zeros | raw)
        run.trajectory.steps.append(Step(loss.item(), gradients, *training.names.values(_state(module))))
    return run


def _check_optimizer(optimizer: Any, named: Mapping[str, Any]) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"torch_optimizer returned {type(optimizer).__name__}: {optimizer!r}. Expected a torch.optim.Optimizer. "
            "Fix: torch_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)"
        )
    own = {id(p) for p in named.values()}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not own & held:
        raise ValueError(
            f"torch_optimizer returned a {type(optimizer).__name__} over {len(held)} parameters, none of which it was "
            "called with. Expected an optimizer over the parameters that it is called with, since a copy of the "
            "module is trained. Fix: torch_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)"
        )


def _settings(optimizer: torch.optim.Optimizer, named: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    by_id = {
        id(p): {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
        for p in group["params"]
    }
    return {name: by_id.get(id(p), {}) for name, p in named.items()}


def _move_last_places(named: Mapping[str, Any], rng: np.random.Generator) -> None:
    with torch.no_grad():
        for p in named.values():
            places = rng.integers(-1, 2, tuple(p.shape)).astype(np.float64)
            p.mul_(1 + torch.from_numpy(places).reshape(p.shape).to(p.dtype) * 2.0**-52)


def _torch_loss(training: Training, variant: Variant, module: torch.nn.Module, batch: Batch, n: int) -> torch.Tensor:
    loss_of = variant.loss or training.torch_loss
    try:
        loss = loss_of(module(*jax.tree.map(_tensor, batch.inputs)), jax.tree.map(_tensor, batch.targets))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{_batch_name(batch, n)} does not fit the torch module or loss: {_line(error)}") from error
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shape = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ValueError(f"the torch loss has {shape}. Expected one number. Fix: take the mean or the sum")
    if not torch.isfinite(loss):
        raise ValueError(
            f"the torch loss of step {n + 1} is {loss.item()}. Expected finite losses. Fix: lower the learning rate, "
            "or check the batch for NaN"
        )
    return loss.reshape(()) if variant.penalty is None else loss.reshape(()) + variant.penalty(module)


@_double_precision()
def first_loss(training: Training, random_states: Sequence[Any], variant: Variant, seed: int = 0) -> float:
    """Returns the loss of the first batch, in a copy of the torch module.

    Raises:
        ValueError: as :func:`run_torch_training`.
    """
    module = copy.deepcopy(training.torch_module)
    variant.module(module)
    drawn = nnx.clone(training.flax_module)
    nnx.update(drawn, random_states[0])
    torch.manual_seed(seed)
    with torch.no_grad(), shared_masks(module, drawn), variant.scope():
        return float(_torch_loss(training, variant, module, training.batches[0], 0))


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The two trainings, and what torch's becomes with a mistake.

    Attributes:
        training: what both trained with.
        flax: Flax's training.
        expected: torch's.
        worst: how far Flax's training is off from torch's with a mistake (None: without one), where it is worst, as a
            multiple of the band.
        random_states: of the Flax module, before each step.
    """

    training: Training
    flax: Trajectory
    expected: TorchRun
    worst: Callable[[Variant | None], float]
    random_states: Sequence[Any]

    def first_loss(self, variant: Variant) -> float | None:
        """Returns torch's first loss with a mistake; None if torch refuses the mistake."""
        try:
            return first_loss(self.training, self.random_states, variant, self.training.seed)
        except ValueError:
            return None


def _batch_name(batch: Batch, n: int) -> str:
    shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(batch.inputs) if hasattr(leaf, "shape")]
    targets = [tuple(leaf.shape) for leaf in jax.tree.leaves(batch.targets) if hasattr(leaf, "shape")]
    shown = [", ".join(map(str, each)) for each in (shapes, targets)]
    return f"batch {n + 1} (inputs {shown[0]}; targets {shown[1]})"


def _line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _tensor(leaf: Any) -> Any:
    return torch.from_numpy(leaf.copy()) if isinstance(leaf, np.ndarray) else leaf


def _numbers(named: Mapping[str, Any]) -> Arrays:
    return {name: tensor.detach().numpy().copy() for name, tensor in named.items()}


def _gradients(named: Mapping[str, Any]) -> Arrays:
    return _numbers({name: p.grad for name, p in named.items() if p.grad is not None})


def _state(module: torch.nn.Module) -> Arrays:
    return _numbers({**module.state_dict(), **dict(module.named_buffers())})


def _advance(scheduler: Any, loss: torch.Tensor) -> None:
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler.step(loss.item())
    elif scheduler is not None:
        scheduler.step()


def run_flax_training(training: Training) -> tuple[Trajectory, list[Any]]:
    """Trains a copy of the Flax module with one compiled step.

    Returns:
        The trajectory, and the state of the random generators before each step.

    Raises:
        ValueError: for a batch that the module or the loss refuses, and a loss that is not one number.
    """
    graphdef, params, rest = nnx.split(nnx.clone(training.flax_module), nnx.Param, ...)
    opt_state = training.optimizer.init(mask(params))
    takes_value = isinstance(training.optimizer, optax.GradientTransformationExtraArgs)

    @jax.jit
    def step(params: Any, rest: Any, opt_state: Any, batch: Batch) -> Any:
        def loss_of(trainable: Any) -> Any:
            model = nnx.merge(graphdef, unmask(trainable, params), rest, copy=True)
            loss = training.flax_loss(training.flax_outputs(model, batch.inputs), batch.targets)
            if getattr(loss, "shape", None) not in ((), (1,)):
                shape = f"shape {loss.shape}" if hasattr(loss, "shape") else type(loss).__name__
                raise ValueError(f"the Flax loss has {shape}. Expected one number. Fix: take the mean or the sum")
            _, _, after = nnx.split(model, nnx.Param, ...)
            return loss.reshape(()), after

        trainable = mask(params)
        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        extra = {"value": loss, "grad": gradients} if takes_value else {}
        updates, opt_state = training.optimizer.update(gradients, opt_state, trainable, **extra)
        return loss, gradients, unmask(optax.apply_updates(trainable, updates), params), rest, opt_state

    def read(params: Any, rest: Any) -> Arrays:
        variables = named_variables(nnx.merge(graphdef, params, rest, copy=True))
        return {name: np.asarray(v.get_value()) for name, v in variables.items()}

    names, values = training.names, read(params, rest)
    start = _chosen(values, names.parameters), _chosen(values, names.buffers)
    trajectory, random_states = Trajectory(*start, []), []
    for n, batch in enumerate(training.batches):
        random_states.append(nnx.state(nnx.merge(graphdef, params, rest, copy=True), nnx.RngState))
        try:
            loss, gradients, params, rest, opt_state = step(params, rest, opt_state, batch)
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{_batch_name(batch, n)} does not fit the Flax module, loss or optimizer: {_line(error)}"
            ) from error
        slopes, values = read(unmask(gradients, params), rest), read(params, rest)
        parts = (
            _chosen(*each) for each in ((slopes, names.trained), (values, names.parameters), (values, names.buffers))
        )
        trajectory.steps.append(Step(float(loss), *parts))
    return trajectory, random_states
