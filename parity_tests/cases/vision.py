"""Cases of rearranging and resizing images, and of distances."""

import dataclasses
import functools
import math
import warnings

import numpy as np
import torch
from hypothesis import strategies as st

from cases.common import Function, Layer, Rejected, Sweep, functions, given, layers, normal, rejected, ties
from flaxnets.parity import Constant

INF = math.inf
LENGTH, IMAGE, VOLUME = normal((2, 2, 5)), normal((2, 2, 4, 5)), normal((1, 2, 3, 4, 2))


def special(*shape):
    """Draw normal values with one infinity and one NaN. No gradients, because all of them would be NaN."""

    def make(rng):
        array = rng.normal(size=shape)
        array.flat[3], array.flat[-2] = np.inf, np.nan
        return (Constant(array),)

    return make


def constant(*shape):
    """Draw normal values without gradients, where torch has none."""
    return lambda rng: (Constant(rng.normal(size=shape)),)


def complex_constants(*shapes):
    """Draw complex values without gradients: JAX's gradient is the conjugate of torch's."""
    return lambda rng: tuple(Constant(rng.normal(size=shape) + 1j * rng.normal(size=shape)) for shape in shapes)


def points(shape, *count, reach=1.3):
    """Draw an input, and points outside, at the borders, in the center and at centers of pixels."""
    n = len(shape) - 2

    def make(rng):
        grid = rng.uniform(-reach, reach, (shape[0], *count, n))
        grid.reshape(shape[0], -1)[:, :6] = -1, 1, 0, -0.5, 0.5, 1.75
        return rng.normal(size=shape), grid

    return make


def exact_points(shape, align_corners):
    """Draw an input, and points on pixels, between them and far outside. No gradients: these are one-sided there."""
    n = len(shape) - 2

    def make(rng):
        sizes = np.array(shape[:1:-1])
        pixels = rng.integers(-7, 15, (shape[0], *(5,) * n, n)) / 2
        grid = pixels * 2 / (sizes - 1) - 1 if align_corners else (2 * pixels + 1) / sizes - 1
        return rng.normal(size=shape), Constant(grid)

    return make


def not_finite(shape):
    """Draw an input, and points with coordinates that are not finite."""
    n = len(shape) - 2
    grid = np.array([np.nan, np.inf, -np.inf, 0.3, 0.2, np.nan]).reshape(1, *(1,) * (n - 1), -1, n)
    return lambda rng: (Constant(rng.normal(size=shape)), Constant(grid))


@dataclasses.dataclass(frozen=True)
class Deprecated(Function):
    """A function, or a default value, about which torch warns."""

    def pair(self):
        expected, found = super().pair()
        expected.forward = functools.partial(_quietly, getattr(torch.nn.functional, self.name))
        return expected, found

    def __str__(self):
        return super().__str__()


def _quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*args, **kwargs)


