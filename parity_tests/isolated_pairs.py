"""A small replacement of ``Isolated`` for tests of causes: a torch and a Flax module with the same attribute names."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from flaxnets import nn as ported
from flaxnets.parity import randomize
from flaxnets.parity.check import GATES
from flaxnets.parity.measures import relative_error, scaled_error
from flaxnets.parity.run import Call, Outcome, run_torch

GATE = GATES["float64"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """The attribute of a Flax layer that a torch tensor fills, and the function that permutes the tensor's axes."""

    attribute: str
    turn: Callable[[np.ndarray], np.ndarray] = lambda a: a


def _conv(w):
    return np.moveaxis(w, (0, 1), (-1, -2))


RULES = {
    nnx.Linear: {"weight": Rule("kernel", np.transpose), "bias": Rule("bias")},
    nnx.Conv: {"weight": Rule("kernel", _conv), "bias": Rule("bias")},
    nnx.ConvTranspose: {
        "weight": Rule("kernel", lambda w: np.moveaxis(w, (0, 1), (-2, -1))), "bias": Rule("bias"),
    },
    nnx.BatchNorm: {
        "weight": Rule("scale"), "bias": Rule("bias"), "running_mean": Rule("mean"), "running_var": Rule("var"),
    },
    **{kind: {"weight": Rule("scale"), "bias": Rule("bias")} for kind in (nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm)},
    nnx.Embed: {"weight": Rule("embedding")},
}  # fmt: skip


def _places(torch_module, flax_module, prefix="", root=None):
    """Yield the names of torch's tensors with their Flax variables and the functions that permute the axes."""
    root = flax_module if root is None else root
    for name, _ in [*torch_module.named_parameters(recurse=False), *torch_module.named_buffers(recurse=False)]:
        rules = next((r for kind, r in RULES.items() if isinstance(flax_module, kind)), None)
        rule = Rule(name) if rules is None else rules.get(name)
        variable = None if rule is None else getattr(flax_module, rule.attribute, None)
        if rule is not None and isinstance(variable, nnx.Variable) and variable.get_value() is not None:
            yield prefix + name, variable, rule.turn
    for name, child in torch_module.named_children():
        twin = flax_module[int(name)] if isinstance(flax_module, (nnx.List, list)) else getattr(flax_module, name, None)
        if isinstance(flax_module, nnx.Sequential):
            twin = flax_module.layers[int(name)]
        if (twin is not None and not callable(twin)) or isinstance(twin, nnx.Module):
            yield from _places(child, twin, f"{prefix}{name}.", root)


