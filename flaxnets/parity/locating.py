"""Find the first pair of modules that differ: compare recorded calls, then run each suspect in isolation."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity._torch import torch
from flaxnets.parity.causes import Cause, find_cause
from flaxnets.parity.isolation import Isolated, Source, as_flax_has_it, inputs_agree, output_error, owners_of, sources
from flaxnets.parity.layouts import Layout, to_torch
from flaxnets.parity.pairs import Pair, local_pair
from flaxnets.parity.report import Location, ModuleRow
from flaxnets.parity.returned import AGREE, Returned, returned_by_both
from flaxnets.parity.run import (
    Call,
    Outcome,
    call_flax,
    is_float,
    mapped_call,
    prepare_flax,
    random_like,
    run_flax,
    run_torch,
)
from flaxnets.parity.tracing import ModuleCall, recorded_flax, recorded_torch
from flaxnets.parity.trees import named_modules

# The largest number of earlier modules of the same classes that are tested for the same fault.
_TWINS = 16


@dataclasses.dataclass(frozen=True, eq=False)
class PairedCall:
    """One call of a pair of modules, recorded on both sides.

    Attributes:
        torch: the call in torch.
        flax: the call in Flax.
        sources: for each input of Flax, the torch input with the same values.
        error: the largest relative error of the outputs.
    """

    torch: ModuleCall
    flax: ModuleCall
    sources: list[Source]
    error: float

    @property
    def agrees_in(self) -> bool:
        """Whether Flax's inputs equal torch's."""
        return inputs_agree(self.torch, self.flax, self.sources)

    @property
    def agrees_out(self) -> bool:
        """Whether Flax's outputs equal torch's."""
        return self.error <= AGREE


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """All recorded calls of one run of both sides, and the paired calls, in the order in which torch completes them."""

    torch_calls: list[ModuleCall]
    flax_calls: list[ModuleCall]
    pairs: list[PairedCall]


def record(pair: Pair, call: Call) -> Recording:
    """Run both sides once, and pair the n-th call of a torch module with the n-th call of its Flax module."""
    torch_module = copy.deepcopy(pair.torch_module).train(call.training)  # A call changes the running statistics.
    with recorded_torch(torch_module) as torch_calls, pair.torch_masks(torch_module):
        run_torch_forward(torch_module, call)
    flax_module = prepare_flax(pair.flax_module, call)
    layout = pair.layout or Layout()
    # The masks replace methods. The recorder must start afterwards, so that it wraps the replaced methods.
    with pair.flax_masks(), recorded_flax(flax_module) as flax_calls:
        call_flax(flax_module, layout.to_flax(call) if layout.inputs else call)
    partners = module_pairs(pair)
    by_name = {(each.name, each.index): each for each in flax_calls}
    dropouts = paired_dropout(torch_calls, flax_calls)
    pairs = []
    for torch_call in torch_calls:
        flax_name = partners.get(torch_call.name)
        flax_call = by_name.get((flax_name, torch_call.index)) if flax_name is not None else None
        flax_call = flax_call or dropouts.get(id(torch_call))
        if flax_call is not None:
            input_sources, error = sources(torch_call, flax_call), output_error(torch_call, flax_call)
            pairs.append(PairedCall(torch_call, flax_call, input_sources, error))
    return Recording(torch_calls, flax_calls, pairs)


def paired_dropout(torch_calls: Sequence[ModuleCall], flax_calls: Sequence[ModuleCall]) -> dict[int, ModuleCall]:
    """Pair the dropout calls of both sides in order of execution: a dict from ``id(torch call)`` to the Flax call.

    Dropout layers have no weights, so that the matching cannot pair them. If the two sides have different numbers of
    dropout calls, the dict is empty.
    """
    ours = [each for each in flax_calls if isinstance(each.module, nnx.Dropout)]
    theirs = [each for each in torch_calls if isinstance(each.module, torch.nn.modules.dropout._DropoutNd)]
    return {id(a): b for a, b in zip(theirs, ours, strict=True)} if len(ours) == len(theirs) else {}


def run_torch_forward(module: torch.nn.Module, call: Call) -> Any:
    """Call torch's module on copies of numpy arrays, without gradients."""

    def tensor(leaf: Any) -> Any:
        array = getattr(leaf, "array", leaf)
        return torch.from_numpy(array.copy()) if isinstance(array, np.ndarray) else array

    call = mapped_call(call, tensor)
    with torch.no_grad():
        return module(*call.args, **call.kwargs)