LAYERS: list[Layer] = [
    *layers(
        "PixelShuffle",
        (normal((2, 8, 2, 3)), (2,)),
        (normal((9, 2, 1)), (3,)),
        (normal((2, 3, 4, 1, 2)), (), {"upscale_factor": 2}),
        (normal((2, 3, 2, 2)), (1,)),
        (constant(0, 4, 2, 2), (2,)),
        (constant(1, 0, 2, 2), (2,)),
        (normal((1, 16, 1, 1)), (4,)),
        (given([[[1, 2]], [[3, 4]], [[5, 6]], [[7, 8]]]), (2,)),
        (special(4, 2, 2), (2,)),
    ),
    *layers(
        "PixelUnshuffle",
        (normal((2, 3, 4, 6)), (2,)),
        (normal((2, 3, 6)), (3,)),
        (normal((2, 3, 1, 2, 4)), (), {"downscale_factor": 2}),
        (normal((2, 3, 2, 2)), (1,)),
        (constant(0, 2, 4, 4), (2,)),
        (constant(1, 0, 4, 4), (2,)),
        (normal((1, 1, 4, 4)), (4,)),
        (given([[[1, 2], [3, 4]]]), (2,)),
        (special(1, 4, 2), (2,)),
    ),
    *layers(
        "ChannelShuffle",
        (normal((2, 6, 3)), (2,)),
        (normal((2, 6, 3, 2)), (3,)),
        (normal((2, 6, 1, 3, 2)), (), {"groups": 6}),
        (normal((2, 6, 3)), (1,)),
        (normal((0, 4, 3)), (2,)),
        (normal((2, 4, 0)), (2,)),
        (normal((1, 12, 1)), (4,)),
        (given([[[1], [2], [3], [4]]]), (2,)),
        (special(1, 4, 2), (2,)),
    ),
    *layers(
        "Upsample",
        (LENGTH, (8,)),
        (IMAGE, ((7, 3),)),
        (VOLUME, (5,)),
        (IMAGE, (None, 2)),
        (IMAGE, (), {"scale_factor": 2.6}),
        (IMAGE, (), {"scale_factor": (0.5, 3)}),
        (LENGTH, ([3],), {"mode": "nearest-exact"}),
        (LENGTH, (None, 1.7, "linear")),
        (LENGTH, (9, None, "linear", True)),
        (IMAGE, (None, (1.5, 2.3), "bilinear", False)),
        (IMAGE, (None, (1.5, 2.3), "bilinear", None, True)),
        (IMAGE, (None, 1.7, "bicubic", True, False)),
        (VOLUME, ((2, 6, 5), None, "trilinear")),
        (VOLUME, (), {"scale_factor": 1.5, "mode": "trilinear", "align_corners": True}),
        (IMAGE, (), {"scale_factor": 0.7, "mode": "area"}),
        (normal((0, 2, 3)), (5,), {"mode": "linear"}),
        (special(1, 1, 5), (8,), {"mode": "linear"}),
        (special(1, 1, 4, 3), (None, 2), {"mode": "bicubic"}),
        (special(1, 1, 4, 3), (None, 2), {"mode": "nearest"}),
    ),
    *layers(
        "UpsamplingNearest2d",
        (IMAGE, (7,)),
        (IMAGE, ((7, 3),)),
        (IMAGE, (None, 2)),
        (IMAGE, (), {"scale_factor": (0.6, 2.5)}),
        (IMAGE, (), {"size": (4, 5)}),
        (LENGTH, (7,)),
        (VOLUME, (None, 2.0)),
        (normal((0, 2, 3, 3)), (2,)),
    ),
    *layers(
        "UpsamplingBilinear2d",
        (IMAGE, (7,)),
        (IMAGE, ((7, 3),)),
        (IMAGE, (None, 2)),
        (IMAGE, (), {"scale_factor": (0.6, 2.5)}),
        (IMAGE, (), {"size": (4, 5)}),
        (IMAGE, (1,)),
        (normal((1, 2, 1, 1)), (3,)),
        (normal((0, 2, 3, 3)), (2,)),
    ),
    *layers(
        "CosineSimilarity",
        (normal((3, 4), (3, 4)),),
        (normal((3, 4), (3, 4)), (0,)),
        (normal((3, 4, 2), (3, 4, 2)), (), {"dim": -1, "eps": 0.1}),
        (normal((3, 4), (4,)), (1, 1e-6)),
        (normal((4,), (3, 4)),),
        (normal((2, 1, 4), (3, 1)), (2,)),
        (normal((4,), (4,)), (0,)),
        (normal((), ()), (0,), {"eps": 2.0}),
        (normal((0, 4), (0, 4)),),
        (normal((3, 0), (3, 0)),),
        (given([[0.0, 0.0], [1e-9, 0.0], [1.0, 0.0]], [[1.0, 2.0], [3.0, 1.0], [0.0, 0.0]]), (), {"eps": 1e-2}),
        (given([[3.0, 4.0], [0.0, 0.0]], [[1.0, 2.0], [0.0, 0.0]]), (), {"eps": 5.0}),
        (lambda rng: (*special(2, 5)(rng), Constant(rng.normal(size=(2, 5)))),),
        (lambda rng: (rng.normal(size=(2, 3)), rng.integers(-2, 3, (2, 3))),),
    ),
    *layers(
        "PairwiseDistance",
        (normal((3, 4), (3, 4)),),
        (normal((3, 4), (4,)), (1.0,)),
        (normal((4,), (3, 4)), (3.0, 1e-3, True)),
        (normal((2, 3, 4), (2, 3, 4)), (), {"p": 0.5, "keepdim": True}),
        (normal((4,), (4,)), (1.5,)),
        (normal((), ()), ()),
        (normal((3, 4), (3, 4)), (INF,)),
        (normal((3, 4), (3, 4)), (-INF,)),
        (normal((3, 4), (3, 4)), (-1.0,)),
        (normal((0, 4), (0, 4)),),
        (normal((3, 0), (3, 0)), (1.0,)),
        *(
            (lambda rng: (*ties(4, 5)(rng), *ties(4, 5)(rng)), (p, 0.0))
            for p in (0.5, 1.0, 1.5, 2.0, 3.0, INF, -INF, -1.0)
        ),
        *(
            (given([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], [[1.0, 2.0, 3.0], [2.0, -2.0, 2.0]]), (p,), {"eps": 0.0})
            for p in (0.5, 1, 1.5, 2, 3, INF, -INF)
        ),
        (lambda rng: (*special(2, 5)(rng), Constant(rng.normal(size=(2, 5)))), (3.0,)),
        (lambda rng: (*special(2, 5)(rng), Constant(rng.normal(size=(2, 5)))), (INF,)),
        (complex_constants((2, 3), (2, 3)),),
    ),
]

