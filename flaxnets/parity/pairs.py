"""A torch module and a Flax module that run on the same inputs, weights, cotangents and dropout masks."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity._torch import torch
from flaxnets.parity.draws import SharedDraws, switch_off_inner_dropout
from flaxnets.parity.layouts import Layout, Order, closest_order, suggest_inputs, to_torch
from flaxnets.parity.masks import shared_masks
from flaxnets.parity.matching import Matching, set_values
from flaxnets.parity.run import Call, Outcome, call_flax, is_float, prepare_flax, run_flax, run_torch
from flaxnets.parity.state import named_tensors, randomize_buffers, transfer

# The largest error of outputs in a correct layout.
_RIGHT_LAYOUT = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two modules with the same weights, and the correspondence of their names and axes.

    Attributes:
        torch_module: the reference, in float64.
        flax_module: the Flax module, with torch's weights.
        matching: the torch tensors of each Flax variable; None if all names are equal on the two sides.
        layout: the axis orders of inputs and outputs.
        draws: the shared draws for dropout; None if torch's layers use the masks of the Flax layers of the same names.
    """

    torch_module: torch.nn.Module
    flax_module: nnx.Module
    matching: Matching | None = None
    layout: Layout | None = None
    draws: SharedDraws | None = None

    @contextlib.contextmanager
    def torch_masks(self, module: torch.nn.Module | None = None) -> Iterator[None]:
        """Return a context in which torch's module, or a changed copy, uses the shared dropout masks."""
        module = module or self.torch_module
        with self.draws.torch_side() if self.draws else shared_masks(module, self.flax_module):
            yield

    def flax_masks(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the Flax module uses the masks of torch's last run."""
        return self.draws.flax_side() if self.draws else contextlib.nullcontext()

    @contextlib.contextmanager
    def other_weights(self, rng: np.random.Generator) -> Iterator[None]:
        """Scale all parameters of both modules by random factors near 1 within this context."""
        before = [(parameter, parameter.detach().clone()) for parameter in self.torch_module.parameters()]
        try:
            with torch.no_grad():
                for parameter, _ in before:
                    parameter.mul_(torch.from_numpy(rng.uniform(0.95, 1.05, tuple(parameter.shape))))
                    if parameter.dtype == torch.float64:
                        parameter.copy_(parameter.float())  # exact in float32, too
            self.copy_weights()
            yield
        finally:
            with torch.no_grad():
                for parameter, value in before:
                    parameter.copy_(value)
            self.copy_weights()

    def copy_weights(self) -> None:
        """Copy torch's weights to the Flax module."""
        if self.matching is None:
            transfer(self.torch_module, self.flax_module)
        else:
            values = self.matching.flax_values(named_tensors(self.torch_module), self.flax_module)
            set_values(self.flax_module, values)

    def run_torch(
        self, call: Call, cotangents: list[np.ndarray] | None = None, seed: int = 0
    ) -> tuple[Outcome, list[np.ndarray]]:
        """Run torch's module. Without cotangents, random ones are drawn and returned."""
        with self.torch_masks():
            return run_torch(self.torch_module, call, cotangents, np.random.default_rng((seed, 1)))

    def run_flax(
        self,
        call: Call,
        cotangents: Sequence[np.ndarray],
        jit: bool = False,
        compiler_options: dict[str, Any] | None = None,
    ) -> Outcome:
        """Run the Flax module. The call, the outputs and the input gradients are in torch's axis order."""
        layout = self.layout or Layout()
        flax_call = layout.to_flax(call) if layout.inputs else call
        with self.flax_masks():
            outcome = run_flax(
                self.flax_module, flax_call, self._flax_cotangents(cotangents), jit, compiler_options
            )  # fmt: skip
        return dataclasses.replace(
            outcome,
            outputs=self._outputs_to_torch(outcome.outputs),
            input_gradients=self._gradients_to_torch(call, outcome.input_gradients),
        )

    def to_flax(self, outcome: Outcome) -> Outcome:
        """Convert the parameter gradients and buffers of torch's outcome to Flax's names and shapes."""
        if self.matching is None:
            return outcome
        return dataclasses.replace(
            outcome,
            parameter_gradients=self.matching.expected_gradients(outcome.parameter_gradients),
            buffers=self.matching.flax_buffers(outcome.buffers),
        )

    def _flax_cotangents(self, cotangents: Sequence[np.ndarray]) -> list[np.ndarray]:
        orders = self.layout.outputs if self.layout else ()
        floats = [order for order in orders if order is not None]
        if len(floats) != len(cotangents):
            return list(cotangents)
        return [np.transpose(c, o) if c.ndim == len(o) else c for c, o in zip(cotangents, floats, strict=True)]

    def _outputs_to_torch(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        orders: Sequence[Order | None] = self.layout.outputs if self.layout else ()
        padded = [*orders, *[None] * len(outputs)]
        return [
            o if order is None or o.ndim != len(order) else to_torch(o, order)
            for o, order in zip(outputs, padded, strict=False)
        ]

    def _gradients_to_torch(self, call: Call, gradients: list[np.ndarray]) -> list[np.ndarray]:
        if self.layout is None or not self.layout.inputs or not call.gradients:
            return gradients
        leaves = jax.tree.leaves((tuple(call.args), dict(call.kwargs)))
        arrays = [leaf for leaf in leaves if hasattr(leaf, "array") or isinstance(leaf, np.ndarray)]
        orders = [o for leaf, o in zip(arrays, self.layout.inputs, strict=True) if is_float(leaf)]
        return [to_torch(g, order) for g, order in zip(gradients, orders, strict=True)]


def pair_of_equal_names(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    rng: np.random.Generator | None,
    draws: SharedDraws,
) -> Pair:
    """Copy torch's weights to a Flax module with the same names.

    With an ``rng``, the buffers get noise before the copy. The draws are for dropout layers whose Flax twins have no
    ``draw_mask`` method, such as ``nnx.Dropout``.
    """
    if rng is not None:
        randomize_buffers(torch_module, rng, dict(torch_module.named_buffers()))
    pair = Pair(torch_module, flax_module)
    pair.copy_weights()
    if _draws_all_masks(torch_module, flax_module):
        return pair
    switch_off_inner_dropout(torch_module, flax_module)
    return dataclasses.replace(pair, draws=draws)


def _draws_all_masks(torch_module: torch.nn.Module, flax_module: nnx.Module) -> bool:
    """Return whether each dropout layer of torch has a Flax layer of the same name with a ``draw_mask`` method."""
    twins = dict(state.named_modules(flax_module, remove_duplicate=False))
    return all(
        hasattr(twins.get(name), "draw_mask")
        for name, module in torch_module.named_modules()
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0
    )


def pair_of_matching(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    matching: Matching,
    rng: np.random.Generator | None,
    draws: SharedDraws,
) -> Pair:
    """Copy torch's weights to a Flax module by a matching, and switch off dropout that cannot be shared.

    With an ``rng``, the buffers that both sides have get noise before the copy.
    """
    if rng is not None:
        randomize_buffers(torch_module, rng, {name for entry in matching.entries for name in entry.torch})
    pair = Pair(torch_module, flax_module, matching, draws=draws)
    pair.copy_weights()
    switch_off_inner_dropout(torch_module, flax_module)
    return pair


def with_layout(pair: Pair, call: Call) -> Pair:
    """Find the axis orders of the Flax module's inputs and outputs.

    The function tries all layouts in which the module runs, the most likely layout first, until the outputs agree. If
    the outputs agree in no layout, the pair gets the layout with the smallest error.

    Raises:
        ValueError: if the Flax module runs in no layout.
    """
    call = dataclasses.replace(call, gradients=False)
    expected, _ = pair.run_torch(call)
    candidates = suggest_inputs(prepare_flax(pair.flax_module, call), call, [o.shape for o in expected.outputs])
    best: tuple[float, Layout] | None = None
    for layout in candidates:
        with pair.flax_masks():
            returned = call_flax(prepare_flax(pair.flax_module, call), layout.to_flax(call))
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(returned) if hasattr(leaf, "shape")]
        closest = [closest_order(a, b) for a, b in zip(expected.outputs, arrays, strict=False)]
        error = max((error for _, error in closest), default=0.0)
        orders = tuple(o or tuple(range(b.ndim)) for (o, _), b in zip(closest, arrays, strict=False))
        # If all layouts are wrong, a slightly smaller error proves little. Only a far smaller error (a tenth) outweighs
        # the order of likelihood.
        if best is None or error < 0.1 * best[0]:
            best = error, Layout(layout.inputs, orders)
        if error <= _RIGHT_LAYOUT:
            break
    assert best is not None
    return dataclasses.replace(pair, layout=best[1])


def local_pair(pair: Pair, torch_name: str, flax_name: str, flax_module: nnx.Module) -> Pair:
    """Return the pair of two submodules, with names relative to the submodules."""
    torch_module = pair.torch_module.get_submodule(torch_name)
    matching = None if pair.matching is None else local_matching(pair.matching, torch_name, flax_name)
    return Pair(copy.deepcopy(torch_module), flax_module, matching, None, pair.draws)


def local_matching(matching: Matching, torch_name: str, flax_name: str) -> Matching:
    """Return the part of a matching inside a pair of submodules, with names relative to the submodules."""
    torch_prefix = f"{torch_name}." if torch_name else ""
    flax_prefix = f"{flax_name}." if flax_name else ""

    def below(name: str, prefix: str) -> str | None:
        return name.removeprefix(prefix) if name.startswith(prefix) else None

    entries = [
        dataclasses.replace(
            entry,
            flax=entry.flax.removeprefix(flax_prefix),
            torch=tuple(name.removeprefix(torch_prefix) for name in entry.torch),
        )
        for entry in matching.entries
        if entry.flax.startswith(flax_prefix) and all(name.startswith(torch_prefix) for name in entry.torch)
    ]
    modules = [
        (a.removeprefix(torch_prefix), b.removeprefix(flax_prefix))
        for a, b in matching.modules
        if below(f"{a}.", torch_prefix) is not None and below(f"{b}.", flax_prefix) is not None
    ]
    shapes = {
        name.removeprefix(flax_prefix): shape for name, shape in matching.shapes.items() if name.startswith(flax_prefix)
    }
    tied = [
        names
        for each in matching.tied_torch
        if len(names := tuple(n.removeprefix(torch_prefix) for n in each if n.startswith(torch_prefix))) > 1
    ]
    return dataclasses.replace(
        matching, entries=tuple(entries), modules=tuple(modules), shapes=shapes, tied_torch=tuple(tied)
    )