def module_pairs(pair: Pair) -> dict[str, str]:
    """Return a dict from the names of torch modules to the names of their Flax modules."""
    if pair.matching is not None:
        return dict(pair.matching.modules)
    names = {name for name, _ in state.named_modules(pair.flax_module, remove_duplicate=False)}
    return {name: name for name, _ in pair.torch_module.named_modules() if name in names}


def locate(pair: Pair, call: Call, gates: tuple[float, float]) -> tuple[Location | None, tuple[ModuleRow, ...]]:
    """Find the first pair of modules that differ on torch's own inputs and weights, and the cause.

    Args:
        pair: two modules that differ, in float64.
        call: a call in float64 on which the modules differ.
        gates: the largest errors of outputs and buffers, and of gradients, that pass.

    Returns:
        The location, and a row for each pair of calls. If no pair differs on torch's own inputs, the location is the
        first pair whose error comes from its inputs. If no such pair exists, the location is the first module with a
        variable that torch does not have, or None.
    """
    recording = record(pair, call)
    has_wrong_output = any(not each.agrees_out for each in recording.pairs)
    wrong: PairedCall | None = None
    location = None
    for suspect in recording.pairs:
        if not suspect.agrees_in or (has_wrong_output and suspect.agrees_out):
            continue
        isolated = isolate(pair, suspect, recording, call, gates)
        if isolated is None:
            continue
        if isolated.error(isolated.expected) > 1:
            earlier = _wrong_on_other_inputs(pair, suspect, recording, call, gates)
            wrong, isolated = earlier or (suspect, isolated)
            location = describe(isolated, wrong, recording, pair)
            break
        if not suspect.agrees_out:
            location = location or _carried(suspect)
    return location or extra_variable(pair), rows(recording, wrong, gates[0])


def _wrong_on_other_inputs(
    pair: Pair, wrong: PairedCall, recording: Recording, call: Call, gates: tuple[float, float]
) -> tuple[PairedCall, Isolated] | None:
    """Return the first earlier module of the same classes that is also wrong, though not on its recorded inputs.

    For example, a missing ReLU changes nothing if all values are positive. Random inputs reveal such a fault.
    """
    kinds = type(wrong.torch.module), type(wrong.flax.module)
    earlier = recording.pairs[: recording.pairs.index(wrong)]
    twins = [each for each in earlier if (type(each.torch.module), type(each.flax.module)) == kinds and each.agrees_in]
    for each in twins[:_TWINS]:
        varied = dataclasses.replace(each, torch=_on_random_inputs(each.torch))
        isolated = isolate(pair, varied, recording, call, gates)
        if isolated is None or not all(np.isfinite(output).all() for output in isolated.expected.outputs):
            continue
        if isolated.error(isolated.expected) > 1:
            return each, isolated
    return None


def _on_random_inputs(torch_call: ModuleCall) -> ModuleCall:
    """Replace the floating-point inputs of a call by random numbers of the same scale; additive masks stay."""
    rng = np.random.default_rng(0)

    def random_leaf(leaf: Any) -> Any:
        if not is_float(leaf) or not np.isfinite(leaf).all() or leaf.dtype.kind != "f":
            return leaf
        return rng.normal(size=leaf.shape) * np.sqrt(np.mean(leaf**2)) if leaf.size else leaf

    args, kwargs = jax.tree.map(random_leaf, (torch_call.args, dict(torch_call.kwargs)))
    return dataclasses.replace(torch_call, args=args, kwargs=kwargs)


def extra_variable(pair: Pair) -> Location | None:
    """Return the location of the first Flax variable that torch does not have."""
    if pair.matching is None:
        return None
    torch_names = {flax_name: torch_name for torch_name, flax_name in reversed(pair.matching.modules)}
    for path in pair.matching.unmatched_flax:
        flax_name, _, variable = path.rpartition(".")
        if flax_name in torch_names:
            torch_name = torch_names[flax_name]
            torch_type = type(pair.torch_module.get_submodule(torch_name)).__name__
            is_bias = variable == "bias"
            text = f"Flax has a {variable}; torch's {torch_type} has none."
            fix = "use_bias=False" if is_bias else f"remove {variable}"
            cause = Cause("bias-extra" if is_bias else "variable-extra", text, fix, before=np.nan, after=np.nan)
            flax_type = type(named_modules(pair.flax_module)[flax_name]).__name__
            return Location(
                torch_name, torch_type, flax_name, flax_type, f"Flax has {path}, torch does not", None, cause
            )
    return None