@dataclasses.dataclass(eq=False)
class Pair:
    """An argument for :func:`flaxnets.parity.causes.find_cause`.

    Both sides get the same inputs. With ``nhwc``, the inputs and outputs of the Flax side have channels last.
    """

    torch_module: torch.nn.Module
    flax_module: nnx.Module
    inputs: tuple[Any, ...]
    training: bool = False
    nhwc: bool = False
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.name = self.flax_name = ""
        self.torch_calls = self.flax_calls = []
        self.gates = GATE
        rng = np.random.default_rng(99)
        with jax.enable_x64(True), jax.default_matmul_precision("float32"):
            self.torch_module = self.torch_module.double().train(self.training)
            randomize(self.torch_module, rng)
            self.call = Call(self.inputs, self.kwargs, self.training, "float64")
            self.expected, self.cotangents = run_torch(self.torch_module, self.call, None, rng)
            self.places = {}
            tensors = {**dict(self.torch_module.named_parameters()), **dict(self.torch_module.named_buffers())}
            for _, layer in nnx.iter_graph(self.flax_module):
                if isinstance(layer, nnx.Module) and getattr(layer, "dtype", None) == jnp.float32:
                    layer.dtype = jnp.dtype("float64")
            for name, variable, turn in _places(self.torch_module, self.flax_module):
                variable.set_value(jnp.asarray(turn(tensors[name].detach().numpy())))
                self.places[name] = (variable, turn)
            self.observed = self.observe(self.flax_module)

    def masks(self, module):
        return contextlib.nullcontext()

    def to_flax(self, outcome: Outcome) -> Outcome:
        return outcome

    def _turned(self, tree, forward):
        def turn(a):
            if not self.nhwc or getattr(a, "ndim", 0) != 4:
                return a
            return jnp.transpose(a, (0, 2, 3, 1) if forward else (0, 3, 1, 2))

        return jax.tree.map(turn, tree)

    def observe(self, flax_module) -> Outcome:
        flax_module.train() if self.training else flax_module.eval()
        graphdef, params, rest = nnx.split(flax_module, nnx.Param, ...)
        floats = [a for a in self.inputs if a.dtype.kind == "f"]

        def run(params, floats):
            remaining = iter(floats)
            args = [next(remaining) if a.dtype.kind == "f" else jnp.asarray(a) for a in self.inputs]
            model = nnx.merge(graphdef, params, rest, copy=True)
            outputs = model(*self._turned(args, True), **jax.tree.map(jnp.asarray, self.kwargs))
            _, _, after = nnx.split(model, nnx.Param, ...)
            return jax.tree.leaves(self._turned(outputs, False)), after

        outputs, vjp, after = jax.vjp(run, params, [jnp.asarray(a) for a in floats], has_aux=True)
        fitting = [
            jnp.asarray(c, o.dtype) if c.shape == o.shape else jnp.zeros_like(o)
            for c, o in zip(self.cotangents, outputs, strict=True)
        ]
        param_gradients, input_gradients = vjp(fitting)
        gradients = dict(_by_torch_names(self, nnx.merge(graphdef, param_gradients, rest)))
        buffers = dict(_by_torch_names(self, nnx.merge(graphdef, params, after)))
        parameters = {name for name, _ in self.torch_module.named_parameters()}
        return Outcome(
            [np.asarray(o) for o in outputs],
            [np.asarray(g) for g in input_gradients],
            {k: v for k, v in gradients.items() if k in parameters},
            {k: v for k, v in buffers.items() if k not in parameters},
        )

    def run(self, module=None) -> Outcome:
        return run_torch(module or self.torch_module, self.call, self.cotangents, np.random.default_rng(0))[0]

    def errors(self, outcome: Outcome):

        result = []
        if len(outcome.outputs) != len(self.observed.outputs):
            result.append(("output", "number", float("inf"), GATE[0]))
        for i, (a, b) in enumerate(zip(outcome.outputs, self.observed.outputs, strict=False)):
            result.append(("output", str(i), relative_error(a, b), GATE[0]))
        for name, b in self.observed.buffers.items():
            result.append(("buffer", name, relative_error(outcome.buffers[name], b), GATE[0]))
        scales, observed = outcome.gradient_scales(), self.observed.gradients()
        for (kind, name), a in outcome.gradients().items():
            if (kind, name) in observed:
                result.append((kind, name, scaled_error(a, observed[kind, name], scales[kind]), GATE[1]))
        return result

    def error(self, outcome: Outcome) -> float:
        ratios = [error / gate for _, _, error, gate in self.errors(outcome)]
        return float("inf") if np.isnan(ratios).any() else max(ratios, default=0.0)


def _by_torch_names(pair, flax_module):
    for name, variable, turn in _places(pair.torch_module, flax_module):
        value = np.asarray(variable.get_value())
        if name in pair.places:
            yield name, _back(turn, value, pair, name)


def _back(turn, value, pair, name):
    """Apply the inverse of a permutation of axes: permuting the positions of the elements shows the inverse."""
    state = {**dict(pair.torch_module.named_parameters()), **dict(pair.torch_module.named_buffers())}
    shape = tuple(state[name].shape)
    positions = turn(np.arange(state[name].numel()).reshape(shape)).ravel()
    result = np.empty(state[name].numel(), value.dtype)
    result[positions] = value.ravel()
    return result.reshape(shape)


__all__ = ["Pair", "ported"]
