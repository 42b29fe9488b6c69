"""Cases of element-wise losses. Other losses have their own files."""

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cases import losses_classes, losses_ctc, losses_margin
from cases.common import Function, Layer, Maker, Rejected, Sweep, given, layers, normal, rejected, then
from cases.losses_common import (
    FLAGS,
    counts,
    fixed,
    joined,
    legacy,
    probabilities,
    quiet,
    shapes,
    signs,
    uniform,
    warned,
)

nan, inf = math.nan, math.inf

PAIR = normal((3, 4), (3, 4))


def weighted(size: int, *between: Any) -> Maker:
    """Draw two inputs and the weights of the elements, with other arguments between them."""
    return lambda rng: (rng.normal(size=size), rng.normal(size=size), *between, rng.random(size))


# Values at every kink: equal values, differences of exactly 1 and 0.5, infinities and NaN.
EDGES = given([0.0, 1.0, -1.0, 0.5, -0.5, 2.0, inf, -inf, nan], [0.0] * 9)
FINITE_EDGES = given([0.0, 1.0, -1.0, 0.5, -0.5, 2.0], [0.0] * 6)
WIDER = r"(?i)using a target size|.*the target's shape"
MEAN = r"reduction: 'mean' divides"
NONE = {"reduction": "none"}
SUM = {"reduction": "sum"}

# The rows that losses of two arrays with equal shapes share.
USUAL = [
    (PAIR,),
    (PAIR, (), NONE),
    (PAIR, (), SUM),
    (normal((), ()),),
    (normal((5,), (5,)), (None, None, "sum")),
    (normal((2, 3, 1, 2), (2, 3, 1, 2)), (), {"reduction": "mean"}),
    (normal((0, 3), (0, 3)),),
    (normal((0, 3), (0, 3)), (), NONE),
    (normal((0, 3), (0, 3)), (), SUM),
]
BROADCAST = [
    (warned(normal((2, 3), (1, 3)), WIDER), (), NONE),
    (warned(normal((3,), (2, 3)), WIDER),),
    (warned(normal((2, 1), (3,)), WIDER), (), SUM),
]