def _carried(each: PairedCall) -> Location:
    """Return the location of a module whose error comes from its inputs."""
    return Location(
        torch_name=each.torch.name, torch_type=type(each.torch.module).__name__,
        flax_name=each.flax.name, flax_type=type(each.flax.module).__name__,
        details=f"output: off by {each.error:.1e}", carried=True,
    )  # fmt: skip


def rows(recording: Recording, wrong: PairedCall | None, gate: float) -> tuple[ModuleRow, ...]:
    """Return a row for each pair of calls, in torch's order of execution."""

    def status(each: PairedCall) -> Any:
        if wrong is not None and each.torch is wrong.torch:
            return "wrong"
        if each.agrees_out:
            return "equal"
        return "carried in"

    return tuple(
        ModuleRow(
            each.torch.name, each.flax.name,
            f"{type(each.torch.module).__name__} / {type(each.flax.module).__name__}", each.error / gate, status(each),
        )
        for each in recording.pairs
    )  # fmt: skip


def isolate(
    pair: Pair, each: PairedCall, recording: Recording, call: Call, gates: tuple[float, float]
) -> Isolated | None:
    """Run a Flax module on the inputs and weights of its torch module; return None if the module cannot run alone."""
    flax_module = named_modules(pair.flax_module)[each.flax.name]
    local = local_pair(pair, each.torch.name, each.flax.name, flax_module)
    owners = owners_of([a for a in each.torch.inputs() if a.dtype.kind in "fc"])
    kept = tuple(r.torch for r in _returned(each))
    torch_call = dataclasses.replace(call, args=each.torch.args, kwargs=each.torch.kwargs)

    def observe(module: nnx.Module) -> Outcome:
        return _observe(dataclasses.replace(local, flax_module=module), each, call, cotangents)

    try:
        # Outputs that only torch returns get a zero cotangent, so that the gradients do not depend on these outputs.
        floats = [(i in kept, output) for i, output in enumerate(each.torch.outputs) if is_float(output)]
        random_cotangents = random_like([output for _, output in floats], np.random.default_rng(0))
        cotangents = [c if keep else np.zeros_like(c) for c, (keep, _) in zip(random_cotangents, floats, strict=True)]
        with local.torch_masks():
            expected, _ = run_torch(local.torch_module, torch_call, cotangents, np.random.default_rng(0))
        observed = observe(local.flax_module)
        masked = _with_masks_of_torch(each)
    except Exception:  # Some modules run only inside the whole model, which prepares their arguments.
        return None
    isolated = Isolated(
        name=each.torch.name, torch_module=local.torch_module, flax_name=each.flax.name, flax_module=flax_module,
        call=torch_call, cotangents=cotangents, expected=as_flax_has_it(expected, kept, owners), observed=observed,
        kept=kept, owners=owners,
        torch_calls=[c for c in recording.torch_calls if each.torch.contains(c)],
        flax_calls=[c for c in recording.flax_calls if each.flax.contains(c)],
        to_flax=local.to_flax, gates=gates, masks=local.torch_masks, observe=observe,
    )  # fmt: skip
    if isolated.error(isolated.expected) > 1:
        for other in masked:
            outcome = _observe(local, other, call, cotangents)
            if isolated.error(isolated.expected, outcome) <= 1:
                return dataclasses.replace(isolated, observed=outcome)
    return isolated


def _with_masks_of_torch(each: PairedCall) -> list[PairedCall]:
    """Return copies of the call with another mask: the inverted Flax mask, and torch's masks in both polarities.

    Masks are not compared before, since the two sides may use opposite polarities. If the layer agrees with torch with
    another mask, the layer itself is correct and was called with a wrong mask.
    """
    pairs = zip(each.flax.inputs(), each.sources, strict=True)
    flax_masks = [array for array, source in pairs if source.index is None and array.dtype == bool]
    if len(flax_masks) != 1:
        return []
    result = []
    for mask in (~flax_masks[0], *_masks(each.torch.inputs(), flax_masks[0].shape)):

        def replaced(leaf: Any, mask: np.ndarray = mask) -> Any:
            return mask if leaf is flax_masks[0] else leaf

        args, kwargs = jax.tree.map(replaced, (each.flax.args, dict(each.flax.kwargs)))
        result.append(dataclasses.replace(each, flax=dataclasses.replace(each.flax, args=args, kwargs=kwargs)))
    return result