FUNCTIONS: list[Function] = [
    *functions("native_channel_shuffle", (constant(2, 6, 3, 2), {"groups": 3}), (constant(2, 4, 0), {"groups": 2})),
    *functions("channel_shuffle", (normal((2, 6, 3, 2)), {"groups": 3})),
    *functions("pixel_shuffle", (normal((4, 2, 3)), {"upscale_factor": 2})),
    *functions("pixel_unshuffle", (normal((3, 2, 4)), {"downscale_factor": 2})),
    *functions(
        "interpolate",
        *(
            (inputs, {"mode": mode, **options})
            for inputs, mode in (
                (LENGTH, "nearest"),
                (IMAGE, "nearest"),
                (VOLUME, "nearest"),
                (LENGTH, "nearest-exact"),
                (IMAGE, "nearest-exact"),
                (VOLUME, "nearest-exact"),
                (LENGTH, "area"),
                (IMAGE, "area"),
                (VOLUME, "area"),
                (LENGTH, "linear"),
                (IMAGE, "bilinear"),
                (IMAGE, "bicubic"),
                (VOLUME, "trilinear"),
            )
            for options in ({"size": 7}, {"scale_factor": 0.7}, {"scale_factor": 2.3, "recompute_scale_factor": True})
        ),
        *(
            (inputs, {"mode": mode, "align_corners": True, **options})
            for inputs, mode in ((LENGTH, "linear"), (IMAGE, "bilinear"), (IMAGE, "bicubic"), (VOLUME, "trilinear"))
            for options in ({"size": 1}, {"scale_factor": 1.9})
        ),
        *(
            (normal((1, 2, 9, 6)), {"mode": mode, "antialias": True, **options})
            for mode in ("bilinear", "bicubic", "lanczos")
            for options in (
                {"size": (2, 11)},
                {"size": (9, 3)},
                {"scale_factor": (0.3, 0.45)},
                {"scale_factor": 0.4, "recompute_scale_factor": True},
                {"scale_factor": (1.05, 0.5)},
                {"scale_factor": (2.3, 1.0), "align_corners": False},
            )
        ),
        *(
            (normal((1, 2, 9, 6)), {"mode": mode, "antialias": True, "align_corners": True, "size": size})
            for mode in ("bilinear", "bicubic")
            for size in ((2, 11), (1, 6))
        ),
        (IMAGE, {"scale_factor": (1.1, 1.1), "mode": "bicubic"}),
        (IMAGE, {"scale_factor": (1.1, 2.0), "mode": "bicubic"}),
        (IMAGE, {"scale_factor": (1.1, 2.0), "mode": "bilinear"}),
        (IMAGE, {"size": (4, 5), "mode": "bicubic", "align_corners": True}),
        # Torch has no gradients of the next two rows.
        (constant(2, 2, 4, 5), {"size": (0, 2), "mode": "area"}),
        (constant(1, 0, 4), {"size": 2, "mode": "area"}),
        (normal((0, 2, 3, 3)), {"size": 2, "mode": "bicubic"}),
        (special(1, 1, 4, 5), {"size": (2, 7), "mode": "bilinear"}),
        (special(1, 1, 4, 5), {"size": (4, 5), "mode": "bilinear"}),
        (special(1, 1, 4, 5), {"size": (2, 7), "mode": "bicubic"}),
        (special(1, 1, 9, 8), {"size": (3, 3), "mode": "bilinear", "antialias": True}),
        (lambda rng: (rng.integers(0, 256, (1, 2, 3, 4)).astype(np.uint8),), {"scale_factor": 1.6}),
        (lambda rng: (rng.integers(0, 256, (1, 2, 3)).astype(np.uint8),), {"size": 5, "mode": "nearest-exact"}),
    ),
    Deprecated("upsample", IMAGE, {"scale_factor": 2, "mode": "bilinear", "align_corners": True}),
    Deprecated("upsample", LENGTH, {"size": 7}),
    Deprecated("upsample_nearest", IMAGE, {"size": (3, 7)}),
    Deprecated("upsample_nearest", VOLUME, {"scale_factor": 2}),
    Deprecated("upsample_bilinear", IMAGE, {"size": (3, 7)}),
    Deprecated("upsample_bilinear", IMAGE, {"scale_factor": 1.5}),
    *functions(
        "grid_sample",
        *(
            (points(shape, *count), {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners})
            for shape, count, modes in (
                ((2, 9, 3, 4), (3, 5), ("bilinear", "nearest", "bicubic")),
                ((2, 2, 3, 4, 2), (2, 3, 2), ("bilinear", "nearest")),
            )
            for mode in modes
            for padding_mode in ("zeros", "border", "reflection")
            for align_corners in (False, True)
        ),
        *(
            (
                exact_points(shape, align_corners),
                {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners},
            )
            for shape, modes in (
                ((1, 1, 5, 4), ("nearest", "bilinear", "bicubic")),
                ((1, 1, 3, 5, 2), ("nearest", "bilinear")),
            )
            for mode in modes
            for padding_mode in ("zeros", "reflection")
            for align_corners in (False, True)
        ),
        *(
            (points((1, 2, 1, 4), 2, 3), {"padding_mode": padding_mode, "align_corners": align_corners, "mode": mode})
            for padding_mode in ("border", "reflection")
            for align_corners in (False, True)
            for mode in ("bilinear", "bicubic")
        ),
        (points((1, 1, 3, 4), 3, 4, reach=9), {"padding_mode": "reflection", "align_corners": False}),
        (points((1, 1, 3, 4, 3), 2, 2, 2, reach=9), {"padding_mode": "reflection", "align_corners": True}),
        (normal((0, 2, 3, 4), (0, 2, 2, 2)), {"align_corners": False}),
        (normal((1, 2, 3, 4), (1, 0, 2, 2)), {"align_corners": False}),
        (normal((1, 0, 3, 4), (1, 1, 2, 2)), {"align_corners": False}),
        *(
            (
                not_finite(shape),
                {"mode": mode, "padding_mode": padding_mode, "align_corners": False},
            )
            for shape in ((1, 2, 3, 4), (1, 2, 3, 4, 2))
            for mode in ("bilinear", "nearest")
            for padding_mode in ("zeros", "border", "reflection")
        ),
    ),
    Deprecated("grid_sample", points((1, 2, 3, 4), 2, 3)),
    *functions(
        "affine_grid",
        *(
            (normal(theta), {"size": size, "align_corners": align_corners})
            for theta, size in (
                ((2, 2, 3), (2, 1, 3, 4)),
                ((1, 3, 4), [1, 2, 2, 3, 4]),
                ((2, 2, 3), (2, 3, 5, 2)),
            )
            for align_corners in (False, True)
        ),
        (normal((1, 2, 3)), {"size": (1, 1, 1, 4), "align_corners": False}),
    ),
    Deprecated("affine_grid", normal((1, 2, 3)), {"size": (1, 1, 2, 3)}),
    Deprecated("affine_grid", normal((1, 2, 3)), {"size": (1, 1, 1, 3), "align_corners": True}),
    *functions("cosine_similarity", (normal((3, 4), (3, 4)), {"dim": 0, "eps": 1e-3})),
    *functions("pairwise_distance", (normal((3, 4), (3, 4)), {"p": 1, "eps": 0.0, "keepdim": True})),
    *functions(
        "pdist",
        (normal((4, 3)),),
        *((normal((4, 3)), {"p": p}) for p in (0.0, 0.5, 1, 1.5, 2.5, INF)),
        *((ties(6, 3), {"p": p}) for p in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, INF)),
        *((special(3, 4), {"p": p}) for p in (0.0, 1.0, 2.0, INF)),
        (normal((1, 3)),),
        (constant(0, 3),),  # torch's gradient crashes the process
        (normal((3, 0)),),
    ),
    *functions(
        "normalize",
        (normal((3, 4)),),
        (normal((3, 4)), {"dim": 0, "p": 1}),
        (normal((3, 4, 2)), {"dim": -1, "p": 3.0, "eps": 0.1}),
        (normal((3, 4, 2)), {"dim": (0, 2)}),
        (normal((3, 4)), {"dim": None}),
        (normal((3, 4)), {"p": 0.5}),
        (normal((3, 4)), {"p": -INF}),
        *((ties(4, 3), {"p": p, "eps": 0.5}) for p in (0, 0.5, 1.0, 1.5, 2.0, 3.0, INF)),
        (given([[0.0, 1.0], [0.0, 0.0], [3.0, 4.0]]), {"eps": 1.0}),
        (special(2, 5),),
        (normal((3, 0)),),
        (normal((0, 3)),),
        (complex_constants((2, 3)),),
    ),
]