LAYERS: list[Layer] = [
    *layers("L1Loss", *USUAL, *BROADCAST, (EDGES, (), NONE), (FINITE_EDGES,)),
    Layer("L1Loss", PAIR, build=lambda nn, **_: quiet(nn.L1Loss, False)),
    Layer("L1Loss", PAIR, build=lambda nn, **_: quiet(nn.L1Loss, True, True)),
    Layer("L1Loss", PAIR, build=lambda nn, **_: quiet(nn.L1Loss, True, False, "sum")),
    Layer("L1Loss", PAIR, build=lambda nn, **_: quiet(nn.L1Loss, None, False)),
    Layer("L1Loss", PAIR, build=lambda nn, **_: quiet(nn.L1Loss, None, True)),
    Layer("L1Loss", warned(PAIR, "reduction='elementwise_mean'"), kwargs={"reduction": "elementwise_mean"}),
    *layers("MSELoss", *USUAL, *BROADCAST, (FINITE_EDGES,)),
    Layer("MSELoss", PAIR, build=lambda nn, **_: quiet(nn.MSELoss, size_average=False)),
    Layer("MSELoss", PAIR, build=lambda nn, **_: quiet(nn.MSELoss, False, False)),
    *layers(
        "SmoothL1Loss",
        *USUAL,
        *BROADCAST,
        (EDGES, (), {**NONE, "beta": 0}),
        (FINITE_EDGES, (), {"beta": 0.5}),
        (FINITE_EDGES, (None, None, "none", 2.0)),
        (FINITE_EDGES, (), {"beta": inf, **NONE}),
        (PAIR, (), {"beta": 1e-3}),
        (PAIR, (), {"beta": 0.0, **SUM}),
    ),
    Layer("SmoothL1Loss", PAIR, build=lambda nn, **_: quiet(nn.SmoothL1Loss, False, True, beta=0.3)),
    *layers(
        "HuberLoss",
        *[row for row in USUAL if row[1:2] != ((None, None, "sum"),)],
        *BROADCAST,
        (FINITE_EDGES, (), {"delta": 0.5}),
        (FINITE_EDGES, ("none", 2)),
        (FINITE_EDGES, ("none", inf)),
        (PAIR, (), {"delta": 1e-3}),
    ),
    *layers(
        "GaussianNLLLoss",
        (joined(PAIR, uniform((3, 4), 0.2, 2)),),
        (joined(PAIR, uniform((3, 4), 0.2, 2)), (), {"full": True, **NONE}),
        (joined(PAIR, uniform((3, 4), 0.2, 2)), (), {"eps": 0.7, **SUM}),
        (joined(PAIR, uniform((3,), 0.2, 2)),),
        (joined(PAIR, uniform((3, 1), 0.2, 2)), (), NONE),
        (joined(PAIR, uniform((1, 4), 0.2, 2)), (), NONE),
        (joined(normal((2, 3, 2), (2, 3, 2)), uniform((2, 1, 2), 0.2, 2)), (), {"full": True}),
        (joined(normal((2, 3, 2), (2, 3, 2)), uniform((2, 3), 0.2, 2)),),
        (joined(normal((3, 4), (4,)), uniform((3, 4), 0.2, 2)),),
        (then(PAIR, 0.7), (), NONE),
        (then(PAIR, 0.0),),
        (given([0.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.0, 1e-6, 1e-7]), (), NONE),
        (joined(normal((), ()), uniform((), 0.2, 2)),),
        (joined(normal((0, 3), (0, 3)), uniform((0, 3), 0.2, 2)),),
    ),
    *layers(
        "PoissonNLLLoss",
        (joined(normal((3, 4)), counts((3, 4))),),
        (joined(normal((3, 4)), counts((3, 4))), (), NONE),
        (joined(normal((3, 4)), uniform((3, 4), 1.1, 6)), (True, True)),
        (joined(normal((3, 4)), uniform((3, 4), 0.2, 6)), (), {"full": True, **NONE}),
        (joined(uniform((3, 4), 0, 3), counts((3, 4))), (), {"log_input": False}),
        (joined(uniform((3, 4), 0, 3), counts((3, 4))), (False, False, None, 0.5, None, "sum")),
        (joined(uniform((3, 4), 0.1, 3), uniform((3, 4), 0.5, 4)), (False, True), {"eps": 1e-3, **NONE}),
        (joined(normal((3, 4)), counts((4,))),),
        (joined(normal((4,)), counts((3, 4))), (), SUM),
        (joined(normal(()), counts(())),),
        (joined(normal((0, 3)), counts((0, 3))),),
        (joined(normal((3, 4)), lambda rng: (rng.integers(0, 5, (3, 4)),)),),
    ),
    Layer(
        "PoissonNLLLoss",
        joined(normal((3, 4)), counts((3, 4))),
        build=lambda nn, **_: quiet(nn.PoissonNLLLoss, True, False, False, 1e-8, True),
    ),
    *layers(
        "KLDivLoss",
        (warned(joined(normal((3, 4)), probabilities((3, 4))), MEAN),),
        (joined(normal((3, 4)), probabilities((3, 4))), (), {"reduction": "batchmean"}),
        (joined(normal((3, 4)), probabilities((3, 4))), (None, None, "sum")),
        (joined(normal((3, 4)), probabilities((3, 4))), (), NONE),
        (PAIR, (None, None, "none", True)),
        (PAIR, (), {"log_target": True, "reduction": "batchmean"}),
        (warned(PAIR, MEAN), (), {"log_target": True}),
        (joined(normal((3, 4)), probabilities((4,))), (), {"reduction": "batchmean"}),
        (joined(normal((4,)), probabilities((3, 4))), (), {"reduction": "batchmean"}),
        (joined(normal(()), uniform((), 0.1, 1)), (), {"reduction": "batchmean"}),
        (joined(normal((4,)), probabilities((4,))), (), {"reduction": "batchmean"}),
        (warned(joined(normal((0, 3)), uniform((0, 3), 0, 1)), MEAN),),
        (joined(normal((0, 3)), uniform((0, 3), 0, 1)), (), {"reduction": "batchmean"}),
    ),
    Layer(
        "KLDivLoss",
        joined(normal((3, 4)), probabilities((3, 4))),
        build=lambda nn, **_: quiet(nn.KLDivLoss, False, None, "batchmean"),
    ),
    *layers(
        "BCELoss",
        (joined(uniform((3, 4), 0.01, 0.49), uniform((3, 4), 0, 0.49)),),
        (joined(uniform((3, 4), 0.01, 0.99), uniform((3, 4), 0, 1)), (), NONE),
        (joined(uniform((3, 4), 0.01, 0.99), uniform((3, 4), 0, 1)), (None, None, None, "sum")),
        (joined(uniform((3, 4), 0.01, 0.99), uniform((3, 4), 0, 1)), (np.ones(4),)),
        (joined(uniform((3, 4), 0.01, 0.99), uniform((3, 4), 0, 1)), (), {"weight": np.zeros((3, 1)), **NONE}),
        (joined(uniform((3, 4), 0.01, 0.99), uniform((3, 4), 0, 1)), (np.ones((3, 4)),), SUM),
        (then(fixed([0.0, 1.0, 0.0, 1.0, 0.5, 1e-30, 1e-45]), np.array([0.0, 0.0, 1.0, 1.0, 0.3, 1.0, 1.0])), (), NONE),
        (given([0.5, 0.25], [0.0, 1.0]),),
        (joined(uniform((), 0.1, 0.9), uniform((), 0, 1)),),
        (joined(uniform((0, 3), 0.1, 0.9), uniform((0, 3), 0, 1)),),
        (joined(uniform((2, 1, 3, 2), 0.1, 0.9), uniform((2, 1, 3, 2), 0, 1)), (np.ones((1, 3, 1)),)),
    ),
    Layer(
        "BCELoss",
        joined(uniform((3, 4), 0.01, 0.99), uniform((3, 4), 0, 1)),
        build=lambda nn, **_: quiet(nn.BCELoss, None, False, True),
    ),
    *layers(
        "BCEWithLogitsLoss",
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)),),
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)), (), NONE),
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)), (np.ones(4), None, None, "sum", np.ones((3, 1)))),
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)), (np.ones((3, 1)),)),
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)), (), {"pos_weight": np.zeros(4)}),
        (joined(normal((2, 3, 2)), uniform((2, 3, 2), 0, 1)), (), {"pos_weight": np.ones((3, 1)), **NONE}),
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)), (), {"pos_weight": np.ones(()), "weight": np.ones(())}),
        (
            given([0.0, 800.0, -800.0, 30.0, -30.0], [0.5, 0.0, 1.0, 1.0, 1.0]),
            (),
            {"pos_weight": np.full(5, 2.0), **NONE},
        ),
        (joined(normal(()), uniform((), 0, 1)),),
        (joined(normal((0, 3)), uniform((0, 3), 0, 1)),),
    ),
    Layer(
        "BCEWithLogitsLoss",
        joined(normal((3, 4)), uniform((3, 4), 0, 1)),
        build=lambda nn, **_: quiet(nn.BCEWithLogitsLoss, None, True, False),
    ),
    *layers(
        "SoftMarginLoss",
        (joined(normal((3, 4)), signs((3, 4))),),
        (joined(normal((3, 4)), signs((3, 4))), (), NONE),
        (joined(normal((3, 4)), signs((3, 4))), (None, None, "sum")),
        (joined(normal((3, 4)), signs((4,))),),
        (joined(normal((3, 4)), signs((1, 1))), (), NONE),
        (joined(normal((2, 2, 1, 3)), signs((2, 2, 1, 3))),),
        (joined(normal((3, 4)), lambda rng: (rng.choice([-1, 1], (3, 4)),)),),
        (joined(normal(()), signs(())),),
        (joined(normal((0, 3)), signs((0, 3))),),
    ),
    Layer(
        "SoftMarginLoss",
        joined(normal((3, 4)), signs((3, 4))),
        build=lambda nn, **_: quiet(nn.SoftMarginLoss, False, True),
    ),
    *layers(
        "MultiLabelSoftMarginLoss",
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)),),
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)), (), NONE),
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)), (np.ones(4), None, None, "sum")),
        (joined(normal((3, 4)), uniform((3, 4), 0, 1)), (), {"weight": np.zeros(4), **NONE}),
        (joined(normal((4,)), uniform((4,), 0, 1)), (), NONE),
        (joined(normal((2, 3, 4)), uniform((2, 3, 4), 0, 1)), (), {"weight": np.ones((3, 1)), **NONE}),
        (joined(normal((3, 4)), uniform((4,), 0, 1)),),
        (joined(normal((4,)), uniform((3, 4), 0, 1)), (), NONE),
        (joined(normal((3, 4)), lambda rng: (rng.integers(0, 2, (3, 4)),)),),
        (given([[0.0, 800.0, -800.0, 30.0]], [[0.5, 0.0, 1.0, 1.0]]),),
        (joined(normal((0, 3)), uniform((0, 3), 0, 1)),),
        (joined(normal((2, 0)), uniform((2, 0), 0, 1)), (), NONE),
    ),
    Layer(
        "MultiLabelSoftMarginLoss",
        joined(normal((3, 4)), uniform((3, 4), 0, 1)),
        build=lambda nn, **_: quiet(nn.MultiLabelSoftMarginLoss, None, None, False),
    ),
    *losses_classes.LAYERS,
    *losses_margin.LAYERS,
    *losses_ctc.LAYERS,
]


