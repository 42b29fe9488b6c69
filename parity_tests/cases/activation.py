"""Cases of activations."""

import hypothesis.strategies as st
import numpy as np

from cases.common import Constant, Function, Layer, Rejected, Sweep, functions, given, layers, normal, rejected, ties

# Values at and around every kink of every activation, and large values that overflow, without infinities.
KINKS = given(
    np.array(
        [
            *(-800.0, -40.0, -20.0, -6.0, -3.0, -2.999, -1.0, -0.5, -0.25, -1e-3, 0.0, -0.0),
            *(1e-3, 0.25, 0.5, 1.0, 2.0, 3.0, 5.999, 6.0, 20.0, 20.001, 40.0, 800.0),
        ]
    )
)
# Infinities and NaN are separate: NaN gradients have no scale for relative errors. test_activations.py compares them.
INFINITE = given(np.array([-np.inf, np.inf]))
NAN = given(np.array([np.nan]))
WHOLE = given(np.arange(-4, 10))
SMOOTH = (KINKS, ties(4, 5), normal((2, 3, 4)), normal(()), normal((0, 3)))
PIECEWISE = (INFINITE, *SMOOTH)


def over(name: str, inputs: tuple, *arguments: tuple, first: tuple = ()) -> list[Layer]:
    """Return the rows of a class: the default (or ``first``) with all inputs, other arguments with two inputs."""
    rows = [(maker, *first) for maker in inputs]
    rows += [(maker, *each) for each in arguments for maker in (KINKS, normal((3, 4)))]
    return layers(name, *rows)


LAYERS: list[Layer] = [
    *over("ReLU", (*PIECEWISE, NAN)),
    *layers("ReLU", (WHOLE,)),
    *over("Threshold", PIECEWISE, ((-0.5, 20.0),), ((), {"threshold": 0.5, "value": -1.0}), first=((0.25, 2.0),)),
    *layers("Threshold", (WHOLE, (1.5, -2.7)), (WHOLE, (-1.5, 7.0)), (NAN, (0.0, 1.0))),
    *over("LeakyReLU", (*PIECEWISE, NAN), ((0.3,),), ((-2.0,),), ((), {"negative_slope": 0.0})),
    *over("ELU", PIECEWISE, ((2.5,),), ((-1.5,),), ((), {"alpha": 0.0})),
    *over("SELU", PIECEWISE),
    *over("CELU", PIECEWISE, ((2.5,),), ((), {"alpha": 0.375})),
    *layers("CELU", (KINKS, (0.3,))),
    *over("PReLU", (KINKS, ties(4, 5), normal((2, 3, 4)), normal(()), normal((0, 3)))),
    *layers(
        "PReLU",
        (INFINITE, (), {}, {}, None, {"modes": ("eval",)}),
        (normal((2, 3)), (3,)),
        (ties(2, 3, 4), (3,), {"init": 0.5}),
        (normal((2, 3, 2, 2)), (3, 0.1)),
        (normal((2, 1, 2)), (1,)),
        (normal((4,)), (1, -0.5)),
        (normal((0, 3, 2)), (3,)),
        (normal((2, 0)), (0,)),
    ),
    *over("RReLU", PIECEWISE, ((0.1, 0.7),), ((-1.0, 0.5),), ((), {"lower": 0.25, "upper": 0.25})),
    *over("Hardtanh", PIECEWISE, ((-3.0, 0.5),), ((0.25, 2.0),), ((), {"min_val": -6.0, "max_val": -0.5})),
    *layers("Hardtanh", (WHOLE,), (WHOLE, (-2.5, 3.7)), (given(np.arange(5, dtype=np.uint8)), (1.0, 3.0))),
    *over("ReLU6", PIECEWISE),
    *layers("ReLU6", (WHOLE,), (given(np.arange(9, dtype=np.uint8)),)),
    *over("Hardsigmoid", (*PIECEWISE, NAN)),
    *over("Hardswish", PIECEWISE),
    *over("Hardshrink", PIECEWISE, ((1.0,),), ((0.0,),), ((), {"lambd": -1.0})),
    *over("Softshrink", PIECEWISE, ((1.0,),), ((), {"lambd": 0.0})),
    *over("Sigmoid", PIECEWISE),
    *over("Tanh", PIECEWISE),
    *over("Tanhshrink", PIECEWISE),
    *over("Softsign", SMOOTH),
    *over("LogSigmoid", PIECEWISE),
    *over("Softplus", PIECEWISE, ((2.0,),), ((0.5, 6.0),), ((-1.0,),), ((), {"beta": 3.0, "threshold": 1.5})),
    *layers("Softplus", (normal((3, 4)), (1.0, 1000.0))),
    *over("SiLU", SMOOTH),
    *over("Mish", SMOOTH),
    *over("GELU", SMOOTH, (("tanh",),), ((), {"approximate": "none"})),
    *layers(
        "GLU",
        (normal((3, 4)),),
        (normal((4,)), (0,)),
        (normal((4, 3)), (0,)),
        (normal((2, 6, 3)), (), {"dim": 1}),
        (normal((2, 6, 3)), (-2,)),
        (normal((0, 4)),),
        (normal((2, 0)),),
        (given(np.array([[-800.0, 1e-3, 800.0, 3.0, -800.0, 800.0]])),),
    ),
]

