"""Cases of connectionist temporal classification."""

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cases.common import Function, Layer, Maker, Rejected, Sweep, layers, rejected

NONE = {"reduction": "none"}
SUM = {"reduction": "sum"}


def speech(
    steps: int,
    batch: int | None,
    classes: int,
    input_lengths: Any,
    target_lengths: Any,
    targets: Any = None,
    blank: int = 0,
    never: tuple[tuple[int, ...], ...] = (),
) -> Maker:
    """Draw log-probabilities, targets without the blank, and lengths. The probabilities at ``never`` are zero."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        shape = (steps, classes) if batch is None else (steps, batch, classes)
        scores = rng.normal(size=shape)
        log_probs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        for place in never:
            log_probs[place] = -math.inf
        if targets is None:
            width = max(np.reshape(target_lengths, -1), default=0)
            labels = rng.integers(0, classes - 1, (batch, width) if batch is not None else width)
        else:
            labels = np.asarray(targets) if np.ndim(targets) else rng.integers(0, classes - 1, targets)
        return log_probs, labels + (labels >= blank if targets is None else 0), input_lengths, target_lengths

    return make


PLAIN = speech(6, 2, 4, (6, 6), (3, 3))
ARRAYS = speech(6, 3, 4, np.array([6, 5, 5]), np.array([2, 3, 0]))
REPEATS = [[1, 1, 2], [3, 3, 3]]

LAYERS: list[Layer] = layers(
    "CTCLoss",
    (PLAIN,),
    (speech(3, 2, 4, (0, 3), (2, 2)), (), NONE),
    (speech(5, 2, 4, (5, 5), (3, 3), REPEATS), (), NONE),
    (PLAIN, (0, "none")),
    (PLAIN, (), SUM),
    (speech(6, 2, 4, (6, 6), (3, 2), blank=3), (3, "none", True)),
    (speech(6, 2, 4, (6, 5), (3, 2), blank=1), (), {"blank": 1}),
    (ARRAYS,),
    (ARRAYS, (), NONE),
    (ARRAYS, (), SUM),
    (speech(6, 3, 4, [6, 5, 5], [2, 3, 0]), (), NONE),
    (speech(6, 3, 4, (6, 4, 5), (2, 3, 1), [1, 2, 3, 2, 3, 1]),),
    (speech(6, 3, 4, np.array([6, 4, 5]), np.array([2, 0, 1]), [1, 1, 3]), (), NONE),
    (speech(8, 2, 4, (8, 7), (3, 3), REPEATS), (), NONE),
    (speech(4, 2, 4, (4, 4), (3, 3), REPEATS), (), {"zero_infinity": True}),
    (speech(4, 2, 4, (4, 4), (3, 3), REPEATS), (), {"zero_infinity": True, **NONE}),
    (speech(5, 2, 4, (0, 3), (0, 2)), (), NONE),
    (speech(5, 2, 4, (0, 3), (2, 2)), (), {"zero_infinity": True}),
    (speech(5, 2, 4, (3, 5), (0, 2)),),
    (speech(5, 2, 4, (3, 5), (0, 0)),),
    (speech(5, 2, 4, (5, 5), (0, 0), np.zeros(0, np.int64)), (), NONE),
    (speech(7, 2, 4, (5, 3), (2, 1), [[1, 2, 9], [3, 77, -5]]), (), NONE),
    (speech(5, None, 4, (5,), (2,)),),
    (speech(5, None, 4, (4,), (2,)), (), NONE),
    (speech(6, None, 4, (4,), (2,), [[1, 2]]), (), NONE),
    (speech(7, None, 4, np.array(5), np.array(2), [1, 2]), (), NONE),
    (speech(5, 2, 4, np.array([[5], [4]]), np.array([[2], [1]]), [[1, 2], [3, 1]]),),
    (speech(5, 2, 4, (5, 4), (2, 1), np.array([[1.0, 2.0], [3.0, 1.0]]).astype(np.int32)),),
    (speech(1, 1, 2, (1,), (1,)),),
    (speech(5, 2, 1, (5, 5), (0, 0)),),
)

NOT_FINITE: list[Layer] = layers(
    "CTCLoss",
    (speech(4, 2, 4, (4, 4), (3, 3), REPEATS),),
    (speech(3, 2, 4, (1, 2), (2, 2)), (), NONE),
    (speech(5, 2, 4, (5, 3), (2, 1), never=((1, 0, 3), (2, 1, 1))), (), NONE),
    (speech(4, 2, 4, (4, 3), (2, 1), [[1, 2], [3, 1]], never=((1, 0, 0), (0, 1, 3))), (), NONE),
)

FUNCTIONS: list[Function] = [
    Function("ctc_loss", PLAIN),
    Function(
        "ctc_loss", speech(6, 2, 4, (6, 6), (3, 3), blank=2), {"blank": 2, "reduction": "sum", "zero_infinity": True}
    ),
]


@st.composite
def _ctc(draw: st.DrawFn) -> Layer:
    steps, batch, classes = draw(st.integers(8, 9)), draw(st.integers(1, 3)), draw(st.integers(2, 4))
    zero_infinity = draw(st.booleans())
    target_lengths = draw(st.lists(st.integers(0, 4), min_size=batch, max_size=batch))
    # The input has enough steps for its target, unless zero_infinity replaces infinite losses and gradients by zero.
    input_lengths = [draw(st.integers(0 if zero_infinity else 2 * length, steps)) for length in target_lengths]
    blank = draw(st.integers(0, classes - 1))
    as_given = (tuple, np.array)[draw(st.booleans())]
    inputs = speech(steps, batch, classes, as_given(input_lengths), as_given(target_lengths), blank=blank)
    return Layer("CTCLoss", inputs, kwargs={"blank": blank, "zero_infinity": zero_infinity, **NONE})


SWEEPS: list[Sweep] = [Sweep("CTCLoss", _ctc(), examples=16)]


def changed(index: int, value: Any) -> Maker:
    """Replace one of the plain inputs."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        inputs = list(PLAIN(rng))
        inputs[index] = value(inputs[index]) if callable(value) else value
        return tuple(inputs)

    return make


