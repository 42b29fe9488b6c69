"""Cases of normalization."""

import numpy as np
from hypothesis import strategies as st

from cases.common import Function, Layer, Rejected, Sweep, functions, given, layers, normal, rejected, then, ties
from flaxnets.parity import Constant

LENGTH, IMAGE, VOLUME = normal((2, 3, 5)), normal((2, 3, 4, 5)), normal((2, 3, 2, 3, 4))


def stats(channels, *shape):
    """Draw an input, and the running statistics of its channels, which torch does not differentiate."""
    return lambda rng: (
        rng.normal(size=shape),
        Constant(rng.normal(size=channels)),
        Constant(rng.uniform(0.5, 2, channels)),
    )


def special(*shape):
    """Draw normal values that start with NaN and infinity. No gradients, because all of them would be NaN."""

    def make(rng):
        array = rng.normal(size=shape)
        array.flat[:2] = np.nan, np.inf
        return (Constant(array),)

    return make


def constant(*shape):
    """Draw normal values without gradients, for layers whose gradient is zero up to rounding errors."""
    return lambda rng: (Constant(rng.normal(size=shape)),)


def offset(*shape):
    """Draw normal values far from zero, where a variance computed as a difference of means would lose all digits."""
    return lambda rng: (1e3 + rng.normal(size=shape),)