ROWS = {"row": normal((4, 5)), "ties": ties(3, 4), "large": given(np.array([[800.0, -800.0, 799.0, 0.0]]))}
MASKED = {"Softmin": np.inf, "Softmax": -np.inf, "LogSoftmax": -np.inf}
LAYERS += [
    row
    for name in MASKED
    for row in layers(
        name,
        *((maker, (1,)) for maker in ROWS.values()),
        (normal((4, 5)), (0,)),
        (normal((2, 3, 4)), (), {"dim": -2}),
        (normal((2, 3, 4)), (-3,)),
        (normal((2, 3, 4, 2)), (1,)),
        (normal((5,)), (0,)),
        (normal(()), (0,)),
        (normal(()), (-1,)),
        (normal((0, 3)), (1,)),
        (normal((2, 0)), (1,)),
        (normal((3, 1)), (1,)),
        (given(np.array([[MASKED[name], 0.0, 1.0], [MASKED[name], MASKED[name], 2.0]])), (1,)),
    )
]
LAYERS += layers(
    "Softmax2d", (normal((2, 3, 2, 2)),), (normal((3, 2, 4)),), (ties(1, 4, 2, 1),), (normal((0, 3, 2, 2)),)
)


def targets(*shape: int, classes: int = 10):
    return lambda rng: rng.integers(0, classes, shape)


def examples(target: np.ndarray, features: int = 8):
    """Return random inputs for the targets."""
    target = np.asarray(target)
    return lambda rng: (rng.normal(size=(*target.shape, features)), target)


EVERY = np.array([0, 1, 2, 3, 5, 6, 9, 4, 2])
LAYERS += layers(
    "AdaptiveLogSoftmaxWithLoss",
    (examples(EVERY), (8, 10, [3, 6]), {"div_value": 2.0}),
    (examples(EVERY), (8, 10, (3, 6), 2.0, True)),
    (examples(EVERY), (8, 10, [1, 2, 3, 9]), {"div_value": 1.5}),
    (examples(EVERY), (8, 10, [9])),
    (examples(EVERY), (8, 10), {"cutoffs": [5], "head_bias": True}),
    (examples(EVERY), (8, 10, [3]), {"div_value": 0.5}),
    (examples(np.array([0, 1, 2])), (8, 10, [3, 6]), {"div_value": 2.0}),
    (examples(np.array([7, 8])), (8, 10, [3, 6]), {"div_value": 2.0}),
    (examples(np.array([4])), (8, 10, [3, 6]), {"div_value": 2.0}),
    (examples(np.array(4)), (8, 10, [3, 6]), {"div_value": 2.0}),
    (examples(np.array(0)), (8, 10, [3, 7]), {"div_value": 2.0}),
    (examples(np.zeros(0, np.int64)), (8, 10, [3, 6]), {"div_value": 2.0}),
    (examples(EVERY.astype(np.int32)), (8, 10, [3, 6]), {"div_value": 2.0}),
)

FUNCTIONS: list[Function] = [
    *functions(
        "softmax",
        (normal((2, 3)), {"dim": 1, "_stacklevel": 5}),
    ),
    *functions(
        "prelu", (lambda rng: (rng.normal(size=(2, 3)), rng.normal(size=())),), (given(np.array(-2.0), np.array(0.3)),)
    ),
    *functions("hardtanh", (normal((4,)), {"min_val": 0.5, "max_val": 0.5})),
    *functions("rrelu", (normal((4,)), {"lower": 0.2, "upper": 0.4})),
    *functions("threshold", (normal((4,)), {"threshold": 0.1, "value": 5.0})),
    *functions("glu", (normal((4, 3)), {"dim": 0})),
    *functions("gelu", (normal((4,)), {"approximate": "tanh"})),
    *functions("softplus", (normal((4,)), {"beta": 2.0, "threshold": 1.0})),
]

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
FLOATS = st.floats(-3, 3, width=16)


def sweep(name: str, **kwargs: st.SearchStrategy) -> Sweep:
    """Draw shapes and keyword arguments of a class."""
    return Sweep(
        name, st.builds(lambda shape, kw: Layer(name, normal(shape), (), kw), SHAPES, st.fixed_dictionaries(kwargs))
    )


