"""Call a torch module or its port in float64, and return outputs, buffers and gradients as NumPy arrays."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from torch.utils._python_dispatch import TorchDispatchMode

from flaxnets import kernels, state, xla
from flaxnets.parity.precision import exact_constants
from flaxnets.parity.run import random_like
from flaxnets.port._torch import torch
from flaxnets.port.untouched import as_double, copied, mapped, untouched


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments of one call, with torch tensors."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def mapped(self, function: Callable[[torch.Tensor], Any]) -> "Arguments":
        """Return the arguments with a function applied to each tensor."""
        return Arguments(mapped(tuple(self.args), function), mapped(dict(self.kwargs), function))

    def tensors(self) -> list[torch.Tensor]:
        """Return all tensors, in order."""
        result: list[torch.Tensor] = []
        self.mapped(result.append)
        return result


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The results of a call.

    Attributes:
        structure: The containers and constants of the output, as text.
        outputs: The arrays of the output.
        buffers: The buffers after the call.
        gradients: The gradients of parameters and inputs by name; empty if they were not computed.
    """

    structure: str
    outputs: list[np.ndarray]
    buffers: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a call runs: in training mode, with gradients, compiled by ``jax.jit``, in double precision."""

    training: bool
    gradients: bool = False
    jit: bool = True
    double: bool = True

    def __str__(self) -> str:
        return f"{'train' if self.training else 'eval'} mode"


class Rounding(TorchDispatchMode):
    """A dispatch mode that adds one random rounding error to the result of each operation.

    Attributes:
        epsilon: The largest relative rounding error of the dtypes that occurred.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)
        self.epsilon = torch.finfo(torch.float64).eps

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        for tensor in () if is_view else jax.tree.leaves(result):
            if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
                continue
            if tensor.is_complex() and not tensor.is_conj():
                self._change(torch.view_as_real(tensor))
            elif tensor.is_floating_point():
                self._change(tensor)
        return result

    def _change(self, tensor: torch.Tensor) -> None:
        epsilon = torch.finfo(tensor.dtype).eps
        self.epsilon = max(self.epsilon, epsilon)
        noise = torch.empty_like(tensor).uniform_(-epsilon, epsilon, generator=self._generator)
        tensor.mul_(1 + noise * (tensor != tensor.round()))  # integral values are mostly exact


def run_torch(
    module: torch.nn.Module,
    example: Arguments,
    setting: Setting,
    cotangents: list[np.ndarray] | np.random.Generator,
    rounding: Rounding | None = None,
) -> tuple[Outcome, list[np.ndarray]]:
    """Call a torch module, and restore its state afterwards.

    Args:
        module: The torch module.
        example: The arguments.
        setting: How the module runs.
        cotangents: The cotangents of the outputs, or a generator that draws them.
        rounding: Adds a rounding error to each operation.

    Returns:
        The outcome, and the cotangents.
    """
    inputs: list[torch.Tensor] = []

    def own(tensor: torch.Tensor) -> torch.Tensor:
        tensor = copied(as_double(tensor) if setting.double else tensor)
        if not setting.gradients or not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor
        inputs.append(tensor.requires_grad_())
        return tensor.clone()  # the model may change its input in place, which a leaf tensor does not allow

    exact = exact_constants() if setting.double else contextlib.nullcontext()
    with untouched(module), torch.set_grad_enabled(setting.gradients), rounding or contextlib.nullcontext(), exact:
        module.train(setting.training)
        called = example.mapped(own)
        outputs = module(*called.args, **called.kwargs)
        tensors = [leaf for leaf in leaves(outputs) if isinstance(leaf, torch.Tensor)]
        tensors = [t for t in tensors if t.is_floating_point() or t.is_complex()]
        if not isinstance(cotangents, list):
            cotangents = random_like([to_numpy(t) for t in tensors], cotangents)
        gradients = _gradients(module, inputs, tensors, cotangents) if setting.gradients else {}
        arrays = [to_numpy(leaf) for leaf in leaves(outputs)]
        buffers = {name: to_numpy(buffer) for name, buffer in module.named_buffers()}
    return Outcome(structure(outputs), arrays, buffers, gradients), cotangents


