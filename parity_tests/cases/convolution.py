"""Cases of convolutions, unfolding and folding."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from cases.common import Function, Layer, Maker, Rejected, Sweep, functions, layers, normal, rejected
from flaxnets.parity import Constant

SIZE = (4, 5, 7)


def images(n: int, *others: int) -> Maker:
    """Draw inputs with ``n`` spatial axes after these axes."""
    return normal((*others, *SIZE[-n:]))


def complexes(*shapes: tuple[int, ...]) -> Maker:
    """Draw complex inputs from the normal distribution."""
    return lambda rng: tuple(rng.normal(size=shape) + 1j * rng.normal(size=shape) for shape in shapes)


def constants(*shapes: tuple[int, ...]) -> Maker:
    """Draw complex inputs without gradients: JAX's gradient of a complex product is the conjugate of torch's."""
    return lambda rng: tuple(Constant(array) for array in complexes(*shapes)(rng))


def convolutions(n: int) -> list[Layer]:
    """Return the rows of convolutions for ``n`` spatial axes."""
    name, batch = f"Conv{n}d", images(n, 2, 3)
    return layers(
        name,
        (batch, (3, 4, 3)),
        (images(n, 3), (3, 4, 3)),
        (images(n, 2, 4), (4, 6, 2, 1, 1, 2, 2, False, "circular")),
        (batch, (3, 4, (3, 2, 4)[-n:]), {"stride": (1, 2, 1)[-n:], "padding": (0, 1, 0)[-n:]}),
        (
            batch,
            (3, 4, (2, 3, 1)[-n:]),
            {"stride": (1, 1, 3)[-n:], "padding": (1, 0, 2)[-n:], "dilation": (1, 2, 3)[-n:]},
        ),
        (batch, (3, 4, 3), {"padding": 2, "dilation": 2, "bias": False}),
        (batch, (3, 6, 3), {"groups": 3}),
        (images(n, 2, 4), (4, 2, 2), {"groups": 2, "stride": 2}),
        (batch, (3, 4, 1), {"stride": 3}),
        (batch, (3, 4, (2, 4, 3)[-n:]), {"padding": "same", "dilation": (1, 1, 2)[-n:]}),
        (batch, (3, 4, 4), {"padding": "same"}),
        (batch, (3, 4, 3), {"padding": "valid"}),
        (batch, (3, 4, 3), {"padding": "valid", "padding_mode": "reflect"}),
        (batch, (3, 4, 3), {"padding": (2, 2, 1)[-n:], "padding_mode": "reflect"}),
        (images(n, 3), (3, 4, 2), {"padding": 1, "padding_mode": "reflect"}),
        (batch, (3, 4, 3), {"padding": 1, "padding_mode": "replicate", "stride": 2}),
        (batch, (3, 4, 2), {"padding": 6, "padding_mode": "replicate", "stride": 4}),
        (batch, (3, 4, (2, 4, 3)[-n:]), {"padding": "same", "padding_mode": "circular"}),
        (batch, (3, 4, 3), {"padding": "same", "padding_mode": "replicate", "dilation": 2}),
        (batch, (3, 2, 2), {"padding": -1, "padding_mode": "circular"}),
        (batch, (3, 4, 2), {"stride": (2,), "padding": [1], "dilation": (2,)}),
        (images(n, 0, 3), (3, 4, 3), {"padding": 1}),
        (normal((1, 1, *[3] * n)), (1, 1, 3)),
        (normal((2, 1, *[1] * n)), (1, 2, 1)),
    )


def transposed_convolutions(n: int) -> list[Layer]:
    """Return the rows of transposed convolutions for ``n`` spatial axes."""
    name, batch = f"ConvTranspose{n}d", normal((2, 3, *(2, 3, 4)[-n:]))
    strided = {"stride": (2, 3, 4)[-n:]}
    sizes = [(5, 10, 16), (4, 9, 14), (5, 7, 13)]
    return layers(
        name,
        (batch, (3, 4, 3)),
        (normal((3, *(2, 3, 4)[-n:])), (3, 4, 3)),
        (normal((2, 4, *[3] * n)), (4, 6, 3, 2, 1, 1, 2, False, 2)),
        (batch, (3, 4, (3, 2, 4)[-n:]), {**strided, "padding": (1, 0, 1)[-n:]}),
        (batch, (3, 4, (2, 3, 1)[-n:]), {**strided, "output_padding": (1, 0, 3)[-n:], "dilation": (1, 2, 3)[-n:]}),
        (batch, (3, 4, 2), {"stride": 3, "output_padding": 2, "bias": False}),
        (batch, (3, 4, 2), {"dilation": 3, "output_padding": 2, "padding": 1}),
        (batch, (3, 6, 3), {"groups": 3}),
        (normal((2, 4, *[3] * n)), (4, 2, 2), {"groups": 2, "stride": 2}),
        (normal((2, 2, *[5] * n)), (2, 2, 2), {"padding": 2}),
        (batch, (3, 4, 1), {"stride": 3}),
        (batch, (3, 4, 2), {"stride": (2,), "padding": [1], "output_padding": (1,), "dilation": [2]}),
        (batch, (3, 4, 3), {"padding_mode": "zeros"}),
        (batch, (3, 4, 3), strided, {"output_size": [*sizes[0][-n:]]}),
        (batch, (3, 4, 3), {**strided, "output_padding": 1}, {"output_size": (2, 4, *sizes[0][-n:])}),
        (normal((3, *(2, 3, 4)[-n:])), (3, 4, 2), strided, {"output_size": (4, *sizes[1][-n:])}),
        (normal((3, *(2, 3, 4)[-n:])), (3, 4, 2), {**strided, "bias": False}, {"output_size": sizes[1][-n:]}),
        (batch, (3, 4, 3, (2, 2, 4)[-n:], (0, 0, 1)[-n:]), {}, {"output_size": sizes[2][-n:]}),
        (normal((0, 3, *[2] * n)), (3, 4, 3), {"stride": 2}),
        (normal((1, 1, *[1] * n)), (1, 1, 1)),
    )


LAYERS: list[Layer] = [
    *[row for n in (1, 2, 3) for row in (*convolutions(n), *transposed_convolutions(n))],
    *layers(
        "Unfold",
        (normal((2, 3, 4, 5)), (2,)),
        (normal((3, 4, 5)), (2,)),
        (normal((2, 3, 4, 5)), ((2, 3), (2, 1), (0, 1), (1, 2))),
        (normal((2, 3, 4, 5)), (3,), {"padding": 1}),
        (normal((2, 3, 4, 5)), ([3, 2],), {"stride": 2}),
        (normal((2, 3, 4, 5)), (2,), {"dilation": [2, 3]}),
        (normal((2, 3, 4, 5)), (1,), {"padding": 2, "stride": (3, 4)}),
        (normal((2, 3, 4, 5)), (2,), {"stride": 9}),
        (normal((2, 1, 3, 3)), (3,)),
        (normal((0, 3, 4, 5)), (2,)),
        (normal((1, 1, 1, 1)), (1,)),
        (complexes((2, 2, 3, 3)), (2,)),
    ),
    *layers(
        "Fold",
        (normal((2, 12, 12)), ((4, 5), 2)),
        (normal((12, 12)), ((4, 5), 2)),
        (normal((2, 12, 9)), (4, 2)),
        (normal((2, 12, 6)), ((4, 5), (2, 3), (2, 1), (0, 1), (1, 2))),
        (normal((2, 9, 20)), ((4, 5), 3), {"padding": 1}),
        (normal((2, 12, 2)), ([4, 5], [3, 2]), {"stride": (2, 3)}),
        (normal((2, 4, 4)), ((4, 5), 2), {"dilation": [2, 3]}),
        (normal((2, 3, 9)), ((4, 5), 1), {"padding": 2, "stride": (3, 4)}),
        (normal((2, 4, 1)), ((4, 5), 2), {"stride": 9}),
        (normal((2, 9, 1)), (3, 3)),
        (normal((0, 12, 12)), ((4, 5), 2)),
        (normal((1, 1, 1)), (1, 1)),
        (complexes((2, 4, 4)), (3, 2)),
    ),
]

KERNEL = {n: (4, 3, *[2] * n) for n in (1, 2, 3)}
FUNCTIONS: list[Function] = [
    *functions(
        "conv_tbc",
        (normal((5, 2, 3), (2, 3, 4), (4,)),),
        (normal((5, 2, 3), (3, 3, 4), (4,)), {"pad": 2}),
        (normal((5, 2, 3), (2, 3, 4), (4,)), {"pad": -1}),
        (normal((5, 2, 3), (6, 3, 4), (4,)),),
        (normal((5, 0, 3), (2, 3, 4), (4,)),),
        (normal((0, 2, 3), (2, 3, 4), (4,)), {"pad": 1}),
        (normal((1, 1, 1), (1, 1, 1), (1,)),),
        (constants((5, 2, 3), (2, 3, 4), (4,)), {"pad": 1}),
    ),
    *[
        row
        for n in (1, 2, 3)
        for row in functions(
            f"conv{n}d",
            (normal((2, 3, *SIZE[-n:]), KERNEL[n]),),
            (normal((2, 3, *SIZE[-n:]), KERNEL[n], (4,)), {"stride": [2], "padding": (1,), "dilation": 2}),
            (normal((2, 0, *SIZE[-n:]), (4, 0, *[2] * n), (4,)), {"groups": 2}),
            (normal((0, *SIZE[-n:]), (4, 0, *[3] * n)), {"padding": "same"}),
            (normal((0, 3, *[0] * n), KERNEL[n]), {"padding": 1}),
            (lambda rng, n=n: (rng.integers(-5, 6, (2, 3, *SIZE[-n:])), rng.integers(-5, 6, KERNEL[n])),),
            (constants((2, 6, *SIZE[-n:]), KERNEL[n], (4,)), {"groups": 2, "padding": "same"}),
        )
    ],
    *[
        row
        for n in (1, 2, 3)
        for row in functions(
            f"conv_transpose{n}d",
            (normal((2, 4, *SIZE[-n:]), KERNEL[n]),),
            (normal((2, 4, *SIZE[-n:]), KERNEL[n], (3,)), {"stride": [2], "padding": (1,), "output_padding": 1}),
            (lambda rng, n=n: (rng.integers(-5, 6, (2, 4, *SIZE[-n:])), rng.integers(-5, 6, KERNEL[n])),),
            (constants((2, 4, *SIZE[-n:]), KERNEL[n], (6,)), {"groups": 2, "stride": 2}),
        )
    ],
]


@st.composite
def convolution(draw: Any, n: int, transposed: bool) -> Layer:
    """Draw a convolution whose arguments fit its input."""

    def sizes(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(n))

    kernel, stride, dilation, padding = sizes(1, 3), sizes(1, 3), sizes(1, 2), sizes(0, 2)
    groups = draw(st.integers(1, 2))
    into, out_of = (groups * draw(st.integers(1, 2)) for _ in range(2))
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options["bias"] = draw(st.booleans())
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if transposed:
        options["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
        least = [max(0, 2 * p - r) // s + 1 + (s > 1) for p, r, s in zip(padding, reach, stride, strict=True)]
    else:
        least = [max(1, r + 1 - 2 * p) for p, r in zip(padding, reach, strict=True)]
    size = [m + draw(st.integers(0, 2)) for m in least]
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    name = f"Conv{'Transpose' if transposed else ''}{n}d"
    return Layer(name, normal((*batch, into, *size)), (into, out_of, kernel), options)


@st.composite
def windows(draw: Any, folded: bool) -> Layer:
    """Draw Unfold, or Fold of the result of an Unfold."""
    kernel, dilation, padding, stride = (
        tuple(draw(st.integers(least, most)) for _ in range(2)) for least, most in ((1, 3), (1, 2), (0, 2), (1, 3))
    )
    reach = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = tuple(max(1, r) + draw(st.integers(0, 3)) for r in reach)
    batch = draw(st.sampled_from([(), (2,)]))
    if not folded:
        return Layer("Unfold", normal((*batch, 2, *size)), (kernel, dilation, padding, stride))
    count = np.prod([(s - r) // step + 1 for s, r, step in zip(size, reach, stride, strict=True)])
    columns = (*batch, 2 * int(np.prod(kernel)), int(count))
    return Layer("Fold", normal(columns), (size, kernel, dilation, padding, stride))


SWEEPS: list[Sweep] = [
    *[Sweep(f"Conv{n}d", convolution(n, False)) for n in (1, 2, 3)],
    *[Sweep(f"ConvTranspose{n}d", convolution(n, True)) for n in (1, 2, 3)],
    Sweep("Unfold", windows(False)),
    Sweep("Fold", windows(True)),
]


def rejected_by_every(n: int) -> list[Rejected]:
    """Return the rows that convolutions and transposed convolutions with ``n`` spatial axes both reject."""
    shape = (2, 3, *[6] * n)
    wrong = tuple([1] * (n + 1))
    return [
        row
        for name in (f"Conv{n}d", f"ConvTranspose{n}d")
        for row in rejected(
            name,
            ((3, 4, 3), {"groups": 2}, None, "in_channels=3 must be divisible by groups=2"),
            ((4, 3, 3), {"groups": 2}, None, "out_channels=3 must be divisible by groups=2"),
            ((3, 4, 3), {"groups": 0}, None, "groups must be positive, got 0"),
            ((3, 4, 3), {"groups": 1.0}, None, "must be ints, got 1.0"),
            ((3, 4, 3), {"padding_mode": "mirror"}, None, "got 'mirror'"),
            ((-3, 4, 3), {}, None, "in_channels must not be negative, got -3"),
            ((3, -4, 3), {}, None, "out_channels must not be negative, got -4"),
            ((3, 4, -2), {}, None, r"kernel_size\[0\] must not be negative, got -2"),
            ((3, 4, 2.0), {}, None, "kernel_size must be ints, got 2.0"),
            ((3.0, 4, 2), {}, None, "must be ints, got 3.0"),
            ((3, 4, wrong), {}, shape, r"kernel_size must be one int or \d ints, got \(1, 1"),
            ((3, 4, 2), {"stride": wrong}, shape, r"stride must be one int or \d ints, got \(1, 1"),
            ((3, 4, 2), {"padding": wrong}, shape, r"padding must be one int or \d ints, got \(1, 1"),
            ((3, 4, 2), {"dilation": wrong}, shape, r"dilation must be one int or \d ints, got \(1, 1"),
            ((3, 4, 2), {"stride": ()}, shape, r"stride must be one int or \d ints, got \(\)"),
            ((3, 4, 2), {"stride": 0}, shape, r"stride must be at least 1, got \(0,"),
            ((3, 4, 2), {"padding": -1}, shape, r"padding must be at least 0, got \(-1,"),
            ((3, 4, 2), {"dilation": 0}, shape, r"dilation must be at least 1, got \(0,"),
            ((3, 4, 2), {"stride": 1.0}, shape, "stride must be ints, got 1.0"),
            ((3, 4, 2), {"padding": 1.0}, shape, "padding must be ints, got 1.0"),
            ((3, 4, 2), {"dilation": True}, shape, "dilation must be ints, got True"),
            ((3, 4, 3), {}, (2, 5, *[6] * n), "expected an input of 3 channels, got 5"),
            ((3, 4, 3), {}, (5, *[6] * n), r"channels, got 5 \(input of shape \(5, 6"),
            ((3, 4, 3), {}, (6,) * n, rf"got {n}D input of shape \(6,"),
            ((3, 4, 3), {}, (1, 2, 3, *[6] * n), f"got {n + 3}D input"),
            ((3, 4, 3), {"dilation": 1}, (2, 3, *[0] * n), r"input of shape \(2, 3, 0"),
            ((3, 4, 3), {}, lambda rng, shape=shape: (np.ones(shape, np.int64),), "got int(32|64)"),
        )
    ]


def rejected_by_convolution(n: int) -> list[Rejected]:
    """Return the rows that only convolutions reject, as layers and as functions."""
    tall = (2, 3, *[6] * (n - 1), 4)
    sizes = ", ".join("5" * n) + ("," if n == 1 else "")
    shape, kernel = (1, 4, *[5] * n), (4, 2, *[2] * n)
    return [
        *rejected(
            f"Conv{n}d",
            ((3, 4, 3), {"padding": "full"}, None, "got 'full'"),
            ((3, 4, 3), {"padding": "same", "stride": 2}, None, "requires stride 1, got stride=2"),
            ((3, 4, 5), {}, tall, rf"the kernel \({sizes}\) .* is larger than the padded input"),
            ((3, 4, 3), {"dilation": 3, "padding": 1}, (2, 3, *[4] * n), r"with dilation \(3,.* is larger than"),
            (
                (3, 4, 3),
                {"padding": 9, "padding_mode": "reflect"},
                (1, 3, *[6] * n),
                r"reflect padding \(9, 9\).*too large",
            ),
            ((3, 4, 3), {"padding": 7, "padding_mode": "circular"}, (1, 3, *[6] * n), r"circular padding \(7, 7\)"),
            ((3, 4, 3), {"padding": 1, "padding_mode": "reflect"}, (6,) * n, f"{n}D input of shape"),
            ((3, 4, 3), {"padding": 1, "padding_mode": "circular"}, (1, 1, 3, *[6] * n), f"{n + 3}D input of shape"),
        ),
        *rejected(
            f"conv{n}d",
            ((), {"groups": 3}, normal(shape, kernel), "got groups=3"),
            ((), {"groups": 0}, normal(shape, kernel), "got groups=0"),
            ((), {}, normal((1, 2, *[5] * n), (0, 2, *[2] * n)), r"weight of shape \(0, 2"),
            ((), {}, normal(shape, (4, 4, *[0] * n)), r"kernel size must be positive, .* \(4, 4, 0"),
            ((), {}, normal(shape, (4, 4, *[2] * (n + 1))), f"expected a {n + 2}D weight"),
            (
                (),
                {"groups": 2},
                normal(shape, kernel, (3,)),
                r"expected a bias of shape \(4,\) .* got one of shape \(3,\)",
            ),
            ((), {"groups": 2}, normal(shape, kernel, (4, 1)), r"got one of shape \(4, 1\)"),
            (
                (),
                {"groups": 2, "padding": "same", "stride": 2},
                normal(shape, kernel),
                r"requires stride 1, got stride=\(2,",
            ),
            ((), {"groups": 2, "padding": "full"}, normal(shape, kernel), "got 'full'"),
            (
                (),
                {"groups": 2, "stride": 1.5},
                normal(shape, kernel),
                "stride must be ints, got 1.5",
            ),
        ),
    ]


def rejected_by_transposed_convolution(n: int) -> list[Rejected]:
    """Return the rows that only transposed convolutions reject, as layers and as functions."""
    shape, kernel = (1, 4, *[5] * n), (4, 2, *[2] * n)
    small = (2, 3, *[2] * n)
    return [
        *rejected(
            f"ConvTranspose{n}d",
            ((3, 4, 3), {"padding_mode": "reflect"}, None, "got 'reflect'"),
            ((3, 4, 3), {"padding": "same"}, small, "padding must be ints, got 's'"),
            ((3, 4, 3), {"output_padding": 1}, small, r"output_padding must not be negative, and smaller .* got \(1,"),
            (
                (3, 4, 3),
                {"output_padding": -1},
                small,
                r"output_padding must not be negative, and smaller .* got \(-1,",
            ),
            ((3, 4, 3), {"output_padding": 1.0}, small, "output_padding must be ints, got 1.0"),
            ((3, 4, 2), {"padding": 2}, small, r"the output would have the size \[-1"),
        ),
        *rejected(
            f"conv_transpose{n}d",
            ((), {"groups": 3}, normal(shape, kernel), "got groups=3"),
            ((), {"groups": 0}, normal(shape, kernel), "got groups=0"),
            ((), {}, normal((1, 2, *[5] * n), (2, 0, *[2] * n)), r"not empty, got one of shape \(2, 0"),
            ((), {}, normal(shape, (4, 4, *[0] * n)), r"kernel size must be positive, .* \(4, 4, 0"),
            ((), {}, normal(shape, (4, 4, *[2] * (n + 1))), f"expected a {n + 2}D weight"),
            (
                (),
                {"groups": 2},
                normal(shape, kernel, (2,)),
                r"expected a bias of shape \(4,\) .* got one of shape \(2,\)",
            ),
            ((), {"padding": 2}, normal((1, 1, *[1] * n), (1, 1, *[2] * n)), r"the output would have the size \[-2"),
            ((), {"stride": 2, "output_padding": (1,) * (n + 1)}, normal(shape, kernel), r"got \(1, 1"),
        ),
    ]


REJECTED: list[Rejected] = [
    *[
        row
        for n in (1, 2, 3)
        for row in (*rejected_by_every(n), *rejected_by_convolution(n), *rejected_by_transposed_convolution(n))
    ],
    # Rejected values of output_size, which is an argument of the call.
    *[
        Rejected("ConvTranspose2d", (3, 4, 2, 2, 2), {}, inputs, message)
        for inputs, message in (
            (lambda rng: (np.ones((2, 3, 5, 5)), [5, 5]), r"from \[6, 6\] to \[7, 7\] .* got \(5, 5\)"),
            (lambda rng: (np.ones((2, 3, 5, 5)), [6, 8]), r"got \(6, 8\)"),
            (lambda rng: (np.ones((2, 3, 5, 5)), [7]), r"must have 2 elements, .* got \(7,\)"),
            (lambda rng: (np.ones((2, 3, 5, 5)), [4, 7, 7]), r"got \(4, 7, 7\)"),
            (lambda rng: (np.ones((3, 5, 5)), [2, 4, 7, 7]), r"got \(2, 4, 7, 7\)"),
            (lambda rng: (np.ones((2, 3, 5, 5)), 7), "got 7"),
            (
                lambda rng: (np.ones((2, 3, 5, 5)), [7.0, 7.0]),
                "output_padding must be ints, got 1.0",
            ),
        )
    ],
    *rejected(
        "conv_tbc",
        ((), {}, normal((5, 2, 3), (7, 3, 4), (4,)), r"\(5, 2, 3\), \(7, 3, 4\)"),
        ((), {"pad": -2}, normal((5, 2, 3), (3, 3, 4), (4,)), "pad=-2"),
        (
            (),
            {"pad": (1,)},
            normal((5, 2, 3), (2, 3, 4), (4,)),
            r"pad must be ints, got \(1,\)",
        ),
        ((), {"pad": 1.5}, normal((5, 2, 3), (2, 3, 4), (4,)), "pad must be ints, got 1.5"),
        ((), {"bias": None}, normal((5, 2, 3), (2, 3, 4)), "must be an array, got None"),
        ((), {}, normal((5, 2, 3), (2, 3, 4), (3,)), r"and \(3,\)"),
        ((), {}, normal((5, 2, 3), (2, 3, 4), (4, 1)), r"and \(4, 1\)"),
        ((), {}, normal((5, 2, 2), (2, 3, 4), (4,)), r"\(5, 2, 2\), \(2, 3, 4\)"),
        ((), {}, normal((5, 2), (2, 3, 4), (4,)), r"\(5, 2\), \(2, 3, 4\)"),
        ((), {}, normal((5, 2, 3), (2, 3), (4,)), r"\(5, 2, 3\), \(2, 3\)"),
        ((), {}, lambda rng: (np.ones((5, 2, 3), np.int32), np.ones((2, 3, 4)), np.ones(4)), "got int32"),
    ),
    *rejected(
        "Unfold",
        ((0,), {}, (1, 2, 4, 4), r"kernel_size must be at least 1, got \(0, 0\)"),
        ((2, 0), {}, (1, 2, 4, 4), r"dilation must be at least 1, got \(0, 0\)"),
        ((2, 1, -1), {}, (1, 2, 4, 4), r"padding must be at least 0, got \(-1, -1\)"),
        ((2, 1, 0, 0), {}, (1, 2, 4, 4), r"stride must be at least 1, got \(0, 0\)"),
        (((2,),), {}, (1, 2, 4, 4), r"kernel_size must be one int or 2 ints, got \(2,\)"),
        ((2,), {"dilation": (1, 1, 1)}, (1, 2, 4, 4), r"dilation must be one int or 2 ints, got \(1, 1, 1\)"),
        ((2,), {"padding": (1,)}, (1, 2, 4, 4), r"padding must be one int or 2 ints, got \(1,\)"),
        ((2,), {"stride": ()}, (1, 2, 4, 4), r"stride must be one int or 2 ints, got \(\)"),
        ((2.0,), {}, (1, 2, 4, 4), "kernel_size must be ints, got 2.0"),
        ((True,), {}, (1, 2, 4, 4), "kernel_size must be ints, got True"),
        ((5,), {}, (1, 2, 4, 5), r"larger than the padded input \(input of shape \(1, 2, 4, 5\)\)"),
        ((2, 4), {}, (1, 2, 4, 5), r"larger than the padded input \(input of shape \(1, 2, 4, 5\)\)"),
        ((2,), {}, (4, 5), r"got 2D input of shape \(4, 5\)"),
        ((2,), {}, (5,), r"got 1D input of shape \(5,\)"),
        ((2,), {}, (1, 1, 2, 4, 5), "got 5D input"),
        ((2,), {}, (1, 0, 4, 5), r"got an input of shape \(1, 0, 4, 5\)"),
        ((2,), {"padding": 1}, (1, 2, 0, 5), r"got an input of shape \(1, 2, 0, 5\)"),
        ((2,), {}, (0, 4, 5), r"got an input of shape \(0, 4, 5\)"),
    ),
    *rejected(
        "Fold",
        (((4, 5), 0), {}, (2, 12, 12), r"kernel_size must be at least 1, got \(0, 0\)"),
        (((4, 5), 2, 0), {}, (2, 12, 12), r"dilation must be at least 1, got \(0, 0\)"),
        (((4, 5), 2, 1, -1), {}, (2, 12, 12), r"padding must be at least 0, got \(-1, -1\)"),
        (((4, 5), 2, 1, 0, 0), {}, (2, 12, 12), r"stride must be at least 1, got \(0, 0\)"),
        (((4,), 2), {}, (2, 12, 12), r"output_size must be one int or 2 ints, got \(4,\)"),
        (((4, 5), (2,)), {}, (2, 12, 12), r"kernel_size must be one int or 2 ints, got \(2,\)"),
        (((4, 5), 2.0), {}, (2, 12, 12), "kernel_size must be ints, got 2.0"),
        ((4.0, 2), {}, (2, 12, 12), "output_size must be ints, got 4.0"),
        ((5, 2), {}, (2, 12, 12), r"4 \* 4 columns, got one of shape \(2, 12, 12\)"),
        ((-1, 2), {}, (2, 12, 12), r"output_size \(-1, -1\)"),
        ((0, 2), {"padding": 1}, (2, 12, 1), r"output_size \(0, 0\)"),
        (((1, 4), 2), {}, (2, 12, 3), r"output_size \(1, 4\)"),
        (((4, 5), 2), {}, (2, 11, 12), r"a multiple of 4 rows .* got one of shape \(2, 11, 12\)"),
        (((4, 5), 2), {}, (2, 12, 11), r"3 \* 4 columns, got one of shape \(2, 12, 11\)"),
        (((4, 5), 2), {}, (12,), r"got 1D input of shape \(12,\)"),
        (((4, 5), 2), {}, (1, 2, 12, 12), "got 4D input"),
        (((4, 5), 2), {}, (2, 0, 12), r"got an input of shape \(2, 0, 12\)"),
        (((4, 5), 2), {}, (0, 12), r"got an input of shape \(0, 12\)"),
    ),
]
