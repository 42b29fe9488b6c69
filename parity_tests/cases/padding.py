"""Cases of padding."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from cases.common import Function, Layer, Maker, Rejected, Sweep, functions, given, layers, normal, rejected

SIZE = (3, 4, 5)
# Different amounts at every end, one of them zero. A padding of n axes uses the first n pairs.
UNEVEN = (2, 1, 0, 3, 1, 2)
CROPPING = (-1, 2, 1, -2, -1, -1)


def images(n: int, *others: int) -> Maker:
    """Draw inputs whose last ``n`` axes are padded."""
    return normal((*others, *SIZE[-n:]))


def peculiar(*shape: int) -> Maker:
    """Draw inputs that contain NaN, infinities and negative zero."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        x = rng.normal(size=shape)
        x.flat[:5] = np.nan, np.inf, -np.inf, -0.0, 1e30
        return (x,)

    return make


def constants(n: int) -> list[Layer]:
    """Return the rows of constant padding for a number of axes. The input may have any shape."""
    return [
        *layers(
            f"ConstantPad{n}d",
            (images(n, 2, 3), (2, 1.5)),
            (images(n, 3), (UNEVEN[: 2 * n], -2.0)),
            (images(n, 2, 3), (), {"padding": CROPPING[: 2 * n], "value": 3}),
            (images(n), ([*UNEVEN[: 2 * n]], float("nan"))),
            (images(n, 2, 1, 3), (1, float("-inf"))),
            (images(n, 0, 3), (1, 0.1)),
            (normal((2, 3, *[0] * n)), (1, 0.1)),
            (images(n, 3), (0, 1.0)),
            (images(3, 2), ((), 1.0)),
            (images(3, 2), ((1, 2), 0.5)),
            (images(3, 2), ((1, 2, 0, 1, 2, 0, 1, 1), 0.5)),
            (normal((2, *[4] * n)), (-2, 1.0)),
            (given(np.arange(4 * 3**n).reshape(4, *[3] * n)), (1, -1.7)),
            (given(np.ones((2, *[3] * n), bool)), (1, 0)),
            (normal((1,) * n), (1, 1e30)),
        ),
        *layers(
            f"ZeroPad{n}d",
            (images(n, 2, 3), (2,)),
            (images(n, 3), (UNEVEN[: 2 * n],)),
            (images(n, 2, 3), (), {"padding": CROPPING[: 2 * n]}),
            (images(n), ([*UNEVEN[: 2 * n]],)),
            (images(n, 2, 1, 3), (1,)),
            (images(n, 0, 3), (1,)),
            (normal((2, 3, *[0] * n)), (1,)),
            (images(n, 3), (0,)),
            (peculiar(2, *[3] * n), (1,)),
            (normal((2, *[4] * n)), (-2,)),
            (given(np.arange(4 * 3**n).reshape(4, *[3] * n)), (1,)),
            (normal((1,) * n), (1,)),
        ),
    ]


def repetitions(kind: str, n: int) -> list[Layer]:
    """Return the rows of a mode that repeats values of the input."""
    name = f"{kind}Pad{n}d"
    return [
        *layers(
            name,
            (images(n, 2, 3), (1,)),
            (images(n, 3), (1,)),
            (images(n, 2, 3), (UNEVEN[: 2 * n],)),
            (images(n, 3), (), {"padding": [*UNEVEN[: 2 * n]]}),
            (images(n, 2, 3), (CROPPING[: 2 * n],)),
            (images(n, 2, 3), (-1,)),
            (images(n, 2, 3), (0,)),
            (images(n, 2, 3), (2,)),
            (images(n, 0, 3), (1,)),
            (peculiar(2, *[3] * n), (2,)),
            (given(np.arange(3 * 3**n).reshape(3, *[3] * n)), (1,)),
            (normal((1, 1, *[2] * n)), (1,)),
        ),
        *{
            "Reflection": layers(name, (images(1, 2), ((4, 4),))) if n == 1 else [],
            "Replication": layers(name, (images(n, 2), (7,)), (normal((1, 1, *[1] * n)), (3,))),
            "Circular": layers(name, (normal((2, *[3] * n)), (3,)), (images(n, 2, 0), (1,))),
        }[kind],
    ]


LAYERS: list[Layer] = [
    *[row for n in (1, 2, 3) for row in constants(n)],
    *[row for kind in ("Reflection", "Replication", "Circular") for n in (1, 2, 3) for row in repetitions(kind, n)],
]