FUNCTIONS: list[Function] = [
    *legacy("l1_loss", PAIR, len(FLAGS)),
    Function("l1_loss", weighted(2, None, None, "sum")),
    Function("l1_loss", weighted(3, None, None, "mean")),
    Function("l1_loss", weighted(4, None, None, "none")),
    Function("l1_loss", warned(then(normal((2, 3), (3,)), None, None, "mean", np.ones((2, 3))), WIDER)),
    *legacy("mse_loss", PAIR),
    Function("mse_loss", weighted(2, None, None, "sum")),
    Function("mse_loss", weighted(3, None, None, "mean")),
    Function("mse_loss", weighted(4, None, None, "none")),
    Function("huber_loss", weighted(2, "sum", 0.5)),
    Function("huber_loss", weighted(3, "mean", 0.5)),
    Function("huber_loss", weighted(4, "none", 0.5)),
    *legacy("smooth_l1_loss", PAIR, beta=0.5),
    *legacy("poisson_nll_loss", joined(normal((2, 3)), counts((2, 3)))),
    *legacy("kl_div", joined(normal((2, 3)), probabilities((2, 3)))),
    *legacy("soft_margin_loss", joined(normal((2, 3)), signs((2, 3)))),
    *legacy("multilabel_soft_margin_loss", joined(normal((2, 3)), counts((2, 3)))),
    *legacy("binary_cross_entropy_with_logits", normal((2, 3), (2, 3))),
    *legacy("binary_cross_entropy", joined(uniform((2, 3), 0.1, 0.9), uniform((2, 3), 0, 1))),
    *losses_classes.FUNCTIONS,
    *losses_margin.FUNCTIONS,
    *losses_ctc.FUNCTIONS,
]


