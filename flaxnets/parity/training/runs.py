"""Run the same training in torch and in Flax, and record each step as numpy arrays with Flax's names and shapes."""

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

from flaxnets import state, xla
from flaxnets.optim.frozen import mask, unmask
from flaxnets.parity._torch import torch
from flaxnets.parity.pairs import Pair
from flaxnets.parity.precision import exact_constants
from flaxnets.parity.run import Call, call_flax, mapped_call
from flaxnets.parity.state import named_tensors
from flaxnets.parity.trees import named_variables

# A step runs only a few times, so that compile time matters more than run time.
_QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

Arrays = dict[str, np.ndarray]
Loss = Callable[[Any, Any], Any]


class Batch(NamedTuple):
    """The arguments of a call, and the targets of the loss."""

    inputs: tuple[Any, ...]
    targets: Any


@dataclasses.dataclass(frozen=True)
class Step:
    """Loss, gradients, parameters and buffers of one training step."""

    loss: float
    gradients: Arrays
    parameters: Arrays
    buffers: Arrays


class Names:
    """Convert torch's state to the names and axis orders of a Flax module.

    Args:
        flax_module: the module.
        matching: a :class:`flaxnets.parity.matching.Matching`; None if the names are equal on the two sides.
    """

    def __init__(self, flax_module: nnx.Module, matching: Any = None):
        self.matching, self._module = matching, flax_module
        variables = named_variables(flax_module)
        self.parameters = [name for name, v in variables.items() if isinstance(v, nnx.Param)]
        self.buffers = [name for name, v in variables.items() if not isinstance(v, nnx.Param)]
        self.trained = [name for name in self.parameters if not state.is_frozen(variables[name])]

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the names of the torch tensors of a Flax variable."""
        if self.matching is None:
            return (name,)
        return next((entry.torch for entry in self.matching.entries if entry.flax == name), ())

    def values(self, torch_values: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
        """Convert torch's values to Flax's parameters and buffers."""
        values = torch_values
        if self.matching is not None:
            values = self.matching.flax_values(torch_values, self._module)
        return _chosen(values, self.parameters), _chosen(values, self.buffers)

    def gradients(self, torch_gradients: Mapping[str, np.ndarray]) -> Arrays:
        """Convert torch's gradients to the gradients of Flax's parameters."""
        gradients = torch_gradients
        if self.matching is not None:
            gradients = self.matching.expected_gradients(torch_gradients)
        return _chosen(gradients, self.parameters)


def _chosen(arrays: Mapping[str, Any], names: Sequence[str]) -> Arrays:
    return {name: np.asarray(arrays[name]) for name in names if name in arrays}


@dataclasses.dataclass(frozen=True)
class Training:
    """The modules, batches, losses and optimizers of the two sides.

    Attributes:
        pair: the two modules, in float64 and in their mode, with the same weights.
        names: the conversion of torch's state to Flax's names.
        training: whether both modules are in training mode.
        batches: one batch for each step, in torch's axis order.
        torch_loss: torch's loss, a function of outputs and targets.
        flax_loss: Flax's loss, a function of outputs in torch's axis order and targets.
        make_optimizer: a function that builds torch's optimizer from the torch module.
        make_scheduler: a function that builds the scheduler from torch's optimizer.
        clip: a function that clips the gradients of a list of torch parameters.
        optimizer: Flax's optimizer, of optax or flaxnets.optim.
        seed: seed of torch's random numbers.
    """

    pair: Pair
    names: Names
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
        """Call a Flax module; inputs and outputs are in torch's axis order."""
        call, layout = Call(inputs, {}, training=self.training, dtype="float64"), self.pair.layout
        if layout is None:
            return call_flax(model, call)
        orders = iter(layout.inputs)
        call = mapped_call(call, lambda leaf: jnp.transpose(leaf, next(orders)) if hasattr(leaf, "ndim") else leaf)
        outputs, orders = call_flax(model, call), iter(layout.outputs)
        return jax.tree.map(lambda leaf: jnp.transpose(leaf, np.argsort(next(orders)).tolist()), outputs)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A training of torch with a mistake.

    Attributes:
        module: a function that changes the module before the first step.
        loss: a replacement of the loss.
        scope: a context in which the forward pass and its loss are computed, such as a torch function mode.
        penalty: a function of the module whose result is added to the loss.
        settings: settings that replace those of all parameter groups of the optimizer.
        update: a function that returns a replacement of the optimizer for one training. The replacement gets the number
            of the step, the parameters by name, and their gradients before and after clipping, and returns the new
            values.
        rounding: a generator that changes each weight by at most one unit in its last place before each step.
    """

    module: Callable[[torch.nn.Module], None] = lambda module: None
    loss: Loss | None = None
    scope: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    penalty: Callable[[torch.nn.Module], Any] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    update: Callable[[], Callable[[int, Arrays, Arrays, Arrays], Arrays]] | None = None
    rounding: np.random.Generator | None = None


@dataclasses.dataclass(frozen=True)
class TorchStep:
    """One step in torch.

    Attributes:
        step: the step under Flax's names.
        gradients: the gradients before clipping, by torch's names; parameters without a gradient are missing.
        clipped: the gradients after clipping.
        values: the parameters after the step, by torch's names.
        settings: the settings of the optimizer after the step, by parameter; empty for a parameter in no group.
    """

    step: Step
    gradients: Arrays
    clipped: Arrays
    values: Arrays
    settings: dict[str, dict[str, Any]]


@contextlib.contextmanager
def _double_precision() -> Iterator[None]:
    """Return a context in which torch's default dtype is float64, for the scalars of optimizers and new tensors."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with exact_constants():
            yield
    finally:
        torch.set_default_dtype(before)


