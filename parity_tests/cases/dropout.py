"""Cases of all types of dropout."""

import hypothesis.strategies as st
import numpy as np

from cases.common import Function, Layer, Rejected, Sweep, functions, given, layers, normal, rejected

SPECIAL = given(np.array([[np.inf, -np.inf, 1.0, 2.0, -1.0, 0.5], [np.nan, np.inf, 0.0, 3.0, 1.0, 4.0]]))


def of_probabilities(name: str, *shapes: tuple[int, ...]) -> list[Layer]:
    """Return the rows of a class for all shapes, and for other probabilities with the first shape."""
    first = normal(shapes[0])
    probabilities = [(first, (p,)) for p in (0.0, 0.1, 0.9, 1.0)] + [(first, (), {"p": 0.3})]
    return layers(name, *((normal(shape),) for shape in shapes), *probabilities)


LAYERS: list[Layer] = [
    *of_probabilities("Dropout", (4, 5), (7,), (), (2, 3, 4), (0, 3)),
    *layers("Dropout", (SPECIAL,), (SPECIAL, (1.0,)), (given(np.arange(4)), (0.0,)), (given(np.arange(4)), (1.0,))),
    *of_probabilities("Dropout1d", (4, 5, 3), (6, 4), (0, 3, 2), (2, 3, 0)),
    *of_probabilities("Dropout2d", (4, 5, 2, 3), (2, 3, 1, 1), (0, 3, 2, 2)),
    *of_probabilities("Dropout3d", (3, 4, 2, 1, 3), (6, 2, 2, 2), (0, 3, 2, 2, 2)),
    *of_probabilities("AlphaDropout", (4, 5), (7,), (), (2, 3, 4), (0, 3)),
    *layers("AlphaDropout", (given(np.arange(4)), (0.0,)), (given(np.arange(4)), (1.0,))),
    *of_probabilities("FeatureAlphaDropout", (4, 5, 3), (6, 4), (2, 3, 2, 2), (0, 3, 2)),
]

FUNCTIONS: list[Function] = [
    row
    for name, shape in (
        ("dropout", (3, 4)),
        ("dropout1d", (3, 4)),
        ("dropout2d", (2, 3, 2, 2)),
        ("dropout3d", (3, 2, 2, 2)),
        ("alpha_dropout", (3, 4)),
        ("feature_alpha_dropout", (3, 4)),
    )
    for row in functions(
        name,
        (normal(shape), {"p": 0.3, "training": False}),
        (normal(shape), {"p": 0.0, "training": True}),
        (normal(shape), {"p": 1.0, "training": True}),
    )
]
FUNCTIONS += functions("alpha_dropout", (normal((3, 4)),)) + functions("feature_alpha_dropout", (normal((3, 4)),))


def sweep(name: str, axes: st.SearchStrategy[int]) -> Sweep:
    """Draw shapes and probabilities of a class."""
    shapes = axes.flatmap(lambda n: st.tuples(*[st.integers(0, 4)] * n))
    return Sweep(name, st.builds(lambda shape, p: Layer(name, normal(shape), (p,)), shapes, st.floats(0, 1, width=16)))


SWEEPS: list[Sweep] = [
    sweep("Dropout", st.integers(0, 4)),
    sweep("Dropout1d", st.integers(2, 3)),
    sweep("Dropout2d", st.just(4)),
    sweep("Dropout3d", st.integers(4, 5)),
    sweep("AlphaDropout", st.integers(0, 4)),
    sweep("FeatureAlphaDropout", st.integers(2, 4)),
]

CLASSES = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
OF_FUNCTIONS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
FOUR_AXES = (2, 2, 2, 2)

REJECTED: list[Rejected] = [
    row
    for name in CLASSES
    for row in rejected(
        name,
        ((1.5,), {}, None, "must be between 0 and 1, got 1.5"),
        ((-0.1,), {}, None, "must be between 0 and 1, got -0.1"),
        (("a",), {}, None, "'str'"),
        ((None,), {}, None, "'NoneType'"),
    )
]
REJECTED += [
    row
    for name, shape in zip(CLASSES, ((4,), (2, 2), FOUR_AXES, FOUR_AXES, (4,), (2, 2)), strict=True)
    for row in rejected(
        name,
        ((), {}, given(np.ones(shape, np.int64)), "dtype int"),
        ((), {}, given(np.ones(shape, bool)), "dtype bool"),
        ((), {}, given(np.ones(shape, np.complex128)), "dtype complex"),
    )
]
REJECTED += [
    row
    for name, shape in zip(OF_FUNCTIONS, ((4,), (2, 2), FOUR_AXES, FOUR_AXES, (4,), (2, 2)), strict=True)
    for row in rejected(name, ((), {"p": 1.5, "training": False}, shape, "must be between 0 and 1, got 1.5"))
]
REJECTED += [
    *rejected(
        "Dropout1d",
        ((), {}, (3,), "expected 2D or 3D input, got 1D"),
        ((), {}, (2, 3, 4, 5), "expected 2D or 3D input, got 4D"),
        ((0.0,), {}, (), "expected 2D or 3D input, got 0D"),
    ),
    *rejected("FeatureAlphaDropout", ((), {}, (3,), r"at least 2 axes, got an input of shape \(3,\)")),
]