LAYERS: list[Layer] = [
    *layers(
        "BatchNorm1d",
        (normal((5, 3)), (3,)),
        (normal((5, 3, 4)), (3,)),
        (normal((5, 3)), (3,), {"affine": False, "eps": 1e-3}),
        (normal((5, 3)), (3,), {"track_running_stats": False}),
        (normal((5, 3)), (3,), {"momentum": None}),
        (normal((5, 3)), (3, 1e-4, 0.7, True, True)),
        (normal((5, 3)), (3,), {"bias": False, "momentum": 0.0}),
        (normal((5, 3)), (3,), {"momentum": 1.0, "track_running_stats": True}),
        (normal((5, 3)), (3,), {"affine": False, "track_running_stats": False}),
        (normal((0, 3)), (3,)),
        (normal((2, 3, 0)), (3,)),
        (normal((1, 3, 2)), (3,)),
        (offset(6, 3), (3,), {"bias": False}),
        (special(4, 3), (3,), {"affine": False}),
    ),
    *layers(
        "BatchNorm2d",
        (IMAGE, (3,)),
        (IMAGE, (3,), {"momentum": 0.3, "bias": False}),
        (IMAGE, (3,), {"momentum": None, "affine": False}),
        (IMAGE, (3, 1e-2), {"track_running_stats": False}),
        (normal((1, 3, 1, 2)), (3,)),
        (normal((2, 1, 3, 3)), (1,)),
        (normal((0, 3, 2, 2)), (3,), {"momentum": None}),
        (ties(2, 3, 3, 3), (3,), {"eps": 0.5}),
    ),
    *layers(
        "BatchNorm3d",
        (VOLUME, (3,)),
        (VOLUME, (3,), {"momentum": 0.3, "bias": False}),
        (VOLUME, (3,), {"momentum": None, "affine": False}),
        (VOLUME, (3, 1e-2), {"track_running_stats": False}),
        (VOLUME, (3,), {"affine": False, "track_running_stats": False, "eps": 1e-3}),
        (normal((1, 3, 1, 1, 2)), (3,)),
        (normal((2, 1, 2, 2, 2)), (1, 1e-3, 0.2, True, True)),
        (normal((0, 3, 2, 2, 1)), (3,)),
    ),
    # SyncBatchNorm of flaxnets also has axis_name, so ``build`` is needed. test_layers.py tests axis_name.
    *[
        Layer("SyncBatchNorm", inputs, build=build)
        for inputs, build in (
            (normal((5, 3)), lambda nn, rngs=None: nn.SyncBatchNorm(3)),
            (LENGTH, lambda nn, rngs=None: nn.SyncBatchNorm(3, 1e-3, 0.3, True, True, None)),
            (IMAGE, lambda nn, rngs=None: nn.SyncBatchNorm(3, momentum=None)),
            (VOLUME, lambda nn, rngs=None: nn.SyncBatchNorm(3, affine=False)),
            (normal((2, 3, 1, 2, 1, 2)), lambda nn, rngs=None: nn.SyncBatchNorm(3, bias=False)),
            (IMAGE, lambda nn, rngs=None: nn.SyncBatchNorm(3, track_running_stats=False)),
            (normal((0, 3)), lambda nn, rngs=None: nn.SyncBatchNorm(3, process_group=None)),
            (
                IMAGE,
                lambda nn, rngs=None: nn.SyncBatchNorm.convert_sync_batchnorm(
                    nn.Sequential(nn.BatchNorm2d(3, 1e-3, None), nn.ReLU(), nn.BatchNorm2d(3, bias=False))
                ),
            ),
        )
    ],
    *layers(
        "GroupNorm",
        (normal((2, 6, 3)), (3, 6)),
        (normal((2, 6, 3, 2)), (1, 6)),
        (normal((2, 6, 3, 2, 1)), (6, 6, 1e-3)),
        (normal((2, 6, 3)), (2, 6), {"affine": False}),
        (normal((2, 6, 3)), (2, 6), {"bias": False}),
        (normal((2, 6)), (2, 6, 0.1, True)),
        (constant(3, 2), (2, 2)),
        (normal((2, 6, 3)), (), {"num_groups": 3, "num_channels": 6, "eps": 0.5}),
        (normal((2, 8, 3)), (2, 4), {"affine": False}),
        (normal((0, 4, 3)), (2, 4)),
        (normal((2, 4, 0)), (2, 4), {"affine": False}),
        (normal((2, 0, 3)), (2, 0)),
        (offset(2, 4, 3), (2, 4), {"bias": False}),
        (special(2, 4, 3), (2, 4), {"affine": False}),
        (ties(2, 4, 3), (2, 4)),
    ),
    *layers(
        "LayerNorm",
        (normal((2, 3, 4)), (4,)),
        (normal((2, 3, 4)), ((3, 4),)),
        (normal((2, 3, 4)), ([2, 3, 4],)),
        (normal((4,)), (4,)),
        (normal((2, 4)), (4, 1e-3)),
        (normal((2, 4)), (4,), {"elementwise_affine": False}),
        (normal((2, 4)), (4,), {"bias": False, "eps": 0.1}),
        (normal((2, 4)), (4, 1e-4, True, False)),
        (normal((2, 3, 4)), (), {"normalized_shape": (3, 4), "elementwise_affine": False, "eps": 0.5}),
        (constant(3, 1), (1,)),
        (normal((0, 4)), (4,)),
        (normal((2, 0)), (0,)),
        (offset(2, 5), (5,)),
        (special(3, 4), (4,), {"elementwise_affine": False}),
        (ties(3, 4), (4,)),
    ),
    *layers(
        "RMSNorm",
        (normal((2, 3, 4)), (4,)),
        (normal((2, 3, 4)), ((3, 4),)),
        (normal((2, 3, 4)), ([2, 3, 4],)),
        (normal((4,)), (4,)),
        (normal((2, 4)), (4, 1e-3)),
        (normal((2, 4)), (4, None, False)),
        (normal((2, 4)), (4,), {"elementwise_affine": False, "eps": 0.1}),
        (normal((2, 3, 4)), (), {"normalized_shape": (3, 4), "eps": 0.0}),
        (constant(3, 1), (1,)),
        (normal((0, 4)), (4,)),
        (normal((2, 0)), (0,)),
        (given([[0.0, 0.0, 0.0], [1e-3, 0.0, 2e-3], [1e3, -1e3, 0.0]]), (3,)),
        (
            lambda rng: (Constant(rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3))),),
            (3, 0.1),
            {"elementwise_affine": False},
        ),
        (special(3, 4), (4,), {"elementwise_affine": False}),
    ),
    *[
        row
        for name, batched, unbatched in (
            ("InstanceNorm1d", (2, 3, 5), (3, 5)),
            ("InstanceNorm2d", (2, 3, 4, 5), (3, 4, 5)),
            ("InstanceNorm3d", (2, 3, 2, 3, 2), (3, 2, 3, 2)),
        )
        for row in layers(
            name,
            (normal(batched), (3,)),
            (normal(unbatched), (3,)),
            (normal(batched), (3, 1e-2, 0.3, True, True)),
            (normal(unbatched), (3,), {"affine": True, "track_running_stats": True}),
            (normal(batched), (3,), {"affine": True, "bias": False}),
            (normal(batched), (3,), {"track_running_stats": True, "momentum": 0.5}),
            (normal(batched), (3,), {"track_running_stats": True, "momentum": None}),
            (normal(batched), (3,), {"eps": 0.1}),
            (normal((0, *batched[1:])), (3,), {"eps": 1e-3}),
            (normal((0, *batched[1:])), (3,), {"track_running_stats": True}),
            (normal((*batched[:-1], 0)), (3,), {"track_running_stats": True}),
            (normal((1, *batched[1:])), (3,), {"affine": True, "track_running_stats": True}),
            (ties(*batched), (3,), {"affine": True, "eps": 0.0}),
        )
    ],
    *layers(
        "LocalResponseNorm",
        (normal((2, 5, 3)), (2,)),
        (normal((2, 5, 3)), (3,), {"alpha": 0.7}),
        (normal((2, 5, 3, 2)), (3, 0.5, 0.6, 2.0)),
        (normal((2, 5, 3, 2)), (4,), {"alpha": 2.0, "beta": 1.0}),
        (normal((2, 4, 2, 2, 3)), (5,), {"alpha": 1.0}),
        (normal((1, 4, 2, 1, 2, 2)), (2,), {"alpha": 1.0}),
        (normal((2, 3, 3)), (9,), {"alpha": 1.0}),
        (normal((2, 1, 3)), (2,), {"alpha": 1.0}),
        (normal((2, 5, 3)), (1,), {"alpha": 1.0}),
        (normal((2, 5, 3)), (), {"size": 3, "k": 0.5, "beta": -0.5, "alpha": 0.3}),
        (normal((2, 5, 3)), (3,), {"beta": 0.0}),
        (normal((0, 5, 3)), (3,)),
        (normal((2, 5, 0)), (3,)),
        (ties(2, 5, 3), (3,), {"alpha": 1.0, "k": 0.1}),
        (special(2, 5, 2), (3,), {"alpha": 1.0}),
    ),
    *layers(
        "CrossMapLRN2d",
        (normal((2, 5, 2, 2)), (3,)),
        (normal((2, 5, 2, 2)), (3,), {"alpha": 0.7}),
        (normal((2, 8, 2, 2)), (5, 0.5, 0.6, 2.0)),
        (normal((2, 8, 1, 2)), (2,), {"alpha": 1.0}),
        (normal((2, 8, 1, 2)), (4,), {"alpha": 1.0, "beta": 1.0}),
        (normal((2, 3, 1, 2)), (7,), {"alpha": 1.0}),
        (normal((2, 3, 1, 2)), (12,), {"alpha": 1.0}),
        (normal((2, 1, 2, 2)), (3,), {"alpha": 1.0}),
        (normal((2, 9, 1, 1)), (), {"size": 6, "k": 3, "alpha": 2.0, "beta": -0.5}),
        (normal((0, 4, 2, 2)), (3,)),
        (normal((2, 4, 0, 2)), (3,)),
        (ties(2, 8, 1, 2), (3,), {"alpha": 1.0, "k": 0.5}),
    ),
]

