"""Cases of recurrent layers and cells."""

from typing import Any

import hypothesis.strategies as st
import numpy as np

from cases.common import Function, Layer, Maker, Rejected, Sweep, layers, normal, rejected


def paired(*shapes: tuple[int, ...]) -> Maker:
    """Draw an input and a tuple of states."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        x, *states = normal(*shapes)(rng)
        return x, tuple(states)

    return make


STEPS = normal((5, 2, 3))
STEPS_FIRST = normal((2, 5, 3))
UNBATCHED = normal((5, 3))


def in_common(*leading: Any) -> list[tuple[Any, ...]]:
    """Return the rows that all recurrent layers share. ``leading`` is inserted after num_layers."""
    return [
        (STEPS, (3, 4)),
        (STEPS, (3, 4, 2, *leading), {"dropout": 0.5}),
        (STEPS, (3, 4, 2, *leading, False, False, 0.2, True)),
        (STEPS, (3, 4), {"bias": False}),
        (STEPS, (3, 4), {"bidirectional": True}),
        (STEPS_FIRST, (3, 4), {"batch_first": True}),
        (STEPS_FIRST, (3, 4, 2), {"batch_first": True, "bias": False, "dropout": 0.5}),
        (STEPS, (3, 4, 3), {"bidirectional": True, "dropout": 1.0}),
        (UNBATCHED, (3, 4)),
        (UNBATCHED, (3, 4, 2), {"batch_first": True, "bidirectional": True}),
        (normal((1, 2, 3)), (3, 4)),
        (normal((5, 0, 3)), (3, 4)),
        (normal((1, 1, 1)), (1, 1)),
        # Large inputs, which saturate the gates.
        (lambda rng: tuple(50 * x for x in STEPS(rng)), (3, 4), {"num_layers": 1}),
    ]


def cells(name: str) -> list[Layer]:
    """Return the rows that RNNCell and GRUCell share."""
    return layers(
        name,
        (normal((2, 3)), (3, 4)),
        (normal((2, 3), (2, 4)), (3, 4)),
        (normal((2, 3), (2, 4)), (3, 4, False)),
        (normal((2, 3)), (3, 4), {"bias": False}),
        (normal((3,)), (3, 4)),
        (normal((3,), (4,)), (3, 4)),
        (normal((3,), (4,)), (3, 4), {"bias": False}),
        (normal((1, 3), (1, 4)), (3, 4)),
        (normal((0, 3), (0, 4)), (3, 4)),
        (normal((1,), (1,)), (1, 1)),
        (normal((2, 0), (2, 4)), (0, 4)),
        (normal((2, 3), (2, 0)), (3, 0)),
        (lambda rng: tuple(50 * x for x in normal((2, 3), (2, 4))(rng)), (3, 4), {"bias": True}),
    )


LAYERS: list[Layer] = [
    *layers(
        "RNN",
        *in_common("relu"),
        (normal((5, 2, 3), (1, 2, 4)), (3, 4), {"nonlinearity": "relu"}),
        (normal((5, 2, 3), (4, 2, 4)), (3, 4, 2), {"nonlinearity": "relu", "bidirectional": True}),
        (normal((5, 3), (1, 4)), (3, 4), {"nonlinearity": "tanh"}),
        (normal((2, 5, 3), (2, 2, 4)), (3, 4, 2), {"batch_first": True}),
    ),
    *layers(
        "GRU",
        *in_common(),
        (normal((5, 2, 3), (1, 2, 4)), (3, 4)),
        (normal((5, 2, 3), (6, 2, 4)), (3, 4, 3), {"bidirectional": True, "dropout": 0.3}),
        (normal((5, 3), (1, 4)), (3, 4)),
        (normal((2, 5, 3), (2, 2, 4)), (3, 4, 2), {"batch_first": True}),
    ),
    *layers(
        "LSTM",
        *in_common(),
        (paired((5, 2, 3), (4, 2, 4), (4, 2, 4)), (3, 4, 2), {"bidirectional": True}),
        (paired((2, 5, 3), (4, 2, 2), (4, 2, 4)), (3, 4, 2, True, True, 0.5, True, 2)),
        (paired((5, 3), (2, 4), (2, 4)), (3, 4, 2), {"dropout": 0.2}),
        (STEPS, (3, 4), {"bias": False, "proj_size": 1}),
        (paired((5, 3), (1, 2), (1, 4)), (3, 4), {"proj_size": 2}),
    ),
    *cells("RNNCell"),
    *layers(
        "RNNCell",
        (normal((2, 3), (2, 4)), (3, 4, True, "relu")),
        (normal((2, 3)), (3, 4), {"nonlinearity": "relu", "bias": False}),
        (normal((3,), (4,)), (3, 4), {"nonlinearity": "tanh"}),
    ),
    *cells("GRUCell"),
    *layers(
        "LSTMCell",
        (normal((2, 3)), (3, 4)),
        (paired((2, 3), (2, 4), (2, 4)), (3, 4)),
        (paired((2, 3), (2, 4), (2, 4)), (3, 4, False)),
        (normal((2, 3)), (3, 4), {"bias": False}),
        (normal((3,)), (3, 4)),
        (paired((3,), (4,), (4,)), (3, 4)),
        (paired((3,), (4,), (4,)), (3, 4), {"bias": False}),
        (paired((1, 3), (1, 4), (1, 4)), (3, 4)),
        (paired((0, 3), (0, 4), (0, 4)), (3, 4)),
        (paired((1,), (1,), (1,)), (1, 1)),
        (paired((2, 0), (2, 4), (2, 4)), (0, 4)),
        (paired((2, 3), (2, 0), (2, 0)), (3, 0)),
    ),
]

FUNCTIONS: list[Function] = []

SIZES = st.integers(1, 4)


def cell_sweep(name: str) -> Sweep:
    """Draw batch and sizes of a cell, with and without biases and state."""

    def case(batch: int | None, sizes: tuple[int, int], bias: bool, has_state: bool) -> Layer:
        shapes = [(size,) if batch is None else (batch, size) for size in sizes]
        states = [shapes[1]] * (2 if name == "LSTMCell" else 1) if has_state else []
        make = paired if name == "LSTMCell" and has_state else normal
        return Layer(name, make(shapes[0], *states), sizes, {"bias": bias})

    batches = st.none() | st.integers(0, 3)
    return Sweep(name, st.builds(case, batches, st.tuples(SIZES, SIZES), st.booleans(), st.booleans()))


SWEEPS: list[Sweep] = [cell_sweep(name) for name in ("RNNCell", "GRUCell", "LSTMCell")]


def layer_rejections(name: str) -> list[Rejected]:
    """Return the rows that all recurrent layers reject."""
    states = paired if name == "LSTM" else normal
    again = 2 if name == "LSTM" else 1
    return rejected(
        name,
        ((0, 4), {}, None, "input_size must be positive, got 0"),
        ((-1, 4), {}, None, "input_size must be positive, got -1"),
        ((3, 0), {}, None, "hidden_size must be positive, got 0"),
        ((3, 4, 0), {}, None, "num_layers must be positive, got 0"),
        ((3.0, 4), {}, None, r"input_size must be an int, got 3\.0"),
        ((3, "4"), {}, None, "hidden_size must be an int, got '4'"),
        ((3, 4), {"num_layers": 1.5}, None, r"num_layers must be an int, got 1\.5"),
        ((3, 4), {"bias": 1}, None, "bias must be a bool, got 1"),
        ((3, 4), {"batch_first": None}, None, "batch_first must be a bool, got None"),
        ((3, 4), {"dropout": 1.5}, None, r"between 0 and 1, got 1\.5"),
        ((3, 4), {"dropout": -0.1}, None, r"between 0 and 1, got -0\.1"),
        ((3, 4), {"dropout": float("nan")}, None, "between 0 and 1, got nan"),
        ((3, 4), {"dropout": True}, None, "between 0 and 1, got True"),
        ((3, 4), {"dropout": "much"}, None, "between 0 and 1, got 'much'"),
        ((3, 4), {"dropout": None}, None, "between 0 and 1, got None"),
        ((3, 4), {}, (3,), r"expected 2D or 3D input, got 1D input of shape \(3,\)"),
        ((3, 4), {}, (1, 5, 2, 3), "got 4D input"),
        ((3, 4), {}, (5, 2, 4), r"must have 3 features, got an input of shape \(5, 2, 4\)"),
        ((3, 4), {}, (0, 2, 3), r"at least one time step, got an input of shape \(0, 2, 3\)"),
        ((3, 4), {"batch_first": True}, (2, 0, 3), r"at least one time step, got an input of shape \(2, 0, 3\)"),
        ((3, 4), {}, lambda rng: (np.ones((5, 2, 3), np.int64),), "expected an input of dtype float32.* got int"),
        ((3, 4), {}, states((5, 2, 3), *[(1, 2, 5)] * again), r"h_0 \(1, 2, 4\).* got \(1, 2, 5\)"),
        ((3, 4), {}, states((5, 2, 3), *[(1, 3, 4)] * again), r"h_0 \(1, 2, 4\).* got \(1, 3, 4\)"),
        ((3, 4), {}, states((5, 2, 3), *[(2, 2, 4)] * again), r"h_0 \(1, 2, 4\).* got \(2, 2, 4\)"),
        ((3, 4), {}, states((5, 2, 3), *[(1, 4)] * again), r"h_0 \(1, 2, 4\).* got \(1, 4\)"),
        ((3, 4), {}, states((5, 3), *[(1, 2, 4)] * again), r"h_0 \(1, 4\).* got \(1, 2, 4\)"),
        ((3, 4), {}, states((5, 3), *[(1, 5)] * again), r"h_0 \(1, 4\).* got \(1, 5\)"),
        ((3, 4), {"bidirectional": True}, states((5, 2, 3), *[(1, 2, 4)] * again), r"h_0 \(2, 2, 4\)"),
    )


def cell_rejections(name: str) -> list[Rejected]:
    """Return the rows that all recurrent cells reject."""
    states = paired if name == "LSTMCell" else normal
    again = 2 if name == "LSTMCell" else 1
    return rejected(
        name,
        ((3, -1), {}, None, "hidden_size must not be negative, got -1"),
        ((-3, 4), {}, None, "input_size must not be negative, got -3"),
        ((3, 4), {}, (), r"expected 1D or 2D input, got 0D input"),
        ((3, 4), {}, (1, 2, 3), r"expected 1D or 2D input, got 3D input of shape \(1, 2, 3\)"),
        ((3, 4), {}, (2, 5), r"must have 3 features, got an input of shape \(2, 5\)"),
        ((3, 4), {}, (5,), r"must have 3 features, got an input of shape \(5,\)"),
        ((3, 4), {}, lambda rng: (np.ones((2, 3), np.int64),), "expected an input of dtype float32.* got int"),
        ((3, 4), {}, states((2, 3), *[(3, 4)] * again), r"shape \(2, 4\).* got \(3, 4\)"),
        ((3, 4), {}, states((2, 3), *[(2, 5)] * again), r"shape \(2, 4\).* got \(2, 5\)"),
        ((3, 4), {}, states((2, 3), *[(4,)] * again), r"shape \(2, 4\).* got \(4,\)"),
        ((3, 4), {}, states((3,), *[(1, 4)] * again), r"shape \(4,\).* got \(1, 4\)"),
        ((3, 4), {}, states((2, 3), *[(1, 2, 4)] * again), r"got 3D input of shape \(1, 2, 4\)"),
        ((3, 4), {}, states((2, 3), *[()] * again), r"got 0D input of shape \(\)"),
        ((3, 4), {}, lambda rng: (np.ones((2, 3)), *state(np.ones((2, 4), np.int64), again)), "got .*int"),
    )


def state(array: np.ndarray, number: int) -> tuple[Any, ...]:
    """Return one array unchanged, or several copies as one tuple."""
    return (array,) if number == 1 else ((array,) * number,)


REJECTED: list[Rejected] = [
    *(row for name in ("RNN", "GRU", "LSTM") for row in layer_rejections(name)),
    *rejected(
        "RNN",
        ((3, 4), {"nonlinearity": "sigmoid"}, None, "must be 'tanh' or 'relu', got 'sigmoid'"),
        ((3, 4), {"proj_size": 2}, None, "only LSTM supports proj_size, got proj_size=2"),
    ),
    *rejected(
        "GRU",
        ((3, 4), {"proj_size": 0}, None, "only LSTM supports proj_size, got proj_size=0"),
        ((3, 4), {"nonlinearity": "relu"}, None, "nonlinearity"),
    ),
    *rejected(
        "LSTM",
        ((3, 4), {"proj_size": -1}, None, "got -1"),
        ((3, 4), {"proj_size": 4}, None, "smaller than hidden_size=4, got 4"),
        ((3, 4), {"proj_size": 1.5}, None, r"proj_size must be an int, got 1\.5"),
        ((3, 4), {}, paired((5, 2, 3), (1, 2, 4), (1, 2, 5)), r"c_0 \(1, 2, 4\).* got .*\(1, 2, 5\)"),
        ((3, 4), {}, paired((5, 2, 3), *[(1, 2, 4)] * 3), r"h_0 \(1, 2, 4\) and c_0 \(1, 2, 4\)"),
    ),
    *rejected(
        "RNNBase",
        (("CNN", 3, 4), {}, None, "mode must be one of .*, got 'CNN'"),
        (("GRU", 3, 4), {}, (5, 2, 3), "RNNBase of mode 'GRU' cannot be called"),
        (("LSTM", 3, 4), {"proj_size": 4}, None, "smaller than hidden_size=4, got 4"),
        (("RNN_TANH", 3, 0), {}, None, "hidden_size must be positive, got 0"),
    ),
    *(row for name in ("RNNCell", "GRUCell", "LSTMCell") for row in cell_rejections(name)),
    *rejected("RNNCell", ((3, 4), {"nonlinearity": "sin"}, (2, 3), "must be 'tanh' or 'relu', got 'sin'")),
    *rejected(
        "LSTMCell",
        ((3, 4), {}, normal((2, 3), (2, 4)), r"a pair \(h, c\), got one array of shape \(2, 4\)"),
        ((3, 4), {}, paired((2, 3), (2, 4)), r"h_0 and c_0, each of shape \(2, 4\)"),
        ((3, 4), {}, paired((2, 3), *[(2, 4)] * 3), r"h_0 and c_0, each of shape \(2, 4\)"),
        ((3, 4), {}, paired((2, 3), (2, 4), (2, 5)), r"got \(2, 4\) .* \(2, 5\)"),
    ),
    *rejected(
        "RNNCellBase",
        ((3, -1, True, 2), {}, None, "hidden_size must not be negative, got -1"),
        ((3, 4, True, 2), {}, (2, 3), "RNNCellBase cannot be called"),
    ),
]