REJECTED: list[Rejected] = rejected(
    "CTCLoss",
    ((), {"reduction": "avg"}, PLAIN, "got 'avg'"),
    ((4,), {}, PLAIN, r"blank must be a class, in \[0, 4\), got 4"),
    ((-1,), {}, PLAIN, "got -1"),
    ((), {}, changed(0, lambda x: x[None]), r"got \(1, 6, 2, 4\)"),
    ((), {}, changed(0, lambda x: x[0, 0]), r"got \(4,\)"),
    ((), {}, changed(0, np.zeros((0, 2, 4))), r"must not be empty, got the shape \(0, 2, 4\)"),
    ((), {}, changed(0, np.zeros((6, 0, 4))), r"must not be empty, got the shape \(6, 0, 4\)"),
    ((), {}, changed(0, lambda x: x.astype(np.int64)), "got int"),
    ((), {}, changed(0, lambda x: x.astype(np.float16)), "got float16"),
    ((), {}, changed(1, np.ones((2, 3, 1), np.int64)), r"got \(2, 3, 1\)"),
    ((), {}, changed(1, np.ones((1, 3), np.int64)), r"\(2, 3\), got \(1, 3\)"),
    ((), {}, changed(1, np.ones((2, 2), np.int64)), r"\(2, 3\), got \(2, 2\)"),
    ((), {}, changed(1, np.ones(5, np.int64)), "expected 6 targets in one axis, got 5"),
    ((), {}, changed(1, np.ones(7, np.int64)), "expected 6 targets in one axis, got 7"),
    ((), {}, changed(2, (7, 6)), "input_lengths must not be negative, and at most 6, got 7"),
    ((), {}, changed(2, (6, -1)), "got -1"),
    ((), {}, changed(2, (6, 6, 6)), "expected 2 input_lengths, one per example, got 3"),
    ((), {}, changed(2, np.array([6, 6])), "both be arrays or both be tuples"),
    ((), {}, changed(2, 6), "both be arrays or both be tuples, got <class 'int'>"),
    ((), {}, changed(3, (3, -1)), "target_lengths must not be negative, got -1"),
    ((), {}, changed(3, (3, 3, 3)), "expected 2 target_lengths, one per example, got 3"),
    ((), {}, lambda rng: (*PLAIN(rng)[:2], np.array([6.0, 6.0]), np.array([3.0, 3.0])), "must be integers, got float"),
)