FUNCTIONS: list[Function] = [
    *functions(
        "batch_norm",
        (stats(3, 4, 3), {"training": False}),
        (stats(3, 4, 3, 2), {"eps": 0.0}),
        (stats(3, 4, 3, 2), {"training": True, "momentum": 0.0}),
        (then(normal((4, 3)), None, None), {"training": True}),
        (lambda rng: (*stats(3, 4, 3)(rng), rng.normal(size=3), rng.normal(size=3)), {"training": False}),
        (lambda rng: (*stats(3, 4, 3)(rng), None, rng.normal(size=3)), {"training": True}),
    ),
    *functions(
        "instance_norm",
        (normal((2, 3, 4)),),
        (stats(3, 2, 3, 4), {"use_input_stats": False}),
        (stats(3, 2, 3, 4), {"use_input_stats": True, "momentum": 0.0}),
        (stats(3, 2, 3), {"use_input_stats": False, "eps": 0.1}),
        (stats(3, 2, 3, 1), {"use_input_stats": False}),
        (lambda rng: (*then(normal((2, 3, 4)), None, None)(rng), rng.normal(size=3), rng.normal(size=3)),),
        (lambda rng: (*then(normal((2, 3, 4, 2)), None, None, None)(rng), rng.normal(size=3)),),
        (normal((2, 3, 2, 1, 2, 2)),),
    ),
    *functions(
        "group_norm",
        (normal((2, 4, 3)), {"num_groups": 2}),
        (lambda rng: (rng.normal(size=(2, 4)), 2, rng.normal(size=4)), {"eps": 0.1}),
        (lambda rng: (rng.normal(size=(2, 4, 2)), 4, rng.normal(size=4), rng.normal(size=4)),),
    ),
    *functions(
        "layer_norm",
        (normal((2, 4)), {"normalized_shape": (4,)}),
        (lambda rng: (rng.normal(size=(2, 3, 4)), [3, 4], None, rng.normal(size=(3, 4))), {"eps": 0.1}),
        (lambda rng: (rng.normal(size=(2, 4)), (4,), rng.normal(size=4), rng.normal(size=4)),),
    ),
    *functions(
        "rms_norm",
        (normal((2, 4)), {"normalized_shape": (4,)}),
        (lambda rng: (rng.normal(size=(2, 3, 4)), [3, 4], rng.normal(size=(3, 4))), {"eps": 0.1}),
    ),
    *functions("local_response_norm", (normal((2, 4, 3)), {"size": 2, "alpha": 1.0})),
]