# Rows with gradients that are not finite, which the harness cannot scale. test_losses.py compares them.
NOT_FINITE: list[Layer | Function] = [
    Function("l1_loss", then(normal((1, 4), (1, 4)), None, None, "mean", np.zeros((1, 4)))),
    *layers("MSELoss", (EDGES, (), NONE)),
    *layers("SmoothL1Loss", (EDGES, (), NONE)),
    *layers("HuberLoss", (EDGES, (), NONE)),
    *layers(
        "GaussianNLLLoss",
        (given([0.0, 1.0, nan, inf], [1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]), (), {"eps": 0.5, **NONE}),
    ),
    *layers("PoissonNLLLoss", (given([0.0, 1.0, 2.0, 1.0], [0.0, 1.0, 2.0, -1.0]), (), {"full": True, **NONE})),
    *layers(
        "PoissonNLLLoss",
        (given([0.0, -1.0, 2.0, 1.0, nan], [0.0, 1.0, 2.0, -1.0, 1.0]), (), {"log_input": False, **NONE}),
    ),
    *layers("PoissonNLLLoss", (given([inf, -inf, 800.0, nan], [1.0, 1.0, 2.0, 0.0]), (), NONE)),
    *layers("KLDivLoss", (given([-1.0, -1.0, -inf, -inf, nan, 2.0], [0.0, -1.0, 0.0, 0.5, 0.5, 1.0]), (), NONE)),
    *layers("KLDivLoss", (given([-1.0, -1.0, -inf, -inf], [-inf, -1.0, -inf, -0.5]), (), {"log_target": True, **NONE})),
    *layers(
        "BCEWithLogitsLoss",
        (given([0.0, inf, -inf, 800.0, -800.0, nan, inf, 40.0], [0.5, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]), (), NONE),
    ),
    *layers(
        "MultiLabelSoftMarginLoss",
        (given([[inf, -inf, nan], [1.0, 2.0, 3.0]], [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), (), NONE),
    ),
    *layers(
        "SoftMarginLoss",
        (
            joined(fixed([0.0, -800.0, 800.0, inf, -inf, nan, 20.0]), fixed([1.0, 1, -1, 1, 1, 1, -1], constant=True)),
            (),
            NONE,
        ),
    ),
    *losses_classes.NOT_FINITE,
    *losses_margin.NOT_FINITE,
    *losses_ctc.NOT_FINITE,
]


def _elementwise(name: str) -> Sweep:
    option = {"SmoothL1Loss": "beta", "HuberLoss": "delta"}.get(name)

    @st.composite
    def cases(draw: st.DrawFn) -> Layer:
        shape = draw(shapes)
        kwargs = {"reduction": draw(st.sampled_from(["none", "mean", "sum"]))}
        if option:
            kwargs[option] = draw(st.floats(0.01, 4))
        return Layer(name, normal(shape, shape), kwargs=kwargs)

    return Sweep(name, cases())


@st.composite
def _with_logits(draw: st.DrawFn) -> Layer:
    shape = draw(shapes)
    kwargs = {"reduction": draw(st.sampled_from(["none", "mean", "sum"]))}
    for weight in draw(st.sets(st.sampled_from(["weight", "pos_weight"]))):
        kwargs[weight] = np.ones(shape[draw(st.integers(0, len(shape))) :])
    return Layer("BCEWithLogitsLoss", joined(normal(shape), uniform(shape, 0, 1)), kwargs=kwargs)


SWEEPS: list[Sweep] = [
    *map(_elementwise, ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss")),
    Sweep("BCEWithLogitsLoss", _with_logits()),
    *losses_classes.SWEEPS,
    *losses_margin.SWEEPS,
    *losses_ctc.SWEEPS,
]

WHOLE = given(np.ones((2, 3), np.int64), np.ones((2, 3), np.int64))
MISMATCH = r"\(2, 3\), \(2, 4\)"

REJECTED: list[Rejected] = [
    *rejected(
        "L1Loss",
        ((), {"reduction": "avg"}, PAIR, "got 'avg'"),
        ((), {}, warned(normal((2, 3), (2, 4)), WIDER), MISMATCH),
        ((), {}, WHOLE, "the mean requires floating-point inputs, got int"),
    ),
    *rejected(
        "l1_loss",
        (
            (),
            {},
            then(PAIR, None, None, "mean", np.ones(4)),
            r"weight must have the input's shape \(3, 4\), got \(4,\)",
        ),
        ((), {}, then(PAIR, None, None, "avg", np.ones((3, 4))), "got 'avg'"),
        ((), {}, then(PAIR, None, None, "elementwise_mean", np.ones((3, 4))), "got 'elementwise_mean'"),
    ),
    *rejected(
        "MSELoss",
        ((), {"reduction": ""}, PAIR, "got ''"),
        ((), {}, warned(normal((2, 3), (2, 4)), WIDER), MISMATCH),
        ((), {}, WHOLE, "expected real floating-point numbers, got int"),
    ),
    *rejected("mse_loss", ((), {}, then(PAIR, None, None, "mean", np.ones((4, 3))), r"got \(4, 3\)")),
    *rejected(
        "SmoothL1Loss",
        ((), {"reduction": "avg"}, PAIR, "got 'avg'"),
        ((), {"beta": -1.0}, PAIR, "beta must not be negative, got -1.0"),
        ((), {}, warned(normal((2, 3), (2, 4)), WIDER), MISMATCH),
        ((), {}, WHOLE, "got int"),
    ),
    *rejected(
        "HuberLoss",
        (("avg",), {}, PAIR, "got 'avg'"),
        ((), {"delta": 0}, PAIR, "delta must be positive, got 0"),
        ((), {"delta": -2.5}, PAIR, "got -2.5"),
        ((), {"delta": "1"}, None, "must be a float or an int, got '1'"),
        ((), {}, warned(normal((2, 3), (2, 4)), WIDER), MISMATCH),
        ((), {}, WHOLE, "got int"),
    ),
    *rejected("huber_loss", ((), {}, then(PAIR, "mean", 1.0, np.ones(3)), r"got \(3,\)")),
    *rejected(
        "GaussianNLLLoss",
        ((), {"reduction": "avg"}, then(normal((3,), (3,)), 1.0), "got 'avg'"),
        ((), {}, then(normal((3,), (3,)), 1), "must be an array or a float, got 1"),
        ((), {}, then(normal((3,), (3,)), -1.5), "must not be negative, got -1.5"),
        ((), {}, then(normal((3,), (3,)), np.array([1.0, -2.0, 3.0])), "must not be negative, got -2.0"),
        ((), {}, then(normal((3, 2), (3, 2)), np.ones(2)), r"got \(2,\)"),
        ((), {}, then(normal((3, 2), (3, 2)), np.ones((1, 1))), r"got \(1, 1\)"),
        ((), {}, then(normal((3, 2), (4,)), np.ones((3, 2))), r"\(3, 2\), \(4,\)"),
    ),
    *rejected(
        "PoissonNLLLoss",
        ((), {"reduction": "avg"}, PAIR, "got 'avg'"),
        ((), {"reduction": "elementwise_mean"}, PAIR, "got 'elementwise_mean'"),
        ((), {}, normal((2, 3), (2, 4)), MISMATCH),
    ),
    *rejected(
        "KLDivLoss",
        ((), {"reduction": "avg"}, PAIR, "got 'avg'"),
        ((), {"reduction": "sum"}, normal((2, 3), (2, 4)), MISMATCH),
        ((), {"reduction": "sum"}, WHOLE, "got int"),
        ((), {"reduction": "sum"}, given(np.ones(2), np.ones(2, np.complex64)), "got complex64"),
    ),
    *rejected(
        "BCELoss",
        ((), {"reduction": "avg"}, given([0.5], [0.5]), "got 'avg'"),
        ((), {}, given([0.5], [[0.5]]), r"the input's shape \(1,\), got \(1, 1\)"),
        ((), {}, given([1.5], [0.5]), "input must be between 0 and 1, got 1.5"),
        ((), {}, given([nan], [0.5]), "input must be between 0 and 1, got nan"),
        ((), {}, given([0.5], [-0.5]), "target must be between 0 and 1, got -0.5"),
        ((), {}, given([0.5], np.ones(1, np.int64)), "expected a target of dtype float32, got int"),
        ((), {}, given(np.ones(1, np.int64), np.ones(1, np.int64)), "got int"),
        ((np.ones(3),), {}, given([0.5, 0.5], [0.5, 0.5]), r"shape \(2,\), got the shape \(3,\)"),
        ((np.ones((3, 2)),), {}, given([0.5, 0.5], [0.5, 0.5]), r"got the shape \(3, 2\)"),
    ),
    *rejected(
        "BCEWithLogitsLoss",
        ((), {"reduction": "avg"}, PAIR, "got 'avg'"),
        ((), {}, normal((2, 3), (1, 3)), r"the input's shape \(2, 3\), got \(1, 3\)"),
        ((np.ones(4),), {}, normal((2, 3), (2, 3)), r"weight must broadcast .* got the shape \(4,\)"),
        ((np.ones((2, 3)),), {}, normal((3,), (3,)), r"weight must broadcast .* got the shape \(2, 3\)"),
        ((), {"pos_weight": np.ones((2, 3))}, normal((3,), (3,)), r"pos_weight must .* got the shape \(2, 3\)"),
        ((), {}, WHOLE, "got int"),
        ((), {}, given([0.5], np.ones(1, np.int64)), "expected real floating-point numbers, got int"),
    ),
    *rejected(
        "SoftMarginLoss",
        ((), {"reduction": "avg"}, PAIR, "got 'avg'"),
        ((), {}, normal((2, 3), (2, 4)), r"got the shape \(2, 4\)"),
        ((), {}, normal((3,), (2, 3)), r"got the shape \(2, 3\)"),
        ((), {}, WHOLE, "got int"),
    ),
    *rejected(
        "MultiLabelSoftMarginLoss",
        ((), {"reduction": "avg"}, PAIR, "got 'avg'"),
        ((), {"reduction": "elementwise_mean"}, PAIR, "got 'elementwise_mean'"),
        ((), {}, normal((2, 3), (2, 4)), MISMATCH),
        ((), {}, normal((), ()), r"got the shape \(\)"),
        ((np.ones(2),), {}, normal((2, 3), (2, 3)), r"\(2, 3\), \(2,\)"),
        ((), {}, WHOLE, "got int"),
    ),
    *losses_classes.REJECTED,
    *losses_margin.REJECTED,
    *losses_ctc.REJECTED,
]