LINE = normal((2, 4))
FUNCTIONS: list[Function] = functions(
    "pad",
    (normal((2, 3, 4)), {"pad": (1, 2)}),
    (normal((2, 3, 4)), {"pad": [1, 2, 0, 1, 2, 1]}),
    (normal((2, 3, 4)), {"pad": (1, 2), "mode": "constant", "value": None}),
    (normal((2, 3, 4)), {"pad": (1, -2, -1, 1), "value": 0.7}),
    (normal((2, 3, 4)), {"pad": ()}),
    (normal(()), {"pad": ()}),
    (LINE, {"pad": (-4, 3), "value": 2.0}),
    (LINE, {"pad": (-1, -3)}),
    (given(np.arange(6).reshape(2, 3)), {"pad": (1, 1), "value": 2.9}),
    (given(np.ones((2, 3), bool)), {"pad": (1, 1)}),
    (given(np.ones((2, 3), np.int8)), {"pad": (1, 1), "value": -128}),
    (given(np.ones((2, 3)) + 2j), {"pad": (1, 1), "value": 0.5}),
    *[
        row
        for mode in ("reflect", "replicate", "circular")
        for row in (
            (LINE, {"pad": (2, 3), "mode": mode}),
            (LINE, {"pad": (-1, 3), "mode": mode, "value": 0.0}),
            (LINE, {"pad": (1, -1), "mode": mode}),
            (LINE, {"pad": (-3, 1), "mode": mode}),
            (LINE, {"pad": (-1, -2), "mode": mode}),
            (given(np.arange(8.0).reshape(2, 4) + 1j), {"pad": (1, 2), "mode": mode}),
            (given(np.arange(8).reshape(2, 4)), {"pad": (3, 0), "mode": mode}),
        )
    ],
    (LINE, {"pad": (-4, 3), "mode": "reflect"}),
    (LINE, {"pad": (3, -5), "mode": "reflect"}),
    (LINE, {"pad": (-5, 5), "mode": "replicate"}),
    (LINE, {"pad": (4, -6), "mode": "replicate"}),
    (LINE, {"pad": (4, 4), "mode": "circular"}),
    (LINE, {"pad": (-4, 0), "mode": "circular"}),
    (given(np.ones((2, 4), bool)), {"pad": (1, 1), "mode": "circular"}),
    (normal((2, 2, 0)), {"pad": (0, 0), "mode": "circular"}),
)