@st.composite
def resizings(draw, name):
    mode, n = draw(
        st.sampled_from(
            [
                *((mode, n) for mode in ("nearest", "nearest-exact", "area") for n in (1, 2, 3)),
                *(("linear", 1), ("bilinear", 2), ("bicubic", 2), ("trilinear", 3)),
            ]
        )
    )
    spatial = [draw(st.integers(1, 6)) for _ in range(n)]
    kwargs = {"mode": mode}
    if draw(st.booleans()):
        kwargs["size"] = tuple(draw(st.integers(1, 9)) for _ in range(n))
    else:
        kwargs["scale_factor"] = tuple(draw(st.floats(1, 3)) / draw(st.sampled_from([1, size])) for size in spatial)
        kwargs["recompute_scale_factor"] = draw(st.sampled_from([None, False, True]))
    if mode.endswith(("linear", "cubic")):
        kwargs["align_corners"] = draw(st.sampled_from([None, False, True]))
    inputs = normal((draw(st.integers(1, 2)), draw(st.integers(1, 2)), *spatial))
    return Layer(name, inputs, (), kwargs) if name == "Upsample" else Function(name, inputs, kwargs)


@st.composite
def samplings(draw):
    n = draw(st.sampled_from([2, 3]))
    sizes = st.integers(1, 4)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *(draw(sizes) for _ in range(n)))
    grid = (shape[0], *(draw(sizes) for _ in range(n)), n)
    kwargs = {
        "mode": draw(st.sampled_from(["bilinear", "nearest", "bicubic"][: 5 - n])),
        "padding_mode": draw(st.sampled_from(["zeros", "border", "reflection"])),
        "align_corners": draw(st.booleans()),
    }
    return Function("grid_sample", normal(shape, grid), kwargs)