@st.composite
def _softmaxes(draw: st.DrawFn, name: str) -> Layer:
    shape = draw(SHAPES)
    axes = max(len(shape), 1)
    return Layer(name, normal(shape), (draw(st.integers(-axes, axes - 1)),))


@st.composite
def _glus(draw: st.DrawFn) -> Layer:
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    dim = draw(st.integers(-len(shape), len(shape) - 1))
    shape[dim] *= 2
    return Layer("GLU", normal(tuple(shape)), (dim,))


@st.composite
def _adaptive(draw: st.DrawFn) -> Layer:
    classes = draw(st.integers(3, 12))
    cutoffs = sorted(draw(st.sets(st.integers(1, classes - 1), min_size=1, max_size=3)))
    target = np.array(draw(st.lists(st.integers(0, classes - 1), max_size=5)), np.int64)
    arguments = {"div_value": draw(st.sampled_from([1.0, 1.5, 2.0])), "head_bias": draw(st.booleans())}
    return Layer("AdaptiveLogSoftmaxWithLoss", examples(target), (8, classes, cutoffs), arguments)


SWEEPS: list[Sweep] = [
    sweep("LeakyReLU", negative_slope=FLOATS),
    sweep("ELU", alpha=FLOATS),
    sweep("CELU", alpha=st.floats(0.125, 3, width=16)),
    sweep("Threshold", threshold=FLOATS, value=FLOATS),
    sweep("Hardshrink", lambd=FLOATS),
    sweep("Softshrink", lambd=st.floats(0, 3, width=16)),
    sweep("Softplus", beta=st.floats(0.125, 3, width=16), threshold=st.floats(0, 30, width=16)),
    sweep("GELU", approximate=st.sampled_from(["none", "tanh"])),
    Sweep("Softmax", _softmaxes("Softmax")),
    Sweep("LogSoftmax", _softmaxes("LogSoftmax")),
    Sweep("GLU", _glus()),
    Sweep("AdaptiveLogSoftmaxWithLoss", _adaptive(), examples=6),
]

FRACTIONLESS = given(np.array([1, 2]))
COMPLEX = given(np.array([1j]))
TRUTH = given(np.array([True]))
NEED_FLOATS = (
    "ELU", "SELU", "CELU", "LeakyReLU", "RReLU", "Hardsigmoid", "Hardswish", "Hardshrink", "Softshrink", "LogSigmoid",
    "Softplus", "Mish", "GELU", "GLU",
)  # fmt: skip