@st.composite
def padded(draw: Any) -> Function:
    """Draw positive and negative paddings that the mode accepts."""
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    n = draw(st.integers(1, 3))
    size = [draw(st.integers(1, 5)) for _ in range(n)]
    pads: list[int] = []
    for length in size:
        most = {"constant": 4, "reflect": length - 1, "replicate": 4, "circular": length}[mode]
        before = draw(st.integers(-((length - 1) // 2), most))
        # Cropping leaves at least one element; for circular padding, it leaves at least as many as are repeated.
        rest = length + min(before, 0)
        after = draw(st.integers(-((rest - 1) // 2), min(most, rest) if mode == "circular" else most))
        if mode == "circular" and before > length + min(after, 0):
            after = 0
        pads = [before, after, *pads]
    others = draw(st.sampled_from([(2,), (2, 1)]))
    return Function("pad", normal((*others, *size)), {"pad": pads, "mode": mode})


SWEEPS: list[Sweep] = [Sweep("pad", padded(), 32)]


def rejected_by_constants(n: int) -> list[Rejected]:
    return [
        row
        for name, value in ((f"ConstantPad{n}d", (1.0,)), (f"ZeroPad{n}d", ()))
        for row in rejected(
            name,
            (((1,), *value), {}, (2, *SIZE), r"pairs of ints, .* got \(1,\)"),
            ((1.0, *value), {}, (2, *SIZE), "pad must be ints, got 1.0"),
            ((True, *value), {}, (2, *SIZE), "pad must be ints, got True"),
            ((-4, *value), {}, (2, *SIZE), r"padding \(-4, -4\) removes more elements than"),
            (((1,) * 10, *value), {}, (2, *SIZE), r"at most one for each axis, got \(1, 1"),
        )
    ]


def rejected_by_repetitions(kind: str, n: int) -> list[Rejected]:
    name = f"{kind}Pad{n}d"
    mode = {"Reflection": "reflect", "Replication": "replicate", "Circular": "circular"}[kind]
    too_few, too_many = (4,) * n, (1, 1, 1, *[4] * n)
    too_large = {"reflect": 4, "circular": 5}
    return [
        *rejected(
            name,
            (((1,),), {}, (2, *[4] * n), r"pairs of ints, .* got \(1,\)"),
            ((1.0,), {}, (2, *[4] * n), "pad must be ints, got 1.0"),
            ((1,), {}, too_few, rf"(got {n}D|\({n * '1, ' * 0}.*4,?\)|{n}D input)"),
            ((1,), {}, too_many, f"{n + 3}D input"),
            ((-3,), {}, (2, *[4] * n), r"padding \(-3, -3\)"),
            (((1, 1) * (n + 1),), {}, (2, 2, *[4] * (n - 1)) if n < 3 else (2, 2, 4, 4), r"(\(1, 1, 1, 1|got \dD)"),
        ),
        *[
            Rejected(name, (size,), {}, (2, *[4] * n), rf"the {mode} padding \({size}, {size}\)")
            for size in [too_large.get(mode)]
            if size
        ],
        *(
            rejected(
                name,
                ((1,), {}, (2, 0, *[4] * n), rf"{mode}.*\(2, 0, 4"),
                ((1,), {}, (0, *[4] * n), rf"{mode}.*\(0, 4"),
                ((0,), {}, (2, 2, *[0] * n), rf"{mode}.*\(2, 2, 0"),
            )
            if mode != "circular"
            else rejected(name, ((1,), {}, (2, 2, *[0] * n), r"circular padding \(1, 1\) of an axis of size 0"))
        ),
    ]


ROW = (1, 4)
REJECTED: list[Rejected] = [
    *[row for n in (1, 2, 3) for row in rejected_by_constants(n)],
    *[
        row
        for kind in ("Reflection", "Replication", "Circular")
        for n in (1, 2, 3)
        for row in rejected_by_repetitions(kind, n)
    ],
    *rejected(
        "pad",
        ((), {"pad": 1}, ROW, "pad must be a sequence of ints, got 1"),
        ((), {"pad": (1, 1), "mode": "mirror"}, ROW, "got 'mirror'"),
        ((), {"pad": (1, 1), "mode": "mirror", "value": 2.0}, ROW, "got 'mirror'"),
        ((), {"pad": (1, 1), "mode": "reflect", "value": 2.0}, ROW, "mode 'reflect' does not support value, got 2.0"),
        (
            (),
            {"pad": (1, 1), "mode": "replicate", "value": 2.0},
            ROW,
            "mode 'replicate' does not support value, got 2.0",
        ),
        ((), {"pad": (1, 1), "mode": "circular", "value": 2.0}, ROW, "mode 'circular' does not support value, got 2.0"),
        ((), {"pad": (), "mode": "reflect"}, ROW, r"got pad \(\)"),
        ((), {"pad": (1, 1), "mode": "reflect"}, (4,), "1D input"),
        ((), {"pad": (1, 1), "mode": "reflect"}, (1, 1, 1, 4), "4D input"),
        ((), {"pad": (1,) * 8, "mode": "replicate"}, (4, 4, 4, 4), "4D input"),
        ((), {"pad": (1, 1), "value": 1j}, ROW, "value must be a real number, got 1j"),
        ((), {"pad": (1, 1), "value": "a"}, ROW, "value must be a real number, got 'a'"),
        ((), {"pad": (1, 1), "value": 1e39}, ROW, r"the value 1e\+39 is out of the range .* float32"),
        ((), {"pad": (1, 1), "value": 300}, given(np.ones(ROW, np.uint8)), "the value 300 is out of the range"),
        ((), {"pad": (1, 1), "value": -0.5}, given(np.ones(ROW, np.uint8)), "the value -0.5 is out of the range"),
        (
            (),
            {"pad": (1, 1), "value": float("nan")},
            given(np.ones(ROW, np.int32)),
            "the value nan is out of the range",
        ),
        (
            (),
            {"pad": (1, 1), "value": 65505.0},
            given(np.ones(ROW, np.float16)),
            "the value 65505.0 is out of the range",
        ),
        ((), {"pad": (-5, 5)}, ROW, r"padding \(-5, 5\) removes more"),
        ((), {"pad": (3, -5)}, ROW, r"padding \(3, -5\) removes more"),
        ((), {"pad": (1, 1, 1, 1)}, (4,), r"got \(1, 1, 1, 1\)"),
        ((), {"pad": (4, -1), "mode": "reflect"}, ROW, r"reflect padding \(4, -1\)"),
        ((), {"pad": (-4, 4), "mode": "reflect"}, ROW, r"reflect padding \(-4, 4\)"),
        ((), {"pad": (-1, -3), "mode": "reflect"}, ROW, r"reflect padding \(-1, -3\)"),
        ((), {"pad": (-1, -3), "mode": "replicate"}, ROW, r"replicate padding \(-1, -3\)"),
        ((), {"pad": (-1, -4), "mode": "circular"}, ROW, r"circular padding \(-1, -4\)"),
        # These paddings wrap around more elements than cropping leaves.
        ((), {"pad": (4, -1), "mode": "circular"}, ROW, r"circular padding \(4, 0\) of an axis of size 3"),
        ((), {"pad": (-2, 3), "mode": "circular"}, ROW, r"circular padding \(0, 3\) of an axis of size 2"),
        ((), {"pad": (5, 0), "mode": "circular"}, ROW, r"circular padding \(5, 0\)"),
    ),
]