@st.composite
def distances(draw):
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    p, eps = draw(st.floats(0.3, 4)), draw(st.sampled_from([0.0, 1e-6, 0.1]))
    return Layer("PairwiseDistance", normal(shape, shape[draw(st.integers(0, len(shape) - 1)) :]), (p, eps))


SWEEPS: list[Sweep] = [
    Sweep("Upsample", resizings("Upsample")),
    Sweep("interpolate", resizings("interpolate")),
    Sweep("grid_sample", samplings()),
    Sweep("PairwiseDistance", distances()),
]

WHOLE = given([[[[1, 2], [3, 4]]]])
REJECTED: list[Rejected] = [
    *rejected(
        "PixelShuffle",
        ((0,), {}, (1, 4, 4, 4), "upscale_factor must be positive, got 0"),
        ((-1,), {}, (1, 4, 4, 4), "upscale_factor must be positive, got -1"),
        ((2.0,), {}, (1, 4, 4, 4), r"upscale_factor must be an int, got 2\.0"),
        ((2,), {}, (4, 4), r"at least 3 axes, got 2 \(shape \(4, 4\)\)"),
        ((2,), {}, (1, 5, 4, 4), "must divide the channels, got 5"),
    ),
    *rejected(
        "PixelUnshuffle",
        ((0,), {}, (1, 4, 4, 4), "downscale_factor must be positive, got 0"),
        ((-1,), {}, (1, 4, 4, 4), "downscale_factor must be positive, got -1"),
        ((2.0,), {}, (1, 4, 4, 4), r"downscale_factor must be an int, got 2\.0"),
        ((2,), {}, (4, 4), "at least 3 axes, got 2"),
        ((2,), {}, (1, 1, 5, 4), r"must divide height and width, .* shape \(1, 1, 5, 4\)"),
        ((2,), {}, (1, 1, 4, 5), r"must divide height and width, .* shape \(1, 1, 4, 5\)"),
    ),
    *(
        row
        for name in ("ChannelShuffle", "channel_shuffle", "native_channel_shuffle")
        for row in rejected(
            name,
            *(
                ((groups,), {}, shape, message)
                if name == "ChannelShuffle"
                else ((), {"groups": groups}, shape, message)
                for groups, shape, message in (
                    (0, (1, 4, 2), "groups must be positive, got 0"),
                    (-1, (1, 4, 2), "groups must be positive, got -1"),
                    (2, (4, 2), "at least 3 axes, got 2"),
                    (2, (1, 5, 2), "groups=2 must divide the channels, got 5"),
                )
            ),
        )
    ),
    *rejected(
        "Upsample",
        ((), {"scale_factor": [1.5, 2]}, None, r"got the list \[1.5, 2\]"),
        ((), {}, (1, 2, 4), "got None and None"),
        ((3, 2), {}, (1, 2, 4), r"got 3 and 2\.0"),
        ((3,), {"mode": "cubic"}, (1, 2, 4), "got mode='cubic' of 3D"),
        ((3,), {}, (2, 4), "got mode='nearest' of 2D"),
        ((3,), {"align_corners": True}, (1, 2, 4), "mode='nearest' does not support align_corners, got True"),
        ((3,), {"recompute_scale_factor": True}, (1, 2, 4), "got size=3"),
        (((3, 4),), {}, (1, 2, 4), r"got \(3, 4\)"),
    ),
    *rejected("UpsamplingNearest2d", ((0,), {}, (1, 2, 4, 4), "size"), ((), {}, (1, 2, 4, 4), "got None and None")),
    *rejected("UpsamplingBilinear2d", ((3,), {}, (1, 2, 3), "got mode='bilinear' of 3D")),
    *rejected(
        "interpolate",
        ((), {"size": 2, "scale_factor": 2}, (1, 2, 4), "got 2 and 2"),
        ((), {"size": (2,)}, (1, 2, 4, 4), r"got \(2,\)"),
        ((), {"scale_factor": (2, 2, 2)}, (1, 2, 4, 4), r"got \(2, 2, 2\)"),
        ((), {"size": 2.5}, (1, 2, 4, 4), r"got 2\.5"),
        ((), {"size": (2.5, 2)}, (1, 2, 4, 4), r"got \(2\.5, 2\)"),
        ((), {"size": 0}, (1, 2, 4, 4), r"size \(0, 0\)"),
        ((), {"size": -1}, (1, 2, 4), r"size \(-1,\)"),
        ((), {"size": -1, "mode": "area"}, (1, 2, 4), "-1"),
        ((), {"size": 2, "mode": "area"}, (1, 2, 0), "0"),
        ((), {"scale_factor": 0.1}, (1, 2, 4), r"size \(0,\)"),
        ((), {"scale_factor": 0.0}, (1, 2, 4), r"size \(0,\)"),
        ((), {"scale_factor": -1.0}, (1, 2, 4), r"size \(-4,\)"),
        ((), {"size": 2}, (1, 0, 4), r"shape \(1, 0, 4\)"),
        ((), {"size": 2}, (1, 2, 0), r"shape \(1, 2, 0\)"),
        ((), {"size": 2}, (1, 1, 1, 1, 1, 1), "of 6D"),
        ((), {"size": 2, "mode": "linear"}, (1, 2, 4, 4), "got mode='linear' of 4D"),
        ((), {"size": 2, "mode": "trilinear"}, (1, 2, 4, 4), "got mode='trilinear' of 4D"),
        ((), {"size": 2, "mode": "bicubic"}, (1, 2, 4), "got mode='bicubic' of 3D"),
        ((), {"size": 2, "mode": "foo"}, (1, 2, 4, 4), "got mode='foo'"),
        ((), {"size": 2, "mode": "area", "align_corners": False}, (1, 2, 4), "align_corners, got False"),
        ((), {"size": 2, "antialias": True}, (1, 2, 4, 4), "got 4D and 'nearest'"),
        ((), {"size": 2, "antialias": True, "mode": "bilinear"}, (1, 2, 4), "got 3D and 'bilinear'"),
        ((), {"size": 2, "mode": "lanczos"}, (1, 2, 4, 4), "antialias=False"),
        (
            (),
            {"size": 2, "mode": "lanczos", "antialias": True, "align_corners": True},
            (1, 2, 4, 4),
            "align_corners=True",
        ),
        ((), {"size": 3}, WHOLE, "mode='nearest' does not support int"),
        ((), {"size": 3, "mode": "bicubic"}, WHOLE, "mode='bicubic' does not support int"),
        ((), {"size": 3, "mode": "area"}, WHOLE, "int"),
    ),
    *rejected(
        "grid_sample",
        ((), {"mode": "cubic", "align_corners": False}, normal((1, 1, 3, 3), (1, 2, 2, 2)), "got 'cubic'"),
        ((), {"padding_mode": "wrap", "align_corners": False}, normal((1, 1, 3, 3), (1, 2, 2, 2)), "got 'wrap'"),
        ((), {"align_corners": False}, normal((1, 1, 3, 3), (2, 2, 2, 2)), r"a grid of shape \(2, 2, 2, 2\)"),
        ((), {"align_corners": False}, normal((1, 1, 3, 3), (1, 2, 2, 3)), r"a grid of shape \(1, 2, 2, 3\)"),
        ((), {"align_corners": False}, normal((1, 1, 3, 3), (1, 2, 2)), r"a grid of shape \(1, 2, 2\)"),
        ((), {"align_corners": False}, normal((1, 1, 3), (1, 2, 1)), r"an input of shape \(1, 1, 3\)"),
        ((), {"align_corners": False}, normal((1, 1, 0, 3), (1, 2, 2, 2)), r"not empty, got .* \(1, 1, 0, 3\)"),
        ((), {"mode": "bicubic", "align_corners": False}, normal((1, 1, 3, 3, 3), (1, 2, 2, 2, 3)), "'bicubic'"),
        ((), {"align_corners": False}, given([[[[1.0]]]], [[[[1, 1]]]]), "got float32 and int"),
        ((), {"align_corners": False}, given([[[[1]]]], [[[[1, 1]]]]), "got int"),
    ),
    *rejected(
        "affine_grid",
        ((), {"size": (1, 1, 2), "align_corners": False}, (1, 2, 3), r"got \(1, 1, 2\)"),
        ((), {"size": (1, 1, 2, 2), "align_corners": False}, (1, 2, 4), r"got \(1, 2, 4\)"),
        ((), {"size": (1, 1, 2, 2), "align_corners": False}, (2, 3), r"got \(2, 3\)"),
        ((), {"size": (1, 1, 2, 2, 2), "align_corners": False}, (1, 2, 3), r"got \(1, 2, 3\)"),
        ((), {"size": (2, 1, 2, 2), "align_corners": False}, (1, 2, 3), "expected 2 matrices .* got 1"),
        ((), {"size": (1, 1, 0, 2), "align_corners": False}, (1, 2, 3), r"positive, got \(1, 1, 0, 2\)"),
        ((), {"size": (1, 1, 2, 2), "align_corners": False}, given([[[1, 0, 0], [0, 1, 0]]]), "got int"),
    ),
    *rejected(
        "CosineSimilarity",
        ((), {}, normal((3,), (3,)), "dim=1 is out of range for an input of 1 axes"),
        ((-3,), {}, normal((2, 3), (2, 3)), "dim=-3"),
        ((), {}, normal((2, 3), (2, 4)), r"\(2, 3\) and \(2, 4\)"),
        ((), {}, given([[1, 2]], [[3, 4]]), "got int.* and int"),
    ),
    *rejected(
        "PairwiseDistance",
        ((), {}, normal((2, 3), (2, 4)), r"\(2, 3\) and \(2, 4\)"),
        ((INF,), {}, normal((2, 0), (2, 0)), r"p=inf is undefined for zero elements, got the shape \(2, 0\)"),
        ((-1.0,), {}, normal((2, 0), (2, 0)), "p=-1.0 is undefined for zero elements"),
    ),
    *rejected(
        "pdist",
        ((), {}, (3,), r"got 1D input of shape \(3,\)"),
        ((), {"p": -1}, (3, 2), "p must not be negative, got -1"),
        ((), {}, given([[1, 2]]), "got int"),
    ),
    *rejected(
        "normalize",
        ((), {}, (3,), "dim=1 is out of range"),
        ((), {"dim": (0, 0)}, (3, 2), r"got dim=\(0, 0\)"),
        ((), {}, given([[1, 2]]), "got int"),
        ((), {"p": INF}, (2, 0), "p=inf"),
    ),
]