REJECTED: list[Rejected] = [
    row
    for name in NEED_FLOATS
    for row in rejected(
        name,
        ((), {}, FRACTIONLESS, "got one of dtype int"),
        ((), {}, TRUTH if name != "GLU" else given(np.array([True, False])), "got one of dtype bool"),
        ((), {}, COMPLEX if name != "GLU" else given(np.array([1j, 2j])), "got one of dtype complex"),
    )
]
REJECTED += [
    row
    for name in MASKED
    for row in rejected(
        name,
        ((2,), {}, (3, 4), "dim must be between -2 and 1, got 2"),
        ((-3,), {}, (3, 4), "dim must be between -2 and 1, got -3"),
        ((1,), {}, (), "dim must be between -1 and 0, got 1"),
        (("a",), {}, (3, 4), "'str'"),
        ((1.0,), {}, (3, 4), "'float'"),
        ((0,), {}, FRACTIONLESS, "dtype int"),
        ((0,), {}, TRUTH, "dtype bool"),
        ((0,), {}, COMPLEX, "dtype complex"),
    )
]
REJECTED += [
    *rejected("ReLU", ((), {}, TRUTH, "dtype bool"), ((), {}, COMPLEX, "dtype complex")),
    *rejected("Threshold", ((1.0, 2.0), {}, TRUTH, "dtype bool"), ((1.0, 2.0), {}, COMPLEX, "dtype complex")),
    *rejected(
        "Hardtanh",
        ((1.0, 1.0), {}, None, r"max_val=1.0 must be larger than min_val=1.0"),
        ((2.0, 1.0), {}, None, r"max_val=1.0 must be larger than min_val=2.0"),
        ((), {}, TRUTH, "dtype bool"),
        ((), {}, COMPLEX, "dtype complex"),
        ((), {}, given(np.array([1], np.uint8)), "dtype uint8 allows no negative bounds, got -1.0"),
    ),
    *rejected("hardtanh", ((), {"min_val": 2.0, "max_val": 1.0}, (3,), "got 2.0 and 1.0")),
    *rejected("ReLU6", ((), {}, TRUTH, "dtype bool"), ((), {}, COMPLEX, "dtype complex")),
    *rejected("Tanhshrink", ((), {}, TRUTH, "dtype bool")),
    *rejected("Softsign", ((), {}, TRUTH, "dtype bool")),
    *rejected("SiLU", ((), {}, TRUTH, "dtype bool"), ((), {}, FRACTIONLESS, "dtype int")),
    *rejected("CELU", ((0.0,), {}, (3,), "alpha must not be 0, got 0.0")),
    *rejected("Softshrink", ((-1.0,), {}, (3,), "lambd must not be negative, got -1.0")),
    *rejected("GELU", (("sigmoid",), {}, (3,), "got 'sigmoid'")),
    *rejected(
        "GLU",
        ((), {}, (3,), r"even size, got an input of shape \(3,\)"),
        ((), {}, (), r"got an input of shape \(\)"),
        ((2,), {}, (4, 4), "dim must be between -2 and 1, got 2"),
    ),
    *rejected(
        "PReLU",
        ((-1,), {}, None, "num_parameters must not be negative, got -1"),
        ((3,), {}, (2, 4), "for each of the 4 channels .* got 3"),
        ((3,), {}, (3,), "for each of the 1 channels .* got 3"),
        ((3,), {}, (), "got 3"),
        ((), {}, FRACTIONLESS, "dtype float32, that of the weight, got int"),
    ),
    *rejected("prelu", ((), {}, given(np.ones((2, 3)), np.ones((1, 3))), r"got the shape \(1, 3\)")),
    *rejected("prelu", ((), {}, given(np.array([1, 2]), np.array([1])), "dtype int")),
    *rejected(
        "RReLU",
        ((0.5, 0.1), {}, (3,), "got lower=0.5 and upper=0.1"),
        ((0.5, np.inf), {}, (3,), "got lower=0.5 and upper=inf"),
        ((-np.inf, 0.5), {}, (3,), "got lower=-inf and upper=0.5"),
    ),
    *rejected(
        "Softmax2d",
        ((), {}, (3, 4), "expected 3D or 4D input, got 2D"),
        ((), {}, (1, 1, 1, 1, 1), "expected 3D or 4D input, got 5D"),
    ),
    *rejected(
        "AdaptiveLogSoftmaxWithLoss",
        ((8, 10, []), {}, None, r"at least one cutoff, got \[\]"),
        ((8, 10, [3, 3]), {}, None, r"= 9, got \[3, 3\]"),
        ((8, 10, [6, 3]), {}, None, r"= 9, got \[6, 3\]"),
        ((8, 10, [0, 3]), {}, None, r"= 9, got \[0, 3\]"),
        ((8, 10, [3, 10]), {}, None, r"= 9, got \[3, 10\]"),
        ((8, 10, [3.5]), {}, None, r"= 9, got \[3.5\]"),
        ((8, 10, [3.0]), {}, None, "'float'"),
        ((8, 10, 5), {}, None, "'int'"),
        ((-1, 10, [3]), {}, None, "in_features must not be negative, got -1"),
        ((8, 10, [3], 0.0), {}, None, "div_value must not be 0, got 0.0"),
        ((8, 10, [3], -2.0), {}, None, "got -4"),
        ((8, 10, [3]), {}, given(np.ones((2, 8)), np.array([1, 10])), "between 0 and 9, got some between 1 and 10"),
        ((8, 10, [3]), {}, given(np.ones((2, 8)), np.array([-1, 1])), "between 0 and 9, got some between -1 and 1"),
        ((8, 10, [3]), {}, given(np.ones(8), np.array(11)), "between 0 and 9, got some between 11 and 11"),
        ((8, 10, [3]), {}, given(np.ones((2, 8)), np.array([1])), r"got the shapes \(2, 8\) and \(1,\)"),
        ((8, 10, [3]), {}, given(np.ones((2, 8)), np.array(1)), r"got the shapes \(2, 8\) and \(\)"),
        ((8, 10, [3]), {}, given(np.ones((2, 8, 1)), np.array([1, 2])), r"got the shapes \(2, 8, 1\)"),
        ((8, 10, [3]), {}, given(np.ones((2, 8)), np.array([[1], [2]])), r"and \(2, 1\)"),
        ((8, 10, [3]), {}, given(np.ones((2, 7)), np.array([1, 2])), r"got an input of shape \(2, 7\)"),
        ((8, 10, [3]), {}, given(np.ones((2, 8)), Constant(np.ones(2))), "got dtype float32"),
        ((8, 10, [3]), {}, given(np.ones((2, 8)), np.ones(2, np.uint8)), "got dtype uint8"),
    ),
]
