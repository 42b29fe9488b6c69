"""Cases of losses with one target class."""

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import flaxnets.nn as flax_nn
from cases.common import Function, Layer, Maker, Rejected, Sweep, given, layers, normal, rejected, then
from cases.losses_common import fixed, joined, legacy, probabilities, quiet, uniform, warned
from flaxnets.parity import Constant

nan, inf = math.nan, math.inf
NONE = {"reduction": "none"}
SUM = {"reduction": "sum"}


def logits(*shape: int, ignored: int = 0, index: int = -100) -> Maker:
    """Draw logits and class indices. The first ``ignored`` targets are ``index``."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        rest = shape[:1] + shape[2:] if len(shape) > 1 else ()
        target = np.asarray(rng.integers(0, shape[min(len(shape) - 1, 1)], rest))
        target.reshape(-1)[:ignored] = index
        return rng.normal(size=shape), target

    return make


def soft(*shape: int) -> Maker:
    """Draw logits and class probabilities."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        axis = min(len(shape) - 1, 1)
        target = rng.random(shape)
        return rng.normal(size=shape), target / target.sum(axis, keepdims=True)

    return make


def empty(*shape: int) -> Maker:
    return given(np.zeros(shape), np.zeros(shape[:1] + shape[2:], np.int64))


def images(*shape: int) -> Maker:
    """Return the inputs of NLLLoss2d. torch warns each time that the harness copies this layer."""
    return warned(logits(*shape), "`NLLLoss2d`")


FIVE = np.ones(5)
USUAL = [
    (logits(3, 5),),
    (logits(3, 5), (), NONE),
    (logits(3, 5), (), SUM),
    (logits(3, 5), (FIVE,)),
    (logits(3, 5), (FIVE, None, 2, None, "sum")),
    (logits(3, 5), (), {"weight": FIVE, **NONE}),
    (logits(4, 5, ignored=2),),
    (logits(4, 5, ignored=2), (FIVE,)),
    (logits(4, 5, ignored=2, index=-1), (), {"ignore_index": -1, **NONE}),
    (logits(4, 5, ignored=2, index=3), (), {"ignore_index": 3}),
    (logits(4, 5, ignored=2, index=9), (FIVE,), {"ignore_index": 9}),
    (logits(2, 5, ignored=2),),
    (logits(2, 5, ignored=2), (FIVE,), SUM),
    (logits(5),),
    (logits(5), (FIVE,), NONE),
    (given(Constant(np.arange(5.0)), np.array([3])), (), NONE),  # torch cannot differentiate this case
    (logits(2, 3, 4),),
    (logits(2, 5, 4, ignored=3), (FIVE,), NONE),
    (logits(2, 3, 2, 4), (), NONE),
    (logits(2, 5, 2, 4, ignored=3), (FIVE,)),
    (logits(2, 5, 2, 2, ignored=8), (FIVE,)),
    (logits(2, 5, 2, 2, ignored=8), (), SUM),
    (logits(2, 5, 2, 1, 3, ignored=3), (FIVE,), SUM),
    (then(normal((3, 5)), np.array([4, 0, 2], np.uint8)),),
    (empty(0, 5),),
    (empty(0, 5), (), NONE),
    (empty(0, 5), (), SUM),
    (empty(0, 5, 3),),
    (empty(2, 5, 0),),
    (empty(0, 5, 3, 2), (FIVE,), SUM),
    (logits(1, 1),),
]
SMOOTH = {"label_smoothing": 0.1}

# The type of the chunk options of linear_cross_entropy.
Options = dict[str, Any]


def linear_loss(options: Options, *args: Any, **kwargs: Any) -> Any:
    """Return a function that builds LinearCrossEntropyLoss of torch or flaxnets with these options."""

    def build(nn: Any, **rngs: Any) -> Any:
        weight = kwargs.get("weight")
        if weight is not None:
            given_weight = {"weight": weight.astype(np.float32) if nn is flax_nn else torch.tensor(weight).float()}
        else:
            given_weight = {}
        return nn.LinearCrossEntropyLoss(
            *args, **{**kwargs, **given_weight}, options=nn.LinearCrossEntropyOptions(**options), **rngs
        )

    return build


