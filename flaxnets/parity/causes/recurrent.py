"""Known mistakes in recurrent layers: order of gates, biases, the reset gate, directions, initial states."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Change, Original, Site
from flaxnets.parity.causes.variants import COMMON, RARE, USUAL, Hints, Option, argument, is_native, setting

_GATES = {"lstm": "ifgo", "gru": "rzn", "rnn_tanh": "h", "rnn_relu": "h"}


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """A formula of a recurrent cell that differs from torch's."""

    reset: str = "after"  # Apply the reset gate "before" or "after" the product, or with the "bias outside".
    update_reversed: bool = False
    forget_bias: float = 0.0
    cell_activation: str = "tanh"
    output_activation: str = "tanh"
    gate_activation: str = "sigmoid"
    flipped: bool = True
    flipped_back: bool = True
    backward_first: bool = False


def _activation(name: str) -> Any:
    return {
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "hardsigmoid": torch.nn.functional.hardsigmoid,
        "relu": torch.relu,
        "none": lambda x: x,
    }[name]


def _step(kind: str, recipe: _Recipe, x: Any, state: tuple[Any, ...], weights: Sequence[Any]) -> tuple[Any, ...]:
    """Compute one step of a cell; a bias may be None."""
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    linear, gate = torch.nn.functional.linear, _activation(recipe.gate_activation)
    h = state[0]
    if kind == "lstm":
        i, f, g, o = (linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)).chunk(4, -1)
        cell = gate(f + recipe.forget_bias) * state[1] + gate(i) * _activation(recipe.cell_activation)(g)
        output = gate(o) * _activation(recipe.output_activation)(cell)
        return (output if w_hr is None else linear(output, w_hr)), cell
    if kind == "gru":
        x_r, x_z, x_n = linear(x, w_ih, b_ih).chunk(3, -1)
        h_r, h_z, h_n = linear(h, w_hh, b_hh).chunk(3, -1)
        r, z = gate(x_r + h_r), gate(x_z + h_z)
        bias = 0 if b_hh is None else b_hh.chunk(3)[2]
        if recipe.reset == "before":
            inner = linear(r * h, w_hh.chunk(3)[2]) + bias
        else:
            inner = r * h_n if recipe.reset == "after" else r * (h_n - bias) + bias
        n = _activation(recipe.cell_activation)(x_n + inner)
        return ((1 - z) * h + z * n if recipe.update_reversed else (1 - z) * n + z * h,)
    names = {"rnn_tanh": "tanh", "rnn_relu": "relu"}
    name = names[kind] if recipe.cell_activation == "tanh" else recipe.cell_activation
    return (_activation(name)(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)),)


def _written_out(site: Site, recipe: _Recipe) -> Change:
    kind = site.function.removesuffix("_cell")
    biases = 2 if site.function.endswith("_cell") or argument(site, "has_biases", True) else 0

    def cell(original: Original, args: tuple, kwargs: dict) -> Any:
        x, hx = args[:2]
        weights = [*args[2:], None, None, None][:5]
        new = _step(kind, recipe, x, tuple(hx) if isinstance(hx, (tuple, list)) else (hx,), weights)
        return new if kind == "lstm" else new[0]

    def layers(original: Original, args: tuple, kwargs: dict) -> Any:
        call = (site.function, args, kwargs)
        x, hx, flat = args[:3]
        states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        batch_first, both = bool(argument(call, "batch_first", False)), bool(argument(call, "bidirectional", False))
        x = x.transpose(0, 1) if batch_first else x
        last: list[tuple[Any, ...]] = []
        per_cell = _tensors_of_a_cell(call)
        for _ in range(argument(call, "num_layers", 1)):
            outputs = []
            for direction in range(1 + both):
                index = len(last)
                matrices = flat[index * per_cell : (index + 1) * per_cell]
                projection = [*matrices[2 + biases :], None][0]
                weights = [*matrices[:2], *([*matrices[2:], None, None][:2] if biases else (None, None)), projection]
                state, collected = tuple(s[index] for s in states), []
                steps = x.flip(0) if direction and recipe.flipped else x
                for value in steps:
                    state = _step(kind, recipe, value, state, weights)
                    collected.append(state[0])
                output = torch.stack(collected)
                outputs.append(output.flip(0) if direction and recipe.flipped_back else output)
                last.append(state)
            if recipe.backward_first:
                outputs.reverse()
            x = torch.cat(outputs, -1)
        x = x.transpose(0, 1) if batch_first else x
        return (x, *(torch.stack(parts) for parts in zip(*last, strict=True)))

    return cell if site.function.endswith("_cell") else layers


def _tensors_of_a_cell(call: Site | tuple[str, tuple, dict]) -> int:
    """Return the number of weights and biases of each layer and direction, including an LSTM's projection."""
    cells = argument(call, "num_layers", 1) * (1 + bool(argument(call, "bidirectional", False)))
    return len(argument(call, "weights")) // cells


