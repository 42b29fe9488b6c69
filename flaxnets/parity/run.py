"""Run one call of a torch or Flax module; return its outputs, gradients and updated buffers as numpy arrays."""

import contextlib
import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.measures import relative_error, scaled_error
from flaxnets.parity.precision import exact_constants, full_precision
from flaxnets.parity.trees import clone, named_modules, named_variables


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        args: positional arguments; floating-point arrays are numpy arrays in float64.
        kwargs: keyword arguments.
        training: whether the module is in training mode.
        dtype: the precision of the call, ``"float64"`` or ``"float32"``.
        gradients: whether to compute gradients. Without gradients a call needs a third of the memory and time.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    training: bool
    dtype: str
    gradients: bool = True


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outputs, gradients and updated buffers of a call."""

    outputs: list[np.ndarray]
    input_gradients: list[np.ndarray]
    parameter_gradients: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]

    def gradients(self) -> dict[tuple[str, str], np.ndarray]:
        """Return all gradients, by kind and name."""
        inputs = {("input gradient", str(i)): gradient for i, gradient in enumerate(self.input_gradients)}
        return inputs | {("parameter gradient", name): g for name, g in self.parameter_gradients.items()}

    def gradient_scales(self) -> dict[str, float]:
        """Return the scale of the errors of each kind of gradient: the norm over all gradients of the kind.

        One norm for all gradients of a kind, because a bias before a normalisation has a true gradient of zero, and so
        no scale of its own. One norm for each kind, because the input gradients of a chain of sigmoids may be a
        millionth of the parameter gradients.
        """
        inputs, parameters = _norm(self.input_gradients), _norm([*self.parameter_gradients.values()])
        return {"input gradient": max(inputs, 1e-8 * parameters), "parameter gradient": parameters}


def outcome_errors(
    expected: Outcome, observed: Outcome, gates: tuple[float, float], truth: Outcome | None = None
) -> Iterator[tuple[str, str, float, float]]:
    """Yield kind, name, error and gate of each array that both outcomes have.

    Both outcomes must have the same names, shapes and axis orders.

    Args:
        expected: torch's outcome.
        observed: Flax's outcome.
        gates: the largest errors of outputs and buffers, and of gradients, that pass.
        truth: torch's outcome in float64. If present, the errors of gradients are measured against its gradients, and
            Flax's error may be twice the error of ``expected``.
    """
    value_gate, gradient_gate = gates
    for i, (a, b) in enumerate(zip(expected.outputs, observed.outputs, strict=False)):
        yield "output", str(i), relative_error(a, b), value_gate
    for name, a in expected.buffers.items():
        if name in observed.buffers:  # A buffer of torch may be a parameter in Flax.
            yield "buffer", name, relative_error(a, observed.buffers[name]), value_gate
    scales = expected.gradient_scales()

    def errors(measured: Outcome) -> Iterator[tuple[str, str, float]]:
        gradients = measured.gradients()
        for (kind, name), a in (truth or expected).gradients().items():
            if (kind, name) not in gradients:  # The parameter of torch is not a parameter in Flax.
                yield kind, name, float("inf")
            elif gradients[kind, name] is not None:  # Torch may have inputs that the Flax module does not have.
                yield kind, name, scaled_error(a, gradients[kind, name], scales[kind])

    if truth is not None:
        gradient_gate = max(gradient_gate, 2 * max((error for *_, error in errors(expected)), default=0.0))
    yield from ((kind, name, error, gradient_gate) for kind, name, error in errors(observed))


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """An input that is not differentiated, for inputs that torch cannot differentiate by, such as a loss's target.

    >>> Constant(np.ones(2)).array.shape
    (2,)
    """

    array: np.ndarray


def is_float(array: Any) -> bool:
    """Return whether gradients flow through an array: whether it is a floating-point or complex numpy array."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "fc"


def _norm(arrays: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(np.abs(a.astype(np.complex128)) ** 2) for a in arrays)))