class TorchTrainer:
    """Train a copy of the torch module.

    Args:
        training: the modules, batches, losses and optimizers.
        variant: the mistake that the training makes.

    Attributes:
        optimizer: torch's optimizer.
        settings: the settings of the optimizer before the first step, by parameter; empty for a parameter in no group.
        start: the parameters before the first step, by torch's names.
        parameters: the parameters before the first step, by Flax's names.
    """

    @_double_precision()
    def __init__(self, training: Training, variant: Variant | None = None):
        self._training, self._variant = training, variant or Variant()
        self._module = copy.deepcopy(training.pair.torch_module)
        self._variant.module(self._module)
        self.optimizer = training.make_optimizer(self._module)
        for group in getattr(self.optimizer, "param_groups", ()):
            group.update(self._variant.settings)
        self._named = dict(self._module.named_parameters())
        _check_optimizer(self.optimizer, self._named)
        self._scheduler = training.make_scheduler(self.optimizer) if training.make_scheduler else None
        self._update = self._variant.update() if self._variant.update else None
        self.settings, self.start = _settings(self.optimizer, self._named), _numbers(self._named)
        self.parameters, _ = training.names.values(torch_state(self._module))

    @_double_precision()
    def step(self, n: int, random_state: Any) -> TorchStep:
        """Train on batch ``n``, with the dropout masks of a Flax module with this random state.

        Raises:
            ValueError: if the batch does not fit the module or the loss, or if the loss is not one finite number.
        """
        if self._variant.rounding is not None:
            _move_last_places(self._named, self._variant.rounding)
        self._module.zero_grad()  # Also clears gradients of parameters that are not in the optimizer.
        torch.manual_seed(self._training.seed + n)
        loss = _loss(self._training, self._variant, self._module, n, random_state)
        if loss.requires_grad:
            loss.backward()
        raw = clipped = _gradients(self._named)
        if self._training.clip is not None:
            self._training.clip([p for p in self._named.values() if p.grad is not None])
            clipped = _gradients(self._named)
        if self._update is not None:
            new = self._update(n, _numbers(self._named), raw, clipped)
            with torch.no_grad():
                for name, value in new.items():
                    self._named[name].copy_(torch.from_numpy(value))
        else:
            self.optimizer.step()
            _advance(self._scheduler, loss)
        zeros = {name: np.zeros(tuple(p.shape)) for name, p in self._named.items() if p.requires_grad}
        names, after = self._training.names, torch_state(self._module)
        step = Step(loss.item(), names.gradients(zeros | raw), *names.values(after))
        values = {name: after[name] for name in self._named}
        return TorchStep(step, raw, clipped, values, _settings(self.optimizer, self._named))


@_double_precision()
def first_loss(training: Training, variant: Variant, seed: int = 0) -> float:
    """Return the loss of the first batch, in a copy of the torch module.

    Raises:
        ValueError: for the same reasons as :meth:`TorchTrainer.step`.
    """
    module = copy.deepcopy(training.pair.torch_module)
    variant.module(module)
    torch.manual_seed(seed)
    with torch.no_grad():
        return float(_loss(training, variant, module, 0, random_state_of(training.pair.flax_module)))


def random_state_of(flax_module: nnx.Module) -> Any:
    """Return a copy of the state of a module's random generators."""
    return nnx.state(nnx.clone(flax_module), nnx.RngState)


