"""Compare one pair of modules in isolation: with torch's own inputs and weights, forward and backward."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.layouts import Order, closest_order
from flaxnets.parity.returned import AGREE, returned_by_both
from flaxnets.parity.run import Call, Outcome, outcome_errors, run_torch
from flaxnets.parity.tracing import ModuleCall


@dataclasses.dataclass(frozen=True, eq=False)
class Isolated:
    """The outcomes of a torch module and of its Flax module for the same inputs and weights.

    Attributes:
        name: path of the torch module.
        torch_module: a copy with the weights of the comparison, in float64.
        flax_name: path of the Flax module.
        flax_module: a copy with the same weights.
        call: the inputs of torch's module, and the mode.
        cotangents: the cotangents of the outputs, in torch's axis order.
        expected: torch's outcome.
        observed: Flax's outcome: outputs and input gradients in torch's axis order; parameter gradients and buffers
            under the names and in the shapes of Flax.
        torch_calls: the calls of torch's submodules within the call.
        flax_calls: the calls of Flax's submodules within the call.
        to_flax: a function that converts the parameter gradients and buffers of a torch outcome to Flax's names and
            shapes.
        gates: the largest errors of outputs and buffers, and of gradients, that pass.
        masks: a function that returns a context in which a torch module uses Flax's dropout masks.
        kept: positions of torch's outputs that Flax also returns. Outcomes contain only these outputs.
        owners: for each floating-point input of torch, the position of the first input with the same values.
        observe: a function that runs a changed copy of the Flax module on the same inputs and weights.
    """

    name: str
    torch_module: torch.nn.Module
    flax_name: str
    flax_module: nnx.Module
    call: Call
    cotangents: list[np.ndarray]
    expected: Outcome
    observed: Outcome
    torch_calls: list[ModuleCall]
    flax_calls: list[ModuleCall]
    to_flax: Callable[[Outcome], Outcome]
    gates: tuple[float, float]
    masks: Callable[[torch.nn.Module], AbstractContextManager[None]]
    kept: tuple[int, ...]
    owners: tuple[int, ...]
    observe: Callable[[nnx.Module], Outcome] | None = None

    def run(self, module: torch.nn.Module | None = None) -> Outcome:
        """Run torch's module, or a changed copy of the module, on the same inputs, cotangents and masks."""
        module = module or self.torch_module
        with self.masks(module):
            outcome, _ = run_torch(module, self.call, self.cotangents, np.random.default_rng(0))
        return as_flax_has_it(outcome, self.kept, self.owners)

    def errors(self, outcome: Outcome, observed: Outcome | None = None) -> list[tuple[str, str, float, float]]:
        """Return kind, name, error and gate of each array of Flax's outcome, compared with an outcome of torch."""
        result = []
        observed = observed or self.observed
        expected, returned = len(outcome.outputs), len(observed.outputs)
        # Torch may return more arrays, such as the last state of a recurrent layer. These have no cotangent.
        if not 0 < returned <= expected:
            result.append(("output", f"{returned} arrays instead of {expected}", float("inf"), self.gates[0]))
        return [*result, *outcome_errors(self.to_flax(outcome), observed, self.gates)]

    def error(self, outcome: Outcome, observed: Outcome | None = None) -> float:
        """Return the largest error / gate; up to 1, the two outcomes are equal except for rounding."""
        ratios = [error / gate for _, _, error, gate in self.errors(outcome, observed)]
        return float("inf") if any(np.isnan(ratios)) else max(ratios, default=0.0)


def as_flax_has_it(outcome: Outcome, kept: Sequence[int], owners: Sequence[int]) -> Outcome:
    """Convert torch's outcome to what Flax returns: the kept outputs, and one summed gradient for equal inputs."""
    gradients = [np.zeros_like(gradient) for gradient in outcome.input_gradients]
    for gradient, owner in zip(outcome.input_gradients, owners, strict=False):
        gradients[owner] = gradients[owner] + gradient
    outputs = [outcome.outputs[i] for i in kept if i < len(outcome.outputs)]
    return dataclasses.replace(outcome, outputs=outputs, input_gradients=gradients)


def owners_of(inputs: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Return, for each array, the position of the first array with the same values.

    >>> owners_of([np.zeros(2), np.ones(2), np.zeros(2)])
    (0, 1, 0)
    """
    return tuple(next(i for i, other in enumerate(inputs) if np.array_equal(other, array)) for array in inputs)


@dataclasses.dataclass(frozen=True)
class Source:
    """The torch input that an input array of a Flax module equals.

    Attributes:
        index: position of the torch array; None if no torch array has the same values.
        order: the axis order of the Flax array.
    """

    index: int | None
    order: Order | None


def sources(torch_call: ModuleCall, flax_call: ModuleCall) -> list[Source]:
    """Find each input array of the Flax call among the input arrays of torch's call, by its values."""
    result = []
    for array in flax_call.inputs():
        source = Source(None, None)
        for index, candidate in enumerate(torch_call.inputs()):
            order, error = closest_order(candidate, array)
            if error <= AGREE and order is not None:
                source = Source(index, order)
                break
        result.append(source)
    return result


def inputs_agree(torch_call: ModuleCall, flax_call: ModuleCall, found: Sequence[Source]) -> bool:
    """Return whether every input of the Flax call is also an input of torch's call.

    Boolean masks are not compared, since Flax may use the opposite polarity. Integers are compared only if torch's call
    has integer inputs.

    Args:
        torch_call: the call in torch.
        flax_call: the same call in Flax.
        found: the result of :func:`sources` for the two calls.
    """
    has_integers = any(array.dtype.kind in "iu" for array in torch_call.inputs())
    compared = "fciu" if has_integers else "fc"
    pairs = zip(flax_call.inputs(), found, strict=True)
    return all(source.index is not None for array, source in pairs if array.dtype.kind in compared)


def output_error(torch_call: ModuleCall, flax_call: ModuleCall) -> float:
    """Return the largest relative error of the recorded outputs, each in its closest axis order."""
    # One side may return more arrays, such as attention weights. Only arrays that both sides return are compared.
    return max((each.error for each in returned_by_both(torch_call.outputs, flax_call.outputs)), default=0.0)
