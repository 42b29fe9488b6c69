"""Cases of losses of scores and embeddings with a margin."""

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cases.common import Function, Layer, Rejected, Sweep, given, layers, normal, rejected, then
from cases.losses_common import classes, fixed, joined, legacy, quiet, shapes, signs
from flaxnets.parity import Constant

nan, inf = math.nan, math.inf
NONE = {"reduction": "none"}
SUM = {"reduction": "sum"}
SCORES = joined(normal((4, 5)), classes((4,), 5))
LABELS = joined(normal((4, 5)), classes((4, 5), 5, low=-1))
TRIPLET = normal((4, 3), (4, 3), (4, 3))
VECTORS = joined(normal((4, 3), (4, 3)), signs((4,)))
# Equal vectors, a zero difference, and ties of the largest difference. The values are exact with eps=0.
KINKS = given(
    [[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.0, -1.0, 1.0]],
    [[1.0, 2.0, 2.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]],
    [[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.5, -1.0, 1.0]],
)
NORMS = (0, 0.5, 1.0, 1.5, 2.0, 3, inf, -inf, -1.0)


def chebyshev(a: Any, b: Any) -> Any:
    return abs(a - b).sum(-1) ** 2


LAYERS: list[Layer] = [
    *layers(
        "HingeEmbeddingLoss",
        (joined(normal((3, 4)), signs((3, 4))),),
        (joined(normal((3, 4)), signs((3, 4))), (0.2, None, None, "none")),
        (joined(normal((3, 4)), signs((3, 4))), (), {"margin": -0.5, **SUM}),
        (joined(normal((3, 4)), signs((4,))), (2,)),
        (joined(normal((4,)), signs((3, 1))), (), NONE),
        (joined(normal((3, 4)), lambda rng: (rng.choice([-1, 1], (3, 4)),)),),
        (given([0.0, 1.0, 2.0, nan, -inf, 0.5, 0.5, inf], [1.0, -1.0, -1.0, -1.0, -1.0, 0.0, 2.0, 1.0]), (), NONE),
        (joined(normal(()), signs(())),),
        (joined(normal((0, 3)), signs((0, 3))),),
    ),
    Layer(
        "HingeEmbeddingLoss", normal((2,), (2,)), build=lambda nn, **_: quiet(nn.HingeEmbeddingLoss, 1.0, False, True)
    ),
    *layers(
        "MarginRankingLoss",
        (joined(normal((5,), (5,)), signs((5,))),),
        (joined(normal((3, 4), (3, 4)), signs((3, 4))), (0.5, None, None, "none")),
        (joined(normal((3, 4), (3, 4)), signs((3, 4))), (), {"margin": -0.5, **SUM}),
        (joined(normal((3, 1), (1, 4)), signs((1, 4))), (), NONE),
        (normal((3, 2), (3, 2), (3, 2)), (0.1,)),
        (joined(normal((3,), (3,)), lambda rng: (rng.choice([-1, 1], 3),)),),
        (given([0.0, 1.0, 2.0], [0.5, 0.5, 3.0], [1.0, 1.0, 1.0]), (), {"margin": 0.5, **NONE}),
        (joined(normal((), ()), signs(())),),
        (joined(normal((0,), (0,)), signs((0,))),),
    ),
    Layer(
        "MarginRankingLoss",
        normal((2,), (2,), (2,)),
        build=lambda nn, **_: quiet(nn.MarginRankingLoss, 0.3, None, False),
    ),
    *layers(
        "MultiMarginLoss",
        (SCORES,),
        (SCORES, (2,)),
        (SCORES, (1, 0.3, np.ones(5), None, None, "none")),
        (SCORES, (2, 2.0, np.zeros(5))),
        (SCORES, (), {"weight": np.ones(5), **SUM}),
        (SCORES, (), {"margin": -0.2, **NONE}),
        (SCORES, (), {"p": 2, "margin": 0, **NONE}),
        (joined(normal((5,)), fixed(3)),),
        (joined(normal((5,)), fixed([3])), (), NONE),
        (joined(normal((5,)), fixed(2)), (2,), {"weight": np.ones(5), **NONE}),
        (joined(normal((1, 5)), fixed(1)), (), NONE),
        (joined(normal(()), fixed(0)),),
        (joined(normal((3, 1)), fixed([0, 0, 0])),),
        (given([[1.0, 0.0, 2.0], [nan, 0.0, 0.0], [0.0, nan, inf]], np.array([0, 0, 0])), (), NONE),
        (given([[1.0, 0.0, 2.0], [0.5, 0.5, -0.5]], np.array([0, 1])), (2,), NONE),
        (given(np.zeros((0, 5)), np.zeros(0, np.int64)), (), NONE),
    ),
    Layer("MultiMarginLoss", SCORES, build=lambda nn, **_: quiet(nn.MultiMarginLoss, 1, 1.0, None, False, True)),
    *layers(
        "MultiLabelMarginLoss",
        (LABELS,),
        (LABELS, (None, None, "none")),
        (LABELS, (), SUM),
        (joined(normal((5,)), fixed([3, 0, -1, 1, 4])), (), NONE),
        (joined(normal((3,)), fixed([0, 0, -1])), (), NONE),
        (joined(normal((2, 3)), fixed([[-1, 1, 2], [2, 1, 0]])), (), NONE),
        (joined(normal(()), fixed(0)),),
        (joined(normal(()), fixed([0])),),
        (joined(normal((1,)), fixed(0)),),
        (joined(normal((2, 1)), fixed([[0], [-1]])),),
        (
            given(
                [[1.0, 0.0, 2.0], [nan, 0.0, 0.0], [0.0, nan, inf]],
                np.array([[0, -1, 0], [0, 2, -1], [1, -1, -1]]),
            ),
            (),
            NONE,
        ),
        (given(np.zeros((0, 3)), np.zeros((0, 3), np.int64)), (), NONE),
    ),
    Layer("MultiLabelMarginLoss", LABELS, build=lambda nn, **_: quiet(nn.MultiLabelMarginLoss, False)),
    *layers(
        "CosineEmbeddingLoss",
        (VECTORS,),
        (VECTORS, (0.3, None, None, "none")),
        (VECTORS, (), {"margin": -0.5, **SUM}),
        (joined(normal((3,), (3,)), fixed(1)),),
        (joined(normal((3,), (3,)), fixed(-1.0, constant=True)), (), NONE),
        (joined(normal((4, 3), (4, 3)), lambda rng: (rng.choice([-1, 1], 4),)),),
        (joined(normal((1, 3), (4, 3)), signs((4,))), (), NONE),
        (joined(normal((4, 3), (4, 3)), signs((1,))), (), NONE),
        (joined(normal((4, 3), (4, 1)), signs((4,))),),
        (
            given(
                [[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [1.0, 0.0], [2.0, 1.0]],
                [[1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [1.0, 0.0], [1.0, 2.0]],
                [1.0, -1.0, 0.0, -1.0, 2.0],
            ),
            (),
            NONE,
        ),
        (joined(normal((0, 3), (0, 3)), signs((0,))),),
        (joined(normal((2, 0), (2, 0)), signs((2,))), (), NONE),
    ),
    Layer("CosineEmbeddingLoss", VECTORS, build=lambda nn, **_: quiet(nn.CosineEmbeddingLoss, 0.1, None, False)),
    *layers(
        "TripletMarginLoss",
        (TRIPLET,),
        (TRIPLET, (0.5, 1, 1e-3, True, None, None, "none")),
        (TRIPLET, (), {"swap": True, **SUM}),
        (TRIPLET, (), {"margin": 10, "eps": 0.1}),
        *[(TRIPLET, (3.0,), {"p": p, **NONE}) for p in NORMS],
        *[(KINKS, (), {"p": p, "eps": 0.0, **NONE}) for p in NORMS],
        (given([[0.0, 0.0]], [[0.0, 0.0]], [[0.5, 0.0]]), (), {"swap": True, "eps": 0.0}),
        (given([[0.0, 0.0]], [[0.0, 1.0]], [[2.0, 0.0]]), (), {"eps": 0.0}),
        (normal((3,), (3,), (3,)),),
        (normal((2, 4, 3), (2, 4, 3), (2, 4, 3)), (), {"swap": True, **NONE}),
        (normal((4, 3), (1, 3), (4, 1)), (), {"swap": True, **NONE}),
        (normal((), (), ()), (), NONE),
        (normal((0, 3), (0, 3), (0, 3)),),
        (normal((2, 0), (2, 0), (2, 0)), (), NONE),
    ),
    Layer(
        "TripletMarginLoss", TRIPLET, build=lambda nn, **_: quiet(nn.TripletMarginLoss, 1.0, 2.0, 1e-6, False, False)
    ),
    *layers(
        "TripletMarginWithDistanceLoss",
        (TRIPLET,),
        (TRIPLET, (), {"distance_function": chebyshev}),
        (TRIPLET, (), {"distance_function": chebyshev, "swap": True, "margin": 9.0, **NONE}),
        (TRIPLET, (), {"swap": True, **SUM}),
        (TRIPLET, (), {"margin": 0.1, **NONE}),
        (normal((3,), (3,), (3,)),),
        (normal((2, 4, 3), (2, 4, 3), (2, 4, 3)), (), NONE),
        (normal((0, 3), (0, 3), (0, 3)),),
        (normal((4, 3), (1, 3), (4, 1)), (), {"swap": True, **NONE}),
    ),
]

NOT_FINITE: list[Layer] = [
    *layers(
        "MarginRankingLoss",
        (given([0.0, 1.0, 2.0, nan], [0.5, 0.5, 3.0, 1.0], [1.0, 1.0, 1.0, 1.0]), (), {"margin": 0.5, **NONE}),
    ),
    *layers(
        "CosineEmbeddingLoss",
        (given([[0.0, 0.0], [1.0, nan], [inf, 1.0]], [[0.0, 0.0], [0.0, 1.0], [3.0, 4.0]], [1.0, -1.0, 1.0]), (), NONE),
    ),
    *layers(
        "TripletMarginLoss",
        (given([[nan, 2.0], [inf, 1.0]], [[1.0, 2.0], [1.0, 1.0]], [[3.0, 2.0], [0.0, 0.0]]), (), NONE),
    ),
]

FUNCTIONS: list[Function] = [
    *legacy("hinge_embedding_loss", joined(normal((4,)), signs((4,))), margin=0.5),
    *legacy("margin_ranking_loss", joined(normal((4,), (4,)), signs((4,))), margin=0.5),
    *legacy("multi_margin_loss", SCORES, p=2),
    *legacy("multilabel_margin_loss", LABELS),
    *legacy("cosine_embedding_loss", VECTORS, margin=0.2),
    *legacy("triplet_margin_loss", TRIPLET, swap=True),
    Function("multi_margin_loss", then(SCORES, 1, 1.0, Constant(np.array([0.0, -1.0, 2.0, 1.0, 0.5])))),
    Function("triplet_margin_with_distance_loss", TRIPLET),
    Function("triplet_margin_with_distance_loss", TRIPLET, {"distance_function": chebyshev, "swap": True}),
]


@st.composite
def _hinge(draw: st.DrawFn) -> Layer:
    shape = draw(shapes)
    kwargs = {"reduction": draw(st.sampled_from(["none", "mean", "sum"])), "margin": draw(st.floats(-1, 3))}
    return Layer("HingeEmbeddingLoss", joined(normal(shape), signs(shape)), kwargs=kwargs)


@st.composite
def _multi_margin(draw: st.DrawFn) -> Layer:
    batch, count = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    kwargs: dict[str, Any] = {"p": draw(st.sampled_from([1, 2])), "margin": draw(st.floats(-1, 3))}
    if draw(st.booleans()):
        kwargs["weight"] = np.ones(count)
    return Layer("MultiMarginLoss", joined(normal((batch, count)), classes((batch,), count)), kwargs=kwargs)


@st.composite
def _multilabel(draw: st.DrawFn) -> Layer:
    batch, count = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    inputs = joined(normal((batch, count)), classes((batch, count), count, low=-1))
    return Layer("MultiLabelMarginLoss", inputs, kwargs={"reduction": draw(st.sampled_from(["none", "mean", "sum"]))})


@st.composite
def _triplet(draw: st.DrawFn) -> Layer:
    shape = (*draw(shapes), draw(st.integers(1, 4)))
    kwargs = {"p": draw(st.floats(0.5, 4)), "swap": draw(st.booleans()), "margin": draw(st.floats(0.1, 3))}
    return Layer("TripletMarginLoss", normal(shape, shape, shape), kwargs=kwargs)


SWEEPS: list[Sweep] = [
    Sweep("HingeEmbeddingLoss", _hinge()),
    Sweep("MultiMarginLoss", _multi_margin()),
    Sweep("MultiLabelMarginLoss", _multilabel()),
    Sweep("TripletMarginLoss", _triplet()),
]

TRIPLETS = [
    ((), {"margin": 0}, None, "margin must be greater than 0, got 0"),
    ((), {"margin": -1.5}, None, "greater than 0, got -1.5"),
    ((), {"reduction": "avg"}, TRIPLET, "got 'avg'"),
    ((), {}, normal((4, 3), (4, 3), (3,)), r"same number of axes, got the shapes \(4, 3\), \(4, 3\) and \(3,\)"),
    ((), {}, normal((4, 3), (4, 3), (4, 5)), r"\(4, 3\) and \(4, 5\)"),
    ((), {}, normal((4, 3), (5, 3), (4, 3)), r"\(4, 3\) and \(5, 3\)"),
]

REJECTED: list[Rejected] = [
    *rejected(
        "HingeEmbeddingLoss",
        ((), {"reduction": "avg"}, normal((2,), (2,)), "got 'avg'"),
        ((), {}, normal((2, 3), (2, 4)), r"\(2, 3\), \(2, 4\)"),
        ((), {}, given(np.ones(2, np.int64), np.ones(2, np.int64)), "got int"),
    ),
    *rejected(
        "MarginRankingLoss",
        ((), {"reduction": "avg"}, normal((2,), (2,), (2,)), "got 'avg'"),
        ((), {}, normal((3,), (3,), (3, 1)), r"\(3,\), \(3,\) and \(3, 1\)"),
        ((), {}, normal((3, 1), (3,), (3,)), r"\(3, 1\), \(3,\) and \(3,\)"),
        ((), {}, normal((3,), (3,), ()), r"\(3,\), \(3,\) and \(\)"),
        ((), {}, normal((3,), (2,), (3,)), r"\(3,\), \(2,\), \(3,\)"),
    ),
    *rejected(
        "MultiMarginLoss",
        ((3,), {}, None, "p must be 1 or 2, got 3"),
        ((), {"weight": np.ones((1, 5))}, None, r"weight must have one axis, got the shape \(1, 5\)"),
        ((), {"weight": np.ones(4)}, SCORES, r"weight must have the shape \(5,\), got \(4,\)"),
        ((), {"reduction": "avg"}, SCORES, "got 'avg'"),
        ((), {}, joined(normal((2, 3)), fixed([0, 3])), r"targets must be in \[0, 3\), got 3"),
        ((), {}, joined(normal((2, 3)), fixed([0, -1])), "got -1"),
        ((), {}, joined(normal((2, 3)), fixed([0, 1, 1])), r"shape \(2,\) .* got \(3,\)"),
        ((), {}, joined(normal((2, 3)), fixed([[0], [1]])), r"got \(2, 1\)"),
        ((), {}, joined(normal((3,)), fixed([0, 1])), r"got \(2,\)"),
        ((), {}, joined(normal((2, 3, 4)), fixed([0, 1])), r"expected an input of shape .* got \(2, 3, 4\)"),
        ((), {}, joined(normal((2, 0)), fixed([0, 0])), r"got \(2, 0\)"),
        ((), {}, normal((2, 3), (2,)), "expected class indices .* got float32"),
    ),
    *rejected(
        "multi_margin_loss",
        ((), {"p": 0}, SCORES, "got 0"),
        ((), {}, then(SCORES, 1, 1.0, np.ones((5, 1))), r"got the shape \(5, 1\)"),
    ),
    *rejected(
        "MultiLabelMarginLoss",
        ((), {"reduction": "avg"}, LABELS, "got 'avg'"),
        ((), {}, joined(normal((1, 3)), fixed([[0, 3, -1]])), r"targets must be in \[-1, 3\), got 3"),
        ((), {}, joined(normal((1, 3)), fixed([[0, -2, -1]])), "got -2"),
        ((), {}, joined(normal((2, 3)), fixed([[0, 1], [0, 1]])), r"the input's shape \(2, 3\), got \(2, 2\)"),
        ((), {}, joined(normal((3,)), fixed([[0, 1, 2]])), r"the input's shape \(3,\), got \(1, 3\)"),
        ((), {}, joined(normal((1, 3)), fixed([0, 1, 2])), r"got \(3,\)"),
        ((), {}, joined(normal((2, 3, 1)), fixed(np.zeros((2, 3, 1), int))), r"got \(2, 3, 1\)"),
        ((), {}, joined(normal((2, 0)), fixed(np.zeros((2, 0), int))), r"got \(2, 0\)"),
        ((), {}, joined(normal((0,)), fixed(np.zeros(0, int))), r"got \(0,\)"),
        ((), {}, normal((2, 3), (2, 3)), "expected class indices .* got float32"),
    ),
    *rejected(
        "CosineEmbeddingLoss",
        ((), {"reduction": "avg"}, VECTORS, "got 'avg'"),
        ((), {}, normal((3, 2), (3, 2), (3, 2)), r"got the shapes \(3, 2\), \(3, 2\) and \(3, 2\)"),
        ((), {}, normal((3,), (3,), (3,)), r"\(3,\), \(3,\) and \(3,\)"),
        ((), {}, normal((3, 2), (3, 2), ()), r"\(3, 2\), \(3, 2\) and \(\)"),
        ((), {}, normal((3, 2, 1), (3, 2, 1), (3,)), r"\(3, 2, 1\), \(3, 2, 1\) and \(3,\)"),
        ((), {}, normal((3, 2), (2,), (3,)), r"\(3, 2\), \(2,\) and \(3,\)"),
        ((), {}, normal((3, 2), (3, 4), (3,)), r"\(3, 2\), \(3, 4\)"),
        ((), {}, normal((3, 2), (3, 2), (2,)), r"\(3,\), \(2,\)"),
    ),
    *rejected(
        "TripletMarginLoss",
        *TRIPLETS,
        ((), {"p": inf}, normal((2, 0), (2, 0), (2, 0)), r"\(2, 0\)"),
    ),
    *rejected("TripletMarginWithDistanceLoss", *TRIPLETS),
    *rejected("triplet_margin_loss", ((), {"margin": 0.0}, TRIPLET, "got 0.0")),
    *rejected("triplet_margin_with_distance_loss", ((), {"margin": -2.0}, TRIPLET, "got -2.0")),
]