def linear(*shape: int, outputs: int = 5, ignored: int = 0, inner: tuple[int, ...] = ()) -> Maker:
    """Draw the inputs of a linear layer and class indices."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        target = np.asarray(rng.integers(0, outputs, shape[:-1] + inner))
        target.reshape(-1)[:ignored] = -100
        return rng.normal(size=shape), target

    return make


LAYERS: list[Layer] = [
    *layers("NLLLoss", *USUAL),
    Layer("NLLLoss", logits(3, 5), build=lambda nn, **_: quiet(nn.NLLLoss, None, False)),
    Layer("NLLLoss", logits(3, 5), build=lambda nn, **_: quiet(nn.NLLLoss, None, True, -100, False)),
    *layers(
        "NLLLoss",
        (given([[-inf, 0.0, nan], [nan, -1.0, -2.0]], np.array([1, -100])), (), NONE),
        (given([[-inf, 0.0, -1.0], [0.0, -1.0, -2.0]], np.array([0, 1])),),
    ),
    Layer("NLLLoss2d", images(2, 3, 2, 2), build=lambda nn, **_: quiet(nn.NLLLoss2d)),
    Layer("NLLLoss2d", images(2, 3, 2, 2), build=lambda nn, **_: quiet(nn.NLLLoss2d, None, None, 1, None, "sum")),
    Layer("NLLLoss2d", images(2, 3, 2, 2), build=lambda nn, **_: quiet(nn.NLLLoss2d, ignore_index=0, reduction="none")),
    Layer("NLLLoss2d", images(2, 3), build=lambda nn, **_: quiet(nn.NLLLoss2d, None, False, reduce=True)),
    *layers(
        "CrossEntropyLoss",
        *USUAL,
        (logits(3, 5), (None, None, -100, None, "mean", 0.2)),
        (logits(4, 5, ignored=2), (FIVE,), SMOOTH),
        (logits(4, 5, ignored=2), (), {**SMOOTH, **NONE}),
        (logits(4, 5, ignored=2), (FIVE,), {**SMOOTH, **SUM}),
        (logits(4, 5, ignored=1, index=3), (FIVE,), {**SMOOTH, "ignore_index": 3}),
        (logits(2, 5, ignored=2), (), SMOOTH),
        (logits(2, 5, ignored=2), (FIVE,), SMOOTH),
        (logits(3, 5), (), {"label_smoothing": 1.0}),
        (logits(3, 5), (), {"label_smoothing": -0.5}),
        (logits(5), (FIVE,), SMOOTH),
        (logits(5), (), {**SMOOTH, **NONE}),
        (logits(2, 5, 3, ignored=2), (FIVE,), SMOOTH),
        (logits(2, 5, 3, 2), (), {**SMOOTH, **NONE}),
        (empty(0, 5), (), SMOOTH),
        (empty(0, 5, 2), (FIVE,), {**SMOOTH, **NONE}),
        (soft(3, 5),),
        (soft(3, 5), (), NONE),
        (soft(3, 5), (), SUM),
        (soft(3, 5), (FIVE,)),
        (soft(3, 5), (FIVE,), {**SMOOTH, **NONE}),
        (soft(3, 5), (), SMOOTH),
        (soft(3, 5), (), {"label_smoothing": -0.5}),
        (soft(5), (FIVE,)),
        (soft(5), (), {**SMOOTH, **NONE}),
        (soft(2, 5, 3), (FIVE,)),
        (soft(2, 5, 2, 3), (FIVE,), NONE),
        (soft(2, 5, 2, 1, 3), (), {**SMOOTH, **SUM}),
        (given(np.zeros((0, 5)), np.zeros((0, 5))),),
        (given(np.zeros((0, 5)), np.zeros((0, 5))), (FIVE,), NONE),
        (given([[800.0, -800.0, 0.0], [-inf, 0.0, 1.0]], np.array([1, 2])), (), NONE),
        (given([[800.0, -800.0, 0.0], [-inf, 0.0, 1.0]], np.array([1, 0])),),
    ),
    Layer("CrossEntropyLoss", logits(3, 5), build=lambda nn, **_: quiet(nn.CrossEntropyLoss, None, False, 1, True)),
    *layers(
        "LinearCrossEntropyLoss",
        (linear(6, 4), (4, 5)),
        (linear(6, 4), (4, 5), {"bias": True, **NONE}),
        (linear(6, 4), (4, 5), {"bias": True, "weight": FIVE}),
        (linear(6, 4, ignored=2), (4, 5), {"weight": FIVE, **SUM}),
        (linear(6, 4), (4, 5), {"ignore_index": 2}),
        (linear(6, 4), (4, 5), {**SMOOTH, "bias": True}),
        (linear(4), (4, 5), {"bias": True, **NONE}),
        (linear(4), (4, 5)),
        (linear(3, 4, inner=(2,)), (4, 5), {"out_features": (2,)}),
        (linear(3, 4, inner=(2, 3), ignored=4), (4, 5), {"out_features": (2, 3), "bias": True, "weight": FIVE}),
        (joined(normal((3, 4)), probabilities((3, 5))), (4, 5), {"bias": True}),
        (joined(normal((4,)), probabilities((5,))), (4, 5)),
        (joined(normal((3, 4)), uniform((3, 5, 2), 0, 1)), (4, 5), {"out_features": (2,), **SMOOTH}),
        (linear(0, 4), (4, 5)),
    ),
    Layer("LinearCrossEntropyLoss", linear(6, 4), build=linear_loss({}, 4, 5)),
]

# Each row has another batch size, so that the names of the tests differ.
_CHUNKED: list[tuple[int, Options, dict[str, Any]]] = [
    (7, {"batch_chunk_size": 3}, {"bias": True}),
    (8, {"batch_chunk_size": 3}, {**NONE}),
    (9, {"batch_chunk_size": 4}, {"weight": FIVE, "bias": True, **NONE}),
    (10, {"batch_chunk_size": 20}, {**SUM}),
    (11, {"batch_chunk_size": 4, "chunking_method": None}, {"weight": FIVE}),
    (12, {"chunking_method": "aspect_ratio"}, {"ignore_index": 2}),
    (13, {"chunking_method": "aspect_ratio:4", "acc_policy": "accurate"}, {"bias": True}),
    (14, {"chunking_method": None, "acc_policy": "balanced"}, {"ignore_index": 9}),
    (15, {"acc_policy": "compact", "allow_retain_graph": True}, {"weight": FIVE, **SUM}),
]
LAYERS += [
    Layer(
        "LinearCrossEntropyLoss",
        linear(size, 4, ignored=2 * ("ignore_index" not in kwargs)),
        build=linear_loss(options, 4, 5, **kwargs),
    )
    for size, options, kwargs in _CHUNKED
]
LAYERS += [
    Layer("LinearCrossEntropyLoss", linear(4), build=linear_loss({}, 4, 5, **NONE)),
    Layer(
        "LinearCrossEntropyLoss",
        warned(linear(5, 4), "linear_cross_entropy: .*options"),
        build=linear_loss({}, 4, 5, **SMOOTH),
    ),
    Layer(
        "LinearCrossEntropyLoss",
        warned(linear(5, 4, inner=(2,)), "linear_cross_entropy: .*options"),
        build=linear_loss({}, 4, 5, out_features=(2,)),
    ),
    Layer(
        "LinearCrossEntropyLoss",
        warned(joined(normal((5, 4)), probabilities((5, 5))), "linear_cross_entropy: .*options"),
        build=linear_loss({}, 4, 5),
    ),
]


def _weighted(batch: int, *values: float) -> Maker:
    """Return logits, targets and class weights."""
    return then(logits(batch, 3), Constant(np.array(values)))


NOT_FINITE: list[Layer | Function] = [
    *layers("CrossEntropyLoss", (given([[nan, 0.0, 0.0], [1.0, 0.0, inf]], np.array([1, -100])), (), NONE)),
    Function("nll_loss", _weighted(2, 0.0, 0.0, 0.0)),
    Function("nll_loss", then(logits(2, 3, 2, 2), Constant(np.zeros(3)))),
    Function("cross_entropy", _weighted(5, 0.0, 0.0, 0.0)),
]


FUNCTIONS: list[Function] = [
    *legacy("nll_loss", logits(3, 5), ignore_index=1),
    *legacy("cross_entropy", logits(3, 5), ignore_index=1, label_smoothing=0.1),
    Function("nll_loss", _weighted(3, 0.0, 0.0, 0.0), SUM),
    Function("nll_loss", _weighted(4, -1.0, 0.5, 2.25)),
    Function("cross_entropy", _weighted(6, 0.0, 0.5, 0.0), SMOOTH),
    Function("cross_entropy", then(soft(4, 3), Constant(np.array([0.0, -1.0, 2.0])))),
    Function(
        "linear_cross_entropy", lambda rng: (rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.integers(0, 5, 3))
    ),
    Function(
        "linear_cross_entropy",
        lambda rng: (rng.normal(size=(3, 4)), rng.normal(size=(5, 2, 4)), rng.integers(0, 5, (3, 2))),
        {"linear_bias": np.full((5, 2), 0.5), "weight": Constant(np.array([0.5, 1.0, 0.0, 2.0, 1.0]))},
    ),
]


@st.composite
def _cross_entropy(draw: st.DrawFn) -> Layer:
    count = draw(st.integers(1, 6))
    shape = (draw(st.integers(1, 4)), count, *draw(st.lists(st.integers(1, 3), max_size=3)))
    kwargs: dict[str, Any] = {"reduction": draw(st.sampled_from(["none", "mean", "sum"]))}
    kwargs["label_smoothing"] = draw(st.sampled_from([0.0, 0.3]))
    if draw(st.booleans()):
        kwargs["weight"] = np.ones(count)
    return Layer("CrossEntropyLoss", (soft if draw(st.booleans()) else logits)(*shape), kwargs=kwargs)


@st.composite
def _nll(draw: st.DrawFn) -> Layer:
    count = draw(st.integers(1, 6))
    shape = (draw(st.integers(1, 4)), count, *draw(st.lists(st.integers(1, 3), max_size=3)))
    kwargs = {"reduction": draw(st.sampled_from(["none", "mean", "sum"])), "ignore_index": draw(st.integers(-1, 6))}
    return Layer("NLLLoss", logits(*shape), kwargs=kwargs)


SWEEPS: list[Sweep] = [Sweep("CrossEntropyLoss", _cross_entropy()), Sweep("NLLLoss", _nll())]


def labelled(*shape: int, target: Any) -> Maker:
    return then(normal(shape), np.array(target))


CLASSES = [
    ((), {"reduction": "avg"}, labelled(2, 3, target=[0, 1]), "got 'avg'"),
    ((), {}, labelled(2, 3, target=[0, 3]), r"targets must be in \[0, 3\), got 3"),
    ((), {}, labelled(2, 3, target=[0, -1]), "got -1"),
    ((), {}, labelled(2, 3, 2, 2, target=np.full((2, 2, 2), 7)), "got 7"),
    ((), {}, labelled(2, 3, 4, target=np.full((2, 4), 8)), "got 8"),
    ((), {}, labelled(3, target=5), "got 5"),
    ((), {}, labelled(3, target=[0, 1]), r"one target .* a target of shape \(2,\)"),
    ((), {}, labelled(3, target=[[0]]), r"one target .* a target of shape \(1, 1\)"),
    ((), {}, labelled(2, 3, target=[0, 1, 2]), r"each of the 2 examples, .* a target of shape \(3,\)"),
    ((), {}, labelled(2, 3, target=0), r"a target of shape \(\)"),
    ((), {}, labelled(2, 3, target=[[0], [1]]), r"expected a target of shape \(2,\), .* shape \(2, 1\)"),
    ((), {}, labelled(2, 3, 4, target=np.zeros((2, 5), int)), r"expected a target of shape \(2, 4\)"),
    ((), {}, labelled(2, 3, 4, 2, target=np.zeros((2, 4), int)), r"expected a target of shape \(2, 4, 2\)"),
    ((), {}, labelled(2, 3, 4, 2, target=np.zeros((2, 4, 1), int)), r"a target of shape \(2, 4, 1\)"),
    ((), {}, labelled(2, 3, 4, 2, 2, target=np.zeros((2, 4, 1, 2), int)), r"expected a target of shape \(2, 4, 2, 2\)"),
    ((), {}, labelled(2, 3, target=[0.0, 1.0]), "expected class indices .* got float32"),
    ((np.ones(2),), {}, labelled(2, 3, target=[0, 1]), r"weight must have the shape \(3,\), one per class, got \(2,\)"),
    ((np.ones((1, 3)),), {}, labelled(2, 3, target=[0, 1]), r"got \(1, 3\)"),
    ((np.ones(4),), {}, labelled(2, 3, 2, 2, target=np.zeros((2, 2, 2), int)), r"got \(4,\)"),
    ((np.ones(3, np.float16),), {}, labelled(2, 3, target=[0, 1]), "a weight of dtype float32, .* got float16"),
]

REJECTED: list[Rejected] = [
    *rejected("NLLLoss", *CLASSES, ((), {}, labelled(target=0), r"an input of shape \(\) and a target of shape \(\)")),
    *rejected(
        "CrossEntropyLoss",
        *CLASSES,
        ((), {"label_smoothing": 1.5}, labelled(2, 3, target=[0, 1]), "between 0 and 1, got 1.5"),
        ((), {"label_smoothing": 2.0}, soft(2, 3), "between 0 and 1, got 2.0"),
        ((), {"label_smoothing": 0.5}, labelled(2, 3, target=[0, 9]), "got 9"),
        ((), {"label_smoothing": 0.5}, labelled(2, 3, target=[0, 1, 1]), r"a target of shape \(3,\)"),
        ((np.ones(4),), {"label_smoothing": 0.5}, labelled(2, 3, target=[0, 1]), r"got \(4,\)"),
        ((np.ones(5),), {}, soft(2, 3), r"weight must have the shape \(3,\), one per class, got \(5,\)"),
        ((np.ones((3, 1)),), {}, soft(2, 3), r"got \(3, 1\)"),
        ((), {}, labelled(2, 3, target=np.zeros((2, 3), int)), "must be floating-point, got int"),
        ((), {"ignore_index": 1}, soft(2, 3), "not support ignore_index, got 1"),
        ((), {}, given(np.ones((2, 3), np.int64), np.array([0, 1])), "got int"),
        ((), {}, labelled(target=0), "target probabilities must be floating-point, got int"),
        ((), {}, normal((), ()), r"got the shape \(\)"),
    ),
    *rejected(
        "LinearCrossEntropyLoss",
        ((3, 4), {"weight": np.ones(3)}, None, r"weight must have the shape \(4,\), got \(3,\)"),
        ((3, 4), {"label_smoothing": 1.5}, None, "between 0 and 1, got 1.5"),
        ((3, 4), {"label_smoothing": -0.5}, None, "between 0 and 1, got -0.5"),
        ((3, 4), {"reduction": "avg"}, labelled(2, 3, target=[0, 1]), "got 'avg'"),
        ((3, 4), {}, labelled(2, 5, target=[0, 1]), r"the same size, got an input of shape \(2, 5\)"),
        ((3, 4), {}, labelled(2, 2, 3, target=[0, 1]), r"got an input of shape \(2, 2, 3\)"),
        ((3, 4), {}, labelled(2, 3, target=[0, 4]), r"targets must be in \[0, 4\), got 4"),
        ((3, 4), {}, labelled(2, 3, target=[0, 1, 1]), r"a target of shape \(3,\)"),
        ((3, 4), {"out_features": (2,)}, labelled(3, target=[0, 1]), r"require an input with a batch, .* shape \(3,\)"),
        ((3, 4), {"ignore_index": 1}, normal((2, 3), (2, 4)), "do not support ignore_index, got 1"),
    ),
    *rejected(
        "linear_cross_entropy",
        ((), {}, joined(normal((2, 3), (3,)), fixed([0, 1])), r"a linear_weight of shape \(3,\)"),
        ((), {}, joined(normal((), (4, 3)), fixed(0)), r"an input of shape \(\)"),
    ),
    *rejected(
        "LinearCrossEntropyOptions",
        ((), {"acc_policy": "fast"}, None, "got 'fast'"),
        ((), {"chunking_method": "aspect_ratio:0"}, None, "got 'aspect_ratio:0'"),
        ((), {"chunking_method": "aspect_ratio:x"}, None, "got 'aspect_ratio:x'"),
        ((), {"chunking_method": "half"}, None, "got 'half'"),
        ((), {"batch_chunk_size": 0}, None, "got 0"),
        ((), {"batch_chunk_size": 2.5}, None, "got 2.5"),
    ),
]