def random_like(arrays: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Draw random cotangents, rounded to float32 like all inputs."""
    return [rng.standard_normal(a.shape).astype(np.float32).astype(a.dtype) for a in arrays]


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Cast a module like ``module.to(dtype)``, which would drop the imaginary part of complex parameters."""
    return module._apply(
        lambda t: t.to(dtype) if t.is_floating_point() else t.to(dtype.to_complex()) if t.is_complex() else t
    )


def run_torch(
    module: torch.nn.Module, call: Call, cotangents: list[np.ndarray] | None, rng: np.random.Generator
) -> tuple[Outcome, list[np.ndarray]]:
    """Call the torch module without changing it. Without cotangents, random ones are drawn and returned."""
    dtype = getattr(torch, call.dtype)
    needs_no_cast = not call.training and all(p.dtype in (dtype, dtype.to_complex()) for p in module.parameters())
    if needs_no_cast and not call.gradients:
        with _restored(module.eval()):  # A copy of a large model would cost memory.
            return _run_torch(module, call, dtype, cotangents, rng)
    module = _cast(copy.deepcopy(module), dtype).train(call.training)
    with exact_constants():
        return _run_torch(module, call, dtype, cotangents, rng)


@contextlib.contextmanager
def _restored(module: torch.nn.Module) -> Iterator[None]:
    """Return a context that restores the buffers of the module at its end."""
    values = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in module.named_buffers():
            buffer.data = values[name]


def _run_torch(
    module: torch.nn.Module,
    call: Call,
    dtype: torch.dtype,
    cotangents: list[np.ndarray] | None,
    rng: np.random.Generator,
) -> tuple[Outcome, list[np.ndarray]]:
    tensors: list[torch.Tensor] = []

    def to_tensor(leaf: Any) -> Any:
        array = leaf.array if isinstance(leaf, Constant) else leaf
        if not isinstance(array, np.ndarray):
            return array
        tensor = torch.from_numpy(array.copy())
        if is_float(array):
            tensor = tensor.to(dtype if array.dtype.kind == "f" else dtype.to_complex())
        if is_float(leaf) and call.gradients:
            tensors.append(tensor.requires_grad_())
        return tensor

    args, kwargs = jax.tree.map(to_tensor, (tuple(call.args), dict(call.kwargs)))
    with contextlib.nullcontext() if call.gradients else torch.no_grad():
        leaves = jax.tree.leaves(module(*args, **kwargs))
    outputs = [leaf.detach().resolve_conj().numpy() for leaf in leaves]
    parameters = dict(module.named_parameters()) if call.gradients else {}
    if cotangents is None:
        cotangents = random_like([o for o in outputs if is_float(o)], rng)
    variables = [*tensors, *parameters.values()]
    pairs = zip((leaf for leaf, o in zip(leaves, outputs, strict=True) if is_float(o)), cotangents, strict=True)
    pairs = [(leaf, torch.from_numpy(c.copy()).to(leaf.dtype)) for leaf, c in pairs if leaf.requires_grad]
    if variables and pairs:
        gradients = torch.autograd.grad([o for o, _ in pairs], variables, [c for _, c in pairs], allow_unused=True)
    else:
        gradients = [None] * len(variables)
    pairs = zip(variables, gradients, strict=True)
    arrays = [np.zeros(v.shape) if g is None else g.resolve_conj().numpy() for v, g in pairs]
    outcome = Outcome(
        outputs,
        arrays[: len(tensors)],
        dict(zip(parameters, arrays[len(tensors) :], strict=True)),
        {name: buffer.detach().numpy().copy() for name, buffer in module.named_buffers()},
    )
    return outcome, cotangents


# Arguments of ``__call__`` that select the mode of a Flax model, and their values in training mode.
_MODE_ARGUMENTS = {
    "train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False
}  # fmt: skip


def mapped_call(call: Call, function: Callable[[Any], Any]) -> Call:
    """Return the call with a function applied to each leaf of the arguments."""
    args, kwargs = jax.tree.map(function, (tuple(call.args), dict(call.kwargs)))
    return dataclasses.replace(call, args=args, kwargs=kwargs)


def prepare_flax(module: nnx.Module, call: Call) -> nnx.Module:
    """Return a copy of the Flax module in the mode and the precision of a call."""
    module = clone(module)
    wide = jnp.result_type(call.dtype, jnp.complex64)
    for variable in named_variables(module).values():
        value = variable.get_value()
        value = value if hasattr(value, "astype") else jnp.asarray(value)
        if jnp.issubdtype(value.dtype, jnp.floating):
            variable.set_value(value.astype(call.dtype))
        elif jnp.issubdtype(value.dtype, jnp.complexfloating):
            variable.set_value(value.astype(wide))
    for child in named_modules(module).values():
        # Flax layers with dtype float32 or float64 compute in the call's precision.
        for name in ("dtype", "param_dtype") if _is_of_flax(child) else ():
            if _is_full_precision(getattr(child, name, None)):
                setattr(child, name, jnp.dtype(call.dtype))
    module.train() if call.training else module.eval()
    for child in named_modules(module).values():
        # nnx.Module.train() only sets attributes of Flax's layers, so that overridden train() methods must be called.
        if type(child).train is not nnx.Module.train:
            child.train() if call.training else child.eval()
    return module


def _is_of_flax(module: nnx.Module) -> bool:
    return any(base.__module__.startswith("flax.nnx.nn.") for base in type(module).__mro__)


def _is_full_precision(dtype: Any) -> bool:
    try:
        return dtype is not None and jnp.dtype(dtype) in (jnp.float32, jnp.float64)
    except TypeError:
        return False


def to_array(leaf: Any, dtype: str) -> Any:
    """Convert a numpy leaf of the arguments to a JAX array in a precision; return other leaves unchanged."""
    array = leaf.array if isinstance(leaf, Constant) else leaf
    if not isinstance(array, np.ndarray):
        return array
    return jnp.asarray(array, {"f": dtype, "c": jnp.result_type(dtype, jnp.complex64)}.get(array.dtype.kind))


def call_flax(module: nnx.Module, call: Call) -> Any:
    """Call the Flax module, and pass the mode if ``__call__`` has an argument for the mode."""
    call = mapped_call(call, lambda leaf: to_array(leaf, call.dtype))
    with full_precision():
        return module(*call.args, **call.kwargs, **mode_arguments(module, call))


def mode_arguments(module: nnx.Module, call: Call) -> dict[str, bool]:
    """Return the keyword arguments that select the mode in the module's ``__call__``, such as ``train=True``.

    >>> mode_arguments(nnx.Dropout(0.5), Call((), {}, training=True, dtype="float32"))
    {}
    """
    try:
        parameters = list(inspect.signature(type(module).__call__).parameters.values())[1:]
    except (TypeError, ValueError):
        return {}
    # Flax's layers also have these arguments, with the default None: then train() and eval() select the mode.
    modes = [p for p in parameters[len(call.args) :] if p.name in _MODE_ARGUMENTS and p.default is not None]
    return {
        p.name: _MODE_ARGUMENTS[p.name] == call.training for p in modes if p.name not in call.kwargs
    }  # fmt: skip


def run_flax(
    module: nnx.Module,
    call: Call,
    cotangents: Sequence[np.ndarray],
    jit: bool,
    compiler_options: dict[str, Any] | None = None,
) -> Outcome:
    """Call a copy of the Flax module, either compiled as a whole (``jit``) or eagerly, operation by operation.

    The cotangents have the axis order of the outputs.
    """
    module = prepare_flax(module, call)
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    leaves, structure = jax.tree.flatten((tuple(call.args), dict(call.kwargs)))
    floats = [to_array(leaf, call.dtype) for leaf in leaves if is_float(leaf)]

    def forward(params: Any, floats: list[jax.Array], rest: Any) -> Any:
        model = nnx.merge(graphdef, params, rest, copy=True)  # `rest` comes from outside the trace: do not mutate it.
        remaining = iter(floats)
        filled = [next(remaining) if is_float(leaf) else leaf for leaf in leaves]
        args, kwargs = jax.tree.unflatten(structure, filled)
        outputs = jax.tree.leaves(call_flax(model, dataclasses.replace(call, args=args, kwargs=kwargs)))
        _, _, after = nnx.split(model, nnx.Param, ...)
        inexact = [o for o in outputs if jnp.issubdtype(o.dtype, jnp.inexact)]
        return inexact, (outputs, after)

    def outputs_and_gradients(
        params: Any, floats: list[jax.Array], rest: Any, cotangents: Sequence[np.ndarray]
    ) -> Any:  # fmt: skip
        inexact, vjp, (outputs, after) = jax.vjp(lambda p, f: forward(p, f, rest), params, floats, has_aux=True)
        # Outputs of a wrong shape or dtype get a zero or cast cotangent here; the comparison reports them later.
        matching = [
            jnp.broadcast_to(jnp.asarray(c, o.dtype), o.shape) if o.shape == c.shape else jnp.zeros_like(o)
            for o, c in zip(inexact, _padded(cotangents, len(inexact)), strict=True)
        ]
        # The gradient by a complex number in JAX is the conjugate of the gradient in torch.
        return outputs, jax.tree.map(jnp.conj, vjp([jnp.conj(c) for c in matching])), after

    def outputs_alone(params: Any, floats: list[jax.Array], rest: Any, cotangents: Sequence[np.ndarray]) -> Any:
        _, (outputs, after) = forward(params, floats, rest)
        return outputs, (None, []), after

    function = outputs_and_gradients if call.gradients else outputs_alone
    run = jax.jit(function, compiler_options=compiler_options) if jit else function
    outputs, (param_gradients, input_gradients), after = run(params, floats, rest, list(cotangents))
    gradients = {}
    if call.gradients:
        gradients = _variables(nnx.merge(graphdef, param_gradients, rest), is_parameter=True)
    return Outcome(
        [np.asarray(o) for o in outputs],
        [np.asarray(g) for g in input_gradients],
        gradients,
        _variables(nnx.merge(graphdef, params, after), is_parameter=False),
    )


def _variables(module: nnx.Module, is_parameter: bool) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(variable.get_value())
        for name, variable in named_variables(module).items()
        if isinstance(variable, nnx.Param) == is_parameter
    }


def _padded(cotangents: Sequence[np.ndarray], length: int) -> list[np.ndarray]:
    return [*cotangents, *[np.zeros(())] * length][:length]