def _check_optimizer(optimizer: Any, named: Mapping[str, Any]) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"torch_optimizer returned {type(optimizer).__name__}: {optimizer!r}. Expected a torch.optim.Optimizer. "
            "Fix: torch_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)"
        )
    module_ids = {id(p) for p in named.values()}
    optimizer_ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not module_ids & optimizer_ids:
        raise ValueError(
            f"torch_optimizer returned a {type(optimizer).__name__} over {len(optimizer_ids)} other parameters. "
            "Expected an optimizer over the parameters that the function gets, since a copy of the module is trained. "
            "Fix: torch_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)"
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


def _loss(training: Training, variant: Variant, module: torch.nn.Module, n: int, random_state: Any) -> torch.Tensor:
    batch, loss_of = training.batches[n], variant.loss or training.torch_loss
    pair = training.pair
    if pair.draws is None:
        pair = dataclasses.replace(pair, flax_module=nnx.clone(pair.flax_module))
        nnx.update(pair.flax_module, random_state)
    try:
        with pair.torch_masks(module), variant.scope():
            loss = loss_of(module(*jax.tree.map(_tensor, batch.inputs)), jax.tree.map(_tensor, batch.targets))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{_batch_name(batch, n)} does not fit the torch module or loss: {_line(error)}") from error
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shape = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ValueError(f"the torch loss has {shape}. Expected one number. Fix: compute the mean or the sum")
    if not torch.isfinite(loss):
        raise ValueError(
            f"the torch loss of step {n + 1} is {loss.item()}. Expected finite losses. Fix: lower the learning rate, "
            "or check the batch for NaN"
        )
    return loss.reshape(()) if variant.penalty is None else loss.reshape(()) + variant.penalty(module)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The recorded steps of the two trainings, and a function that measures torch's training with a mistake.

    Attributes:
        training: the modules, batches, losses and optimizers.
        trainer: torch's trainer after the training.
        expected: the steps of torch.
        start: the parameters and buffers of Flax before its first step.
        found: the steps of Flax.
        worst: a function that returns the largest error / band of Flax's training, compared with torch's training with
            a mistake. None stands for no mistake.
    """

    training: Training
    trainer: TorchTrainer
    expected: Sequence[TorchStep]
    start: tuple[Arrays, Arrays]
    found: Sequence[Step]
    worst: Callable[[Variant | None], float]

    def first_loss(self, variant: Variant) -> float | None:
        """Return torch's first loss with a mistake; None if torch raises an error for the mistake."""
        try:
            return first_loss(self.training, variant, self.training.seed)
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


def torch_state(module: torch.nn.Module) -> Arrays:
    """Return copies of all parameters and buffers of a torch module, each under all of its names."""
    return _numbers(named_tensors(module))


def _advance(scheduler: Any, loss: torch.Tensor) -> None:
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler.step(loss.item())
    elif scheduler is not None:
        scheduler.step()


class FlaxTrainer:
    """Train a copy of the Flax module, with one compiled step.

    Args:
        training: the modules, batches, losses and optimizers.

    Attributes:
        start: the parameters and buffers before the first step.
    """

    def __init__(self, training: Training):
        self._training = training
        module = nnx.clone(training.pair.flax_module)
        self._graphdef, params, rest = nnx.split(module, nnx.Param, ...)
        # The results of a step are committed to a device. The first arguments must be committed, too: otherwise JAX
        # compiles the step twice.
        device = next(iter(jnp.zeros(()).devices()))
        committed = jax.device_put((params, rest, training.optimizer.init(mask(params))), device)
        self._params, self._rest, self._opt_state = committed
        self._step = jax.jit(self._one_step, compiler_options=xla.compiler_options(_QUICK))
        self.start = self._values()

    def random_state(self) -> Any:
        """Return the state of the random generators before the next step."""
        return random_state_of(nnx.merge(self._graphdef, self._params, self._rest, copy=True))

    def step(self, n: int) -> Step:
        """Train on batch ``n``.

        Raises:
            ValueError: if the batch does not fit the module or the loss, or if the loss is not one number.
        """
        batch = self._training.batches[n]
        try:
            with self._training.pair.flax_masks():
                loss, gradients, *after = self._step(self._params, self._rest, self._opt_state, batch)
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{_batch_name(batch, n)} does not fit the Flax module, loss or optimizer: {_line(error)}"
            ) from error
        slopes = self._read(unmask(gradients, self._params))
        self._params, self._rest, self._opt_state = after
        return Step(float(loss), _chosen(slopes, self._training.names.trained), *self._values())

    def _one_step(self, params: Any, rest: Any, opt_state: Any, batch: Batch) -> Any:
        training = self._training

        def loss_of(trainable: Any) -> Any:
            model = nnx.merge(self._graphdef, unmask(trainable, params), rest, copy=True)
            loss = training.flax_loss(training.flax_outputs(model, batch.inputs), batch.targets)
            if getattr(loss, "shape", None) not in ((), (1,)):
                shape = f"shape {loss.shape}" if hasattr(loss, "shape") else type(loss).__name__
                raise ValueError(f"the Flax loss has {shape}. Expected one number. Fix: compute the mean or the sum")
            _, _, after = nnx.split(model, nnx.Param, ...)
            return loss.reshape(()), after

        trainable = mask(params)
        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        accepts_extra = isinstance(training.optimizer, optax.GradientTransformationExtraArgs)
        extra = {"value": loss, "grad": gradients} if accepts_extra else {}
        updates, opt_state = training.optimizer.update(gradients, opt_state, trainable, **extra)
        return loss, gradients, unmask(optax.apply_updates(trainable, updates), params), rest, opt_state

    def _read(self, params: Any) -> Arrays:
        variables = named_variables(nnx.merge(self._graphdef, params, self._rest, copy=True))
        return {name: np.asarray(v.get_value()) for name, v in variables.items()}

    def _values(self) -> tuple[Arrays, Arrays]:
        values, names = self._read(self._params), self._training.names
        return _chosen(values, names.parameters), _chosen(values, names.buffers)