def _gradients(
    module: torch.nn.Module, inputs: list[torch.Tensor], outputs: list[torch.Tensor], cotangents: list[np.ndarray]
) -> dict[str, np.ndarray]:
    sources = {f"the gradient of {name}": p for name, p in module.named_parameters() if p.requires_grad}
    sources |= {f"the gradient of input {i}": tensor for i, tensor in enumerate(inputs)}
    pairs = [(o, torch.from_numpy(c).to(o.dtype)) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    grads: Sequence[Any] = [None] * len(sources)
    if sources and pairs:
        grads = torch.autograd.grad(
            [o for o, _ in pairs], [*sources.values()], [c for _, c in pairs], allow_unused=True
        )
    return {
        name: np.zeros(tuple(tensor.shape)) if gradient is None else to_numpy(gradient)
        for (name, tensor), gradient in zip(sources.items(), grads, strict=True)
    }


class FlaxRunner:
    """A compiled port that can be called repeatedly with arguments like the example.

    Args:
        port: The module, which is not changed.
        example: The arguments. Other calls must have tensors of the same shapes.
        setting: How the port runs.
    """

    def __init__(self, port: nnx.Module, example: Arguments, setting: Setting):
        model = nnx.clone(port)
        model.train() if setting.training else model.eval()
        self._setting = setting
        self._graphdef, self._params, self._rest = nnx.split(model, nnx.Param, ...)
        self._example = example
        self._structure = ""
        # With optimization level 0, XLA rounds equal products differently, which changes the gradient of a maximum.
        options = xla.compiler_options({"xla_backend_optimization_level": int(setting.gradients)})
        self._run: Any = jax.jit(self._call, compiler_options=options) if setting.jit else self._call

    def __call__(self, example: Arguments, cotangents: list[np.ndarray]) -> Outcome:
        """Call the port. The cotangents belong to the floating-point and complex outputs."""
        tensors = [as_double(tensor) if self._setting.double else tensor for tensor in example.tensors()]
        arrays = [array(tensor) for tensor in tensors]
        floats = [a for a in arrays if _is_inexact(a)]
        others = [a for a in arrays if not _is_inexact(a)]
        outputs, buffers, *gradients = self._run(self._params, floats, self._rest, others, cotangents)
        return Outcome(
            self._structure,
            [np.asarray(o) for o in outputs],
            {name: np.asarray(buffer) for name, buffer in buffers.items()},
            self._named(*gradients) if self._setting.gradients else {},
        )

    def _named(self, parameters: Any, inputs: Any) -> dict[str, np.ndarray]:
        named = state.named_parameters(nnx.merge(self._graphdef, parameters, self._rest))
        gradients = {f"the gradient of {name}": np.asarray(g.get_raw_value()) for name, g in named}
        return gradients | {f"the gradient of input {i}": np.asarray(g) for i, g in enumerate(inputs)}

    def _call(self, params: Any, floats: Any, rest: Any, others: Any, cotangents: Any) -> Any:
        def forward(params: Any, floats: Any) -> Any:
            model = nnx.merge(self._graphdef, params, rest, copy=True)
            arguments = self._filled(floats, others)
            with kernels.small_programs():
                tree = model(*arguments.args, **arguments.kwargs)
            self._structure = structure(tree)
            outputs = [jnp.asarray(leaf) for leaf in leaves(tree)]
            buffers = {name: buffer.get_value() for name, buffer in state.named_buffers(model)}
            return [o for o in outputs if _is_inexact(o)], (outputs, buffers)

        if not self._setting.gradients:
            return forward(params, floats)[1]
        inexact, vjp, (outputs, buffers) = jax.vjp(forward, params, floats, has_aux=True)
        # Cotangents may not fit the outputs. The comparison reports wrong shapes.
        padded = [*cotangents, *[np.zeros(0)] * len(inexact)][: len(inexact)]
        matching = [
            jnp.asarray(c, o.dtype) if o.shape == c.shape else jnp.zeros_like(o)
            for o, c in zip(inexact, padded, strict=True)
        ]
        # The gradient of a complex number in JAX is the conjugate of torch's gradient.
        gradients = jax.tree.map(jnp.conj, vjp([jnp.conj(c) for c in matching]))
        return outputs, buffers, *gradients

    def _filled(self, floats: Sequence[Any], others: Sequence[Any]) -> Arguments:
        """Return the example's arguments with its tensors replaced by these arrays."""
        remaining = {True: iter(floats), False: iter(others)}
        return self._example.mapped(lambda t: next(remaining[t.is_floating_point() or t.is_complex()]))


def _is_inexact(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)


def leaves(tree: Any) -> list[Any]:
    """Return the arrays and numbers in an output of nested tuples, lists, dicts and dataclasses."""
    if isinstance(tree, (torch.Tensor, jax.Array, np.ndarray)):
        return [tree]
    if isinstance(tree, (bool, int, float, complex)):
        return [np.asarray(tree)]
    return [leaf for _, value in _items(tree) or () for leaf in leaves(value)]


def structure(tree: Any) -> str:
    """Describe the containers and constants of an output as text, with an asterisk for each array or number."""
    if isinstance(tree, (torch.Tensor, jax.Array, np.ndarray, bool, int, float, complex)):
        return "*"
    items = _items(tree)
    if items is None:
        return repr(tree) if tree is None or isinstance(tree, str) else type(tree).__name__
    parts = [structure(value) if name is None else f"{name!r}: {structure(value)}" for name, value in items]
    return f"({', '.join(parts)})"


def _items(tree: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, (tuple, list)):
        return [(None, value) for value in tree]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    return None


def array(tensor: torch.Tensor) -> jax.Array:
    """Return a JAX array with the values of a tensor."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype is torch.bfloat16:
        return jnp.asarray(tensor.float().numpy(), jnp.bfloat16)
    return jax.device_put(tensor.numpy().copy())  # jnp.array would compile a program for each shape


def to_numpy(leaf: Any) -> np.ndarray:
    """Return a copy of the values as a NumPy array; bfloat16 becomes float32."""
    if isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().resolve_conj().resolve_neg()
        return leaf.float().numpy() if leaf.dtype is torch.bfloat16 else leaf.numpy().copy()
    return np.asarray(leaf)