@st.composite
def group_norms(draw):
    groups, per_group = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 3)), groups * per_group, *draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)), 2)
    kwargs = {"affine": draw(st.booleans()), "bias": draw(st.booleans()), "eps": draw(st.sampled_from([1e-5, 0.1]))}
    return Layer("GroupNorm", normal(shape), (groups, groups * per_group), kwargs)


@st.composite
def response_norms(draw, name, most_axes):
    spatial = draw(st.lists(st.integers(1, 3), min_size=min(most_axes, 1), max_size=most_axes))
    spatial = spatial if name == "LocalResponseNorm" else (2, 1)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 9)), *spatial)
    arguments = draw(st.integers(2, 8)), draw(st.floats(0.1, 2)), draw(st.floats(0.1, 1)), draw(st.floats(0.5, 2))
    return Layer(name, normal(shape), arguments)


@st.composite
def trailing_norms(draw, name):
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    features = shape[draw(st.integers(0, len(shape) - 1)) :]
    kwargs = {"eps": draw(st.sampled_from([1e-5, 0.1])), "elementwise_affine": draw(st.booleans())}
    return Layer(name, normal(shape), (features,), kwargs)


SWEEPS: list[Sweep] = [
    Sweep("GroupNorm", group_norms()),
    Sweep("LocalResponseNorm", response_norms("LocalResponseNorm", 3)),
    Sweep("CrossMapLRN2d", response_norms("CrossMapLRN2d", 2)),
    Sweep("LayerNorm", trailing_norms("LayerNorm")),
    Sweep("RMSNorm", trailing_norms("RMSNorm")),
]