def _masks(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return the masks among the arrays, reshaped to a shape, in both polarities."""
    masks = []
    for array in arrays:
        is_additive = array.dtype.kind == "f" and bool(np.isin(array, (0.0, -np.inf)).all())
        if array.size == math.prod(shape) and (array.dtype == bool or is_additive):
            keep = (array == 0).reshape(shape)
            masks += [keep, ~keep]
    return masks


def _observe(local: Pair, each: PairedCall, call: Call, cotangents: list[np.ndarray]) -> Outcome:
    """Run the Flax module on torch's inputs, in the axis orders of its recorded call."""
    arrays, remaining = each.torch.inputs(), iter(each.sources)

    def replace(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        source = next(remaining)
        return leaf if source.index is None else np.transpose(arrays[source.index], source.order)

    flax_call = mapped_call(dataclasses.replace(call, args=each.flax.args, kwargs=each.flax.kwargs), replace)
    outputs = _returned(each)
    floats = [i for i, o in enumerate(each.torch.outputs) if o.dtype.kind in "fc"]
    flax_cotangents = [np.zeros(o.shape) for o in each.flax.outputs]
    for output in outputs:
        if output.torch in floats:
            flax_cotangents[output.flax] = output.to_flax(cotangents[floats.index(output.torch)])
    flax_cotangents = [
        c for c, o in zip(flax_cotangents, each.flax.outputs, strict=True) if jnp.issubdtype(o.dtype, jnp.inexact)
    ]
    with local.flax_masks():
        outcome = run_flax(local.flax_module, flax_call, flax_cotangents, jit=False)
    return dataclasses.replace(
        outcome,
        outputs=[output.to_torch(outcome.outputs[output.flax]) for output in outputs],
        input_gradients=_input_gradients(each, outcome.input_gradients) if call.gradients else [],
    )


def _returned(each: PairedCall) -> list[Returned]:
    """Pair the outputs of a call. Outputs with wrong values get the axis order of an input, which is most likely."""
    likely = [source.order for source in each.sources if source.order is not None]
    return returned_by_both(each.torch.outputs, each.flax.outputs, likely)


def _input_gradients(each: PairedCall, gradients: list[np.ndarray]) -> list[Any]:
    """Return the gradient by each floating-point input of torch; None for an input that Flax does not have."""
    torch_inputs = each.torch.inputs()
    flax_floats = [source for source, a in zip(each.sources, each.flax.inputs(), strict=True) if a.dtype.kind in "fc"]
    sums: dict[int, Any] = {}
    for source, gradient in zip(flax_floats, gradients, strict=True):
        if source.index is not None and source.order is not None:
            sums[source.index] = sums.get(source.index, 0) + to_torch(gradient, source.order)
    return [sums.get(i) for i, a in enumerate(torch_inputs) if a.dtype.kind in "fc"]


def describe(isolated: Isolated, each: PairedCall, recording: Recording, pair: Pair) -> Location:
    """Return the location of a wrong module: the first difference, the submodule calls around it, and the cause."""
    failing = [
        f"{kind} {name}: off by {error:.1e}, allowed {gate:.0e}"
        for kind, name, error, gate in isolated.errors(isolated.expected)
        if not error <= gate
    ]
    return Location(
        torch_name=each.torch.name, torch_type=type(each.torch.module).__name__,
        flax_name=each.flax.name, flax_type=type(each.flax.module).__name__,
        details=failing[0], between=between(each, recording), cause=find_cause(isolated),
    )  # fmt: skip


def between(each: PairedCall, recording: Recording) -> str | None:
    """Name the last submodule whose output agrees and the next call, whose input differs; None if no such call ran."""
    inner = [c for c in recording.pairs if each.torch.contains(c.torch) and c.torch.name != each.torch.name]
    last: str = "the input"
    for call in inner:
        if not call.agrees_in:
            return f"{last} and {call.torch.name}"
        if call.agrees_out:
            last = call.torch.name
    return f"{last} and the output" if inner and not each.agrees_out else None