def _kind(site: Site) -> str | None:
    kind = site.function.removesuffix("_cell")
    # Packed sequences have another signature.
    is_packed = (
        kind == site.function and not isinstance(argument(site, "weights"), (list, tuple)) if kind in _GATES else True
    )
    return None if is_packed else kind


def _each_weight(site: Site, function: Any) -> Change:
    """Return a change of all weights and biases: ``function(tensor, is_hidden)`` returns the new tensor."""
    if site.function.endswith("_cell"):
        names = ("w_ih", "w_hh", "b_ih", "b_hh")

        def changed(name: str) -> Any:
            return lambda w: None if w is None else function(w, name.endswith("hh"))

        return setting(site.function, **{name: changed(name) for name in names})
    per_cell = _tensors_of_a_cell(site)
    gate_tensors = 4 if argument(site, "has_biases", True) else 2  # The following tensor is a projection without gates.

    def changed_all(flat: Sequence[Any]) -> list[Any]:
        positions = [i % per_cell for i in range(len(flat))]
        return [w if i >= gate_tensors else function(w, bool(i % 2)) for i, w in zip(positions, flat, strict=True)]

    return setting(site.function, weights=changed_all)


def gates(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong orders of the gates in weights and biases."""
    kind = _kind(site)
    if kind is None:
        return
    letters = _GATES[kind]
    fix = f"kernel = concatenation of the gates in the order {' '.join(letters)}"
    for order in itertools.permutations(range(len(letters))):
        if order == tuple(range(len(letters))):
            continue
        words = " ".join(letters[i] for i in order)
        text = f"Flax reads the gates in the order {words}; torch's {{where}} stores {' '.join(letters)}."
        for which, rank in (("both", COMMON), ("input", RARE), ("hidden", RARE)):

            def permuted(w: Any, hidden: bool, which: str = which, order: tuple[int, ...] = order) -> Any:
                if which != "both" and hidden != (which == "hidden"):
                    return w
                parts = w.chunk(len(order))
                # Flax uses part k of torch's weight for its own gate letters[order[k]].
                return torch.cat([parts[order.index(k)] for k in range(len(order))])

            only = "" if which == "both" else f" Only the weights of the {which} are affected."
            yield Option("gate-order", text + only, fix, _each_weight(site, permuted), rank)


def biases(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield missing biases: one bias instead of two, or no bias."""
    kind = _kind(site)
    if kind is None or not _has_biases(site):
        return
    fix = "bias = bias_ih + bias_hh" if kind != "gru" else "add a bias to the hidden product: flaxnets.nn.GRU has both"
    for which, missing in (("hidden", "bias_hh"), ("input", "bias_ih"), ("both", "bias_ih and bias_hh")):

        def dropped(w: Any, hidden: bool, which: str = which) -> Any:
            is_missing = which == "both" or hidden == (which == "hidden")
            return torch.zeros_like(w) if is_missing and w.ndim == 1 else w

        text = f"Flax computes without {missing}; torch's {{where}} adds two biases."
        name = "bias-missing" if which == "both" else "one-bias"
        yield Option(name, text, fix, _each_weight(site, dropped), COMMON)
    if kind == "gru":
        text = "Flax has no hidden bias of the new gate; torch's {where} has this bias, times the reset gate."

        def without_new(w: Any, hidden: bool) -> Any:
            if not hidden or w.ndim != 1:
                return w
            r, z, n = w.chunk(3)
            return torch.cat([r, z, torch.zeros_like(n)])

        yield Option("one-bias", text, fix, _each_weight(site, without_new), COMMON)


def _has_biases(site: Site) -> bool:
    if site.function.endswith("_cell"):
        return argument(site, "b_ih") is not None
    return bool(argument(site, "has_biases", True))


def formulas(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong formulas of a cell."""
    kind = _kind(site)
    recipes: dict[str, list[tuple[str, str, str, _Recipe, int]]] = {
        "gru": [
            (
                "reset-gate-before-product", "applies the reset gate to the state, before the product with the weight",
                "n = tanh(W_in x + b_in + r * (W_hn h + b_hn))", _Recipe(reset="before"), COMMON,
            ),
            (
                "reset-gate-bias", "adds the hidden bias of the new gate outside the product with the reset gate",
                "n = tanh(W_in x + b_in + r * (W_hn h + b_hn))", _Recipe(reset="bias outside"), COMMON,
            ),
            (
                "update-gate-reversed", "computes (1 - z) * h + z * n", "h = (1 - z) * n + z * h",
                _Recipe(update_reversed=True), COMMON,
            ),
        ],
        "lstm": [
            ("forget-bias", "adds 1 to the forget gate", "f = sigmoid(...)", _Recipe(forget_bias=1.0), COMMON),
            (
                "activation-missing", "multiplies the output gate by the cell without tanh", "h = o * tanh(c)",
                _Recipe(output_activation="none"), USUAL,
            ),
            (
                "activation-missing", "has no tanh for the new cell values", "g = tanh(...)",
                _Recipe(cell_activation="none"), USUAL,
            ),
            (
                "activation-kind", "computes the cell with relu", "g = tanh(...)",
                _Recipe(cell_activation="relu", output_activation="relu"), RARE,
            ),
        ],
    }  # fmt: skip
    if kind is None:
        return
    gate = (
        "activation-kind",
        "computes the gates with hard_sigmoid",
        "jax.nn.sigmoid",
        _Recipe(gate_activation="hardsigmoid"),
        USUAL,
    )
    other = "relu" if kind != "rnn_relu" else "tanh"
    cell = _Recipe(cell_activation="none"), _Recipe(cell_activation=other)
    if kind.startswith("rnn"):
        options = [
            ("activation-kind", f"computes {other}", f"jnp.{kind[4:]}(...)", setting_recipe, USUAL)
            for setting_recipe in cell[1:]
        ]
        if kind == "rnn_relu":
            other_function = getattr(torch, site.function.replace("relu", "tanh"))

            def change(original: Original, args: tuple, kwargs: dict) -> Any:
                return other_function(*args, **kwargs)

            text = "Flax computes tanh; torch's {where} computes relu."
            yield Option("activation-kind", text, "jax.nn.relu(...)", change, COMMON)
            options = []
    else:
        options = [*recipes[kind], gate]
    for name, words, fix, recipe, rank in options:
        yield Option(name, f"Flax {words}; torch's {{where}} does not.", fix, _written_out(site, recipe), rank)


def sequences(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong axes, directions and initial states of a recurrent layer."""
    kind = _kind(site)
    if kind is None:
        return
    initial = "hx" if not is_native(hints) else "initial_carry"
    text = "Flax starts with zeros; torch's {where} starts with the initial state that is passed."
    zeros = setting(site.function, hx=_zeros)
    yield Option("initial-state", text, f"pass {initial}", zeros, USUAL)
    if kind == "lstm":
        text = "Flax exchanges hidden state and cell state; torch's {where} has (h, c)."
        swapped = setting(site.function, hx=lambda hx: tuple(hx)[::-1])
        yield Option("state-order", text, "carry = (c, h) in Flax, (h, c) in torch", swapped, USUAL)

        def swapped_result(original: Original, args: tuple, kwargs: dict) -> Any:
            *first, h, c = original(*args, **kwargs)
            return (*first, c, h)

        yield Option("state-order", text, "carry = (c, h) in Flax, (h, c) in torch", swapped_result, USUAL)
    if site.function.endswith("_cell"):
        return
    batch_first = bool(argument(site, "batch_first", False))
    text = f"Flax uses axis {1 - batch_first} as time (torch's order); torch's {{where}} has batch_first={batch_first}."

    def transposed(original: Original, args: tuple, kwargs: dict) -> Any:
        x, hx = args[:2]
        batch = x.shape[1 if batch_first else 0]
        states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        fresh = tuple(s.new_zeros(s.shape[0], batch, s.shape[2]) for s in states)
        new = setting(site.function, hx=fresh if kind == "lstm" else fresh[0], batch_first=not batch_first)
        return new(original, args, kwargs)

    yield Option("batch-first", text, f"nnx.RNN(..., time_major={not batch_first})", transposed, COMMON)

    def backwards(original: Original, args: tuple, kwargs: dict) -> Any:
        axis = 1 if batch_first else 0
        output, *states = original(args[0].flip(axis), *args[1:], **kwargs)
        return (output.flip(axis), *states)

    text = "Flax reads the sequence from its end; torch's {where} from its beginning."
    yield Option("direction", text, "nnx.RNN(..., reverse=False)", backwards, USUAL)
    if argument(site, "bidirectional", False):
        text = "Flax does not reverse the outputs of the backward direction; torch's {where} does."
        change = _written_out(site, _Recipe(flipped_back=False))
        yield Option("direction", text, "nnx.RNN(..., reverse=True, keep_order=True)", change, COMMON)
        text = "Flax runs both directions from the beginning; torch's {where} runs one direction from the end."
        change = _written_out(site, _Recipe(flipped=False, flipped_back=False))
        yield Option("direction", text, "nnx.RNN(..., reverse=True, keep_order=True)", change, COMMON)
        text = "Flax puts the backward direction first; torch's {where} puts it last."
        change = _written_out(site, _Recipe(backward_first=True))
        yield Option("concat-order", text, "jnp.concatenate([forward, backward], axis=-1)", change, USUAL)

        def exchanged(flat: Any) -> list[Any]:
            half = len(flat) // 2 // max(argument(site, "num_layers", 1), 1)
            chunks = [flat[i : i + half] for i in range(0, len(flat), half)]
            return [w for i in range(0, len(chunks), 2) for w in (*chunks[i + 1], *chunks[i])]

        text = "Flax exchanges the weights of the two directions."
        yield Option("direction", text, "forward weights first", setting(site.function, weights=exchanged), USUAL)


def _zeros(hx: Any) -> Any:
    if hx is None:
        return None
    return tuple(torch.zeros_like(h) for h in hx) if isinstance(hx, (tuple, list)) else torch.zeros_like(hx)


SITE_RULES = (gates, biases, formulas, sequences)