INTEGERS = given([[1, 2, 3], [4, 5, 6]])
REJECTED: list[Rejected] = [
    *rejected(
        "BatchNorm1d",
        ((3,), {}, (2, 3, 4, 4), r"expected 2D or 3D input, got 4D input of shape \(2, 3, 4, 4\)"),
        ((3,), {}, (1, 3), r"more than 1 value per channel .* shape \(1, 3\)"),
        ((3,), {"eps": 0.0}, (2, 3), "eps must be positive .* got 0"),
        ((3,), {"eps": -1.0}, (2, 3), "eps must be positive .* got -1"),
        ((3,), {}, INTEGERS, "got int"),
        ((0,), {}, (2, 0), r"got an input of shape \(2, 0\)"),
        ((3,), {}, (3,), "expected 2D or 3D input, got 1D"),
    ),
    *rejected(
        "BatchNorm2d",
        ((3,), {}, (2, 3), "expected 4D input, got 2D"),
        ((3,), {}, (2, 4, 5, 5), r"has the shape \(3,\), but an input of shape \(2, 4, 5, 5\)"),
        ((-3,), {}, None, "num_features must not be negative, got -3"),
    ),
    *rejected(
        "BatchNorm3d",
        ((3,), {}, (2, 3, 4, 4), "expected 5D input, got 4D"),
        ((3,), {}, (2, 4, 2, 2, 2), r"has the shape \(3,\), but an input of shape \(2, 4, 2, 2, 2\)"),
        ((3,), {}, (1, 3, 1, 1, 1), r"more than 1 value per channel .* shape \(1, 3, 1, 1, 1\)"),
    ),
    *rejected(
        "SyncBatchNorm",
        ((3,), {}, (2,), r"got shape \(2,\)"),
        ((0,), {}, (2, 0), r"got shape \(2, 0\)"),
        ((3,), {}, (1, 3), r"more than 1 value per channel .* shape \(1, 3\)"),
        ((3,), {}, (2, 4), r"has the shape \(3,\), but an input of shape \(2, 4\)"),
    ),
    *rejected(
        "GroupNorm",
        ((2, 3), {}, None, "num_channels=3 must be divisible by num_groups=2"),
        ((0, 3), {}, None, "num_groups must be positive, got 0"),
        ((-1, 3), {}, (2, 3), "got num_groups=-1"),
        ((2, -4), {}, None, "num_channels must not be negative, got -4"),
        ((2, 4), {}, (2, 6), r"has the shape \(4,\), but an input of shape \(2, 6\)"),
        ((2, 4), {"affine": False}, (2, 5), "num_groups=2 for 5 channels"),
        ((2, 4), {}, (4,), r"got an input of shape \(4,\)"),
        ((2, 2), {}, (1, 2), r"more than 1 value .* shape \(1, 2\)"),
        ((3, 3), {}, INTEGERS, "dtype int"),
        ((3, 3), {"affine": False}, INTEGERS, "got int"),
    ),
    *rejected(
        "LayerNorm",
        ((3,), {}, (2, 4), r"shape \(\*, 3\), got \(2, 4\)"),
        (((2, 3),), {}, (3,), r"shape \(\*, 2, 3\), got \(3,\)"),
        (((),), {}, (3,), r"at least one axis, got \(\)"),
        ((-3,), {}, None, "got -3"),
        ((3.0,), {}, None, r"got 3\.0"),
        ((3,), {}, INTEGERS, "dtype int"),
        ((3,), {"elementwise_affine": False}, INTEGERS, "got int"),
    ),
    *rejected(
        "RMSNorm",
        ((3,), {}, (2, 4), r"shape \(\*, 3\), got \(2, 4\)"),
        (((2, 3),), {}, (3,), r"shape \(\*, 2, 3\), got \(3,\)"),
        (((),), {}, (3,), r"at least one axis, got \(\)"),
        ((-3,), {}, None, "got -3"),
        ((3.0,), {}, None, r"got 3\.0"),
        ((3,), {"elementwise_affine": False}, INTEGERS, "got int"),
    ),
    *rejected(
        "InstanceNorm1d",
        ((3,), {}, (2, 3, 1), r"more than 1 spatial element .* shape \(2, 3, 1\)"),
        ((3,), {}, (2, 3, 4, 4), "expected 2D or 3D input, got 4D"),
        ((3,), {"affine": True}, (2, 4, 2), r"expected 3 channels, got an input of shape \(2, 4, 2\)"),
        ((-3,), {"affine": True}, None, "num_features must not be negative, got -3"),
        ((-3,), {"track_running_stats": True}, None, "num_features must not be negative, got -3"),
        ((2,), {}, INTEGERS, "got int"),
    ),
    *rejected(
        "InstanceNorm2d",
        ((3,), {}, (3, 1, 1), "more than 1 spatial element"),
        ((3,), {}, (3, 4), "expected 3D or 4D input, got 2D"),
        ((3,), {"affine": True}, (4, 2, 2), "expected 3 channels"),
    ),
    *rejected(
        "InstanceNorm3d",
        ((3,), {}, (2, 3, 1, 1, 1), "more than 1 spatial element"),
        ((3,), {}, (3, 4, 4), "expected 4D or 5D input, got 3D"),
        ((3,), {"affine": True}, (4, 2, 2, 2), "expected 3 channels"),
    ),
    *rejected(
        "LocalResponseNorm",
        ((2,), {}, (2, 3), r"got an input of shape \(2, 3\)"),
        ((0,), {}, (2, 3, 4), "size must be positive, got 0"),
        ((-1,), {}, (2, 3, 4), "size must be positive, got -1"),
        ((2.0,), {}, (2, 3, 4), r"size must be an int, got 2\.0"),
    ),
    *rejected(
        "CrossMapLRN2d",
        ((3,), {}, (2, 3, 4), "expected 4D input, got 3D"),
        ((0,), {}, (2, 3, 4, 4), "size must be positive, got 0"),
        ((3,), {}, (2, 0, 4, 4), r"got an input of shape \(2, 0, 4, 4\)"),
        ((3,), {}, given([[[[1, 2]]]]), "got int"),
    ),
    *rejected(
        "batch_norm",
        ((), {"running_mean": None, "running_var": None, "training": True}, (4,), r"got an input of shape \(4,\)"),
        ((), {"running_mean": None, "running_var": None}, (4, 2), "got None"),
        ((), {"training": True}, then(normal((4, 2)), [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]), r"shape \(3,\)"),
        ((), {}, then(normal((4, 2)), [1.0, 1.0], [1.0, 1.0], [1.0]), r"weight has the shape \(1,\)"),
        ((), {"eps": -1.0}, then(normal((4, 2)), [1.0, 1.0], [1.0, 1.0]), "got -1"),
    ),
    *rejected(
        "instance_norm",
        ((), {}, (2, 3), r"spatial element .* shape \(2, 3\)"),
        ((), {"use_input_stats": False}, (2, 3, 4), "got None"),
        ((), {}, then(normal((2, 3, 4)), [1.0, 1.0, 1.0], None), "got one None"),
        ((), {}, then(normal((2, 3, 4)), [1.0], [1.0]), r"running_mean has the shape \(1,\)"),
        ((), {}, then(normal((2, 3, 4)), None, None, [1.0]), r"weight has the shape \(1,\)"),
    ),
    *rejected("group_norm", ((), {"num_groups": 0}, (2, 3), "got 0")),
    *rejected(
        "layer_norm",
        ((), {"normalized_shape": 3}, (2, 3), "got 3"),
        ((), {}, then(normal((2, 3)), (3,), [1.0, 1.0]), r"weight has the shape \(2,\)"),
        ((), {}, then(normal((2, 3)), (3,), None, [1.0, 1.0]), r"bias has the shape \(2,\)"),
    ),
    *rejected(
        "rms_norm",
        ((), {"normalized_shape": 3}, (2, 3), "got 3"),
        ((), {}, then(normal((2, 3)), (3,), [1.0, 1.0]), r"got \(2,\)"),
    ),
]
