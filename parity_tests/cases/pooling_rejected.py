"""Calls of pooling that torch rejects."""

import math

import numpy as np

from cases.common import Maker, Rejected, given, rejected


def windows_rejected(name: str, n: int) -> list[Rejected]:
    """Return the rows that pooling with fixed windows rejects, for any number of dimensions."""
    shape = (1, *[4] * n)
    return rejected(
        name,
        ((2,), {}, (4,) * (n + 3), f"got {n + 3}D input"),
        ((2,), {}, (2, 0, *[4] * n), r"got an input of shape \(2, 0, 4"),
        ((2,), {}, (0, *[4] * n), r"got an input of shape \(0, 4"),
        ((2,), {}, (2, *[4] * (n - 1), 0), r"got an input of shape \(2,.* 0\)"),
        ((2, 1, 2), {}, shape, r"between 0 and half the kernel, got padding \(2"),
        ((2, 1, -1), {}, shape, r"between 0 and half the kernel, got padding \(-1"),
        ((5,), {}, shape, r"the window \(5.* is larger than the input of shape \(1, 4"),
        ((0,), {}, shape, r"kernel_size must be positive, got \(0"),
        ((-1,), {}, shape, r"kernel_size must be positive, got \(-1"),
        ((2, 0), {}, shape, r"stride must be positive, got \(0"),
        ((2, -1), {}, shape, r"stride must be positive, got \(-1"),
        (((2,) * (n + 1),), {}, shape, rf"kernel_size must be one int or {n} ints, got \(2, 2"),
        (((),), {}, shape, rf"kernel_size must be one int or {n} ints, got \(\)"),
        ((2, (1,) * (n + 1)), {}, shape, rf"stride must be one int or {n} ints, got \(1, 1"),
        ((2, 1, (1,) * (n + 1)), {}, shape, rf"padding must be one int or {n} ints, got \(1, 1"),
        ((2.0,), {}, shape, "kernel_size must be ints, got .*2.0"),
        ((None,), {}, shape, "kernel_size must be ints, got .*None"),
        (("a",), {}, shape, "kernel_size must be ints, got .*'a'"),
        ((True,), {}, shape, "kernel_size must be ints, got True"),
        ((2, 1.5), {}, shape, "stride must be ints, got .*1.5"),
        ((2, 1, 0.5), {}, shape, "padding must be ints, got .*0.5"),
        ((2,), {}, given(np.ones(shape, np.complex64)), "got complex64"),
        ((2,), {}, given(np.ones(shape, bool)), "got bool"),
    )


def dilation_rejected(name: str, n: int) -> list[Rejected]:
    return rejected(
        name,
        ((2,), {"dilation": 0}, (1, *[4] * n), r"dilation must be positive, got \(0"),
        ((2,), {"dilation": -1}, (1, *[4] * n), r"dilation must be positive, got \(-1"),
        ((2,), {"dilation": ()}, (1, *[4] * n), rf"dilation must be one int or {n} ints, got \(\)"),
        ((3, 1, 2), {"dilation": 2}, (1, *[8] * n), r"got padding \(2"),
        ((3,), {"dilation": 2}, (1, *[4] * n), r"the window \(3.* is larger"),
        ((2,), {}, (4,) * n, f"got {n}D input"),
    )


def divisor_rejected(name: str, n: int) -> list[Rejected]:
    return rejected(
        name,
        ((2,), {"divisor_override": 0}, (1, *[4] * n), "divisor_override must not be 0"),
        ((2,), {"divisor_override": 2.5}, (1, *[4] * n), "divisor_override must be an int, got 2.5"),
        ((2,), {}, (4,) * n, f"got {n}D input"),
    )


def adaptive_rejected(name: str, n: int) -> list[Rejected]:
    shape, is_max = (1, *[4] * n), "Max" in name
    return rejected(
        name,
        ((2,), {}, (4,) * (n + 3), f"got {n + 3}D input"),
        ((2,), {}, (2, *[4] * (n - 1), 0), r"got an input of shape \(2,.* 0\)"),
        *([((2,), {}, (2, 0, *[4] * n), r"got an input of shape \(2, 0, 4")] if is_max or n == 3 else []),
        ((-1,), {}, shape, "output_size must not be negative, got -1"),
        (((2,) * (n + 1),), {}, (2, *[4] * (n + 1)), rf"output_size must be one int or {n} ints, got .2, 2"),
        (((),), {}, shape, rf"output_size must be one int or {n} ints, got "),
        ((2.0,), {}, shape, "output_size must be ints, got 2.0"),
        ((None,), {}, shape, "output_size must be ints, got None"),
        (("a",), {}, shape, "output_size must be ints, got .*a"),
        (((2.0,) * n,), {}, shape, "output_size must be ints, got 2.0"),
        ((True,), {}, shape, "output_size must be ints, got True"),
        ((2,), {}, given(np.ones(shape, np.int64)), "got int"),
        ((2,), {}, given(np.ones(shape, np.complex64)), "got complex64"),
        ((2,), {}, given(np.ones(shape, bool)), "got bool"),
    )


def fractional_rejected(name: str, n: int) -> list[Rejected]:
    shape = (2, 3, *[6] * n)
    return rejected(
        name,
        ((2,), {}, None, "either output_size or output_ratio, got None and None"),
        ((2, 3, 0.5), {}, None, "either output_size or output_ratio, got 3 and 0.5"),
        ((2,), {"output_ratio": 1.0}, None, "output_ratio must be between 0 and 1, got 1.0"),
        ((2,), {"output_ratio": 0}, None, "output_ratio must be between 0 and 1, got 0"),
        ((2,), {"output_ratio": 1.5}, None, "output_ratio must be between 0 and 1, got 1.5"),
        ((2,), {"output_ratio": (0.5,)}, None, rf"output_ratio must be one number or {n} numbers, got \(0.5,\)"),
        ((2, 3), {"_random_samples": [0.5]}, None, r"_random_samples must be an array or None, got \[0.5\]"),
        ((7, 3), {}, shape, r"the kernel_size \(7, 7.* is too large for an output of size \(3, 3"),
        ((6, 2), {}, shape, r"the kernel_size \(6, 6.* is too large for an output of size \(2, 2"),
        ((2, 6), {}, shape, r"the kernel_size \(2, 2.* is too large for an output of size \(6, 6"),
        ((2, -1), {}, shape, r"output_size must not be negative, got \(-1"),
        (((2,), 3), {}, shape, rf"kernel_size must be one int or {n} ints, got \(2,\)"),
        (((2,) * (n + 1), 3), {}, shape, rf"kernel_size must be one int or {n} ints, got \(2, 2"),
        ((2, (3,)), {}, shape, rf"output_size must be one int or {n} ints, got \(3,\)"),
        ((2, (3,) * (n + 1)), {}, shape, rf"output_size must be one int or {n} ints, got \(3, 3"),
        ((2.0, 3), {}, shape, r"kernel_size must be ints, got 2.0"),
        ((2, 2.5), {}, shape, r"output_size must be ints, got 2.5"),
        ((1, 2), {}, (4,) * n, f"got {n}D input"),
        ((1, 2), {}, (4,) * (n + 3), f"got {n + 3}D input"),
        ((2, 2), {}, (2, 0, *[4] * n), r"got an input of shape \(2, 0, 4"),
        ((2, 2), {}, (2, 3, 0, *[4] * (n - 1)), r"got an input of shape \(2, 3, 0"),
        ((2, 3), {}, given(np.ones(shape, np.int64)), "got int"),
        ((2, 3), {}, given(np.ones(shape, np.complex64)), "got complex64"),
    )


def samples_rejected(n: int) -> list[Rejected]:
    """Return the rows of samples that do not fit the input, for functions, which accept arrays in both libraries."""

    def call(*shape: int) -> Maker:
        return given(np.ones((2, 3, *[6] * n)), 2, 3, None, False, np.zeros(shape))

    return rejected(
        f"fractional_max_pool{n}d",
        ((), {}, call(1, 3, n), rf"expected _random_samples of shape \(2, 3, {n}\).* got \(1, 3, {n}\)"),
        ((), {}, call(2, 4, n), rf"got \(2, 4, {n}\)"),
        ((), {}, call(2, 3, n + 1), rf"got \(2, 3, {n + 1}\)"),
        ((), {}, call(2, 3), r"got \(2, 3\)"),
        ((), {"kernel_size": 2}, (2, 3, *[6] * n), "expected output_size or output_ratio, got None for both"),
        ((), {"kernel_size": 2, "output_ratio": (0.5,)}, (2, 3, *[6] * n), r"one number or . numbers, got \(0.5,\)"),
    )


def unpool_rejected(name: str, n: int) -> list[Rejected]:
    def call(*more: object, of: tuple[int, ...] = (1, 2, *[3] * n), indices: object = None) -> Maker:
        return given(np.ones(of), np.zeros(of, np.int64) if indices is None else indices, *more)

    shape = (1, 2, *[3] * n)
    return rejected(
        name,
        ((2,), {}, call((3,) * n), r"less than a stride \(2.* away from \(6.*, got \(3"),
        ((2,), {}, call((9,) * (n + 2)), r"less than a stride \(2.* away from \(6.*, got \(9"),
        ((2,), {}, call((6,) * (n + 1)), rf"output_size must have {n} or {n + 2} elements, got \(6, 6"),
        ((2,), {}, call(()), rf"output_size must have {n} or {n + 2} elements, got \(\)"),
        ((2,), {}, call(6), "output_size must be a sequence, got 6"),
        ((2,), {}, call((6.5,) * n), r"output_size must be ints, got 6.5"),
        ((2,), {}, call(indices=np.full(shape, 6**n)), rf"indices from 0 to {6**n - 1} .* got {6**n}"),
        ((2,), {}, call(indices=np.full(shape, -2)), rf"indices from 0 to {6**n - 1} .* got -2"),
        ((2,), {}, call(indices=np.zeros(shape)), "expected integer indices, got float32"),
        ((2,), {}, call(indices=np.zeros((1, 1, *[3] * n), np.int64)), r"shape \(1, 2, 3.*got \(1, 1, 3"),
        ((1,), {}, call(of=(2,) * n), f"got {n}D input"),
        ((1,), {}, call(of=(2,) * (n - 1)), f"got {n - 1}D input"),
        ((1,), {}, call(of=(2,) * (n + 3)), f"got {n + 3}D input"),
        ((2,), {}, call(of=(2, 0, *[4] * n)), r"got an input of shape \(2, 0, 4"),
        ((-1,), {}, call(), r"output_size must not be negative, got \(-3"),
        (((2,) * (n + 1),), {}, call(), rf"kernel_size must be one int or {n} ints, got \(2, 2"),
        ((2, ()), {}, call(), rf"stride must be one int or {n} ints, got \(\)"),
        ((2, 2, ()), {}, call(), rf"padding must be one int or {n} ints, got \(\)"),
        ((2.0,), {}, call(), r"kernel_size must be ints, got 2.0"),
        (("a",), {}, call(), r"kernel_size must be ints, got .*'a'"),
        ((2,), {}, given(np.ones(shape, np.int64), np.zeros(shape, np.int64)), "got int"),
        *([((2, 0), {}, call(), r"stride must be positive, got \(0")] if n == 3 else []),
    )


def lp_rejected(name: str, n: int) -> list[Rejected]:
    shape = (1, *[4] * n)
    return rejected(
        name,
        ((0, 2), {}, shape, "zero"),
        ((2, 0), {}, shape, r"kernel_size must be positive, got \(0"),
        ((2, 2, 0), {}, shape, r"stride must be positive, got \(0"),
        ((2, 2, (1,) * (n + 1)), {}, shape, rf"stride must be one int or {n} ints, got \(1, 1"),
        ((2, 9), {}, shape, r"the window \(9.* is larger"),
        ((2, 2.0), {}, shape, "kernel_size must be ints, got 2.0"),
        ((2, None), {}, shape, "kernel_size must be ints, got None"),
        (("a", 2), {}, shape, "could not convert string to float: 'a'"),
        ((None, 2), {}, shape, "not 'NoneType'"),
        ((2, 1), {}, (4,) * n, f"got {n}D input"),
        ((2, 1), {}, (4,) * (n + 3), f"got {n + 3}D input"),
        ((2, (2,) * (n + 1)), {}, shape, rf"kernel_size must be one int or {n} ints, got \(2, 2"),
        ((2, (2,)), {}, shape, r"kernel_size must be .* got \(2,\)"),
        ((2, 2), {}, given(np.ones(shape, np.complex64)), "got complex64"),
    )


REJECTED: list[Rejected] = [
    row
    for n in (1, 2, 3)
    for row in [
        *windows_rejected(f"MaxPool{n}d", n),
        *dilation_rejected(f"MaxPool{n}d", n),
        *windows_rejected(f"AvgPool{n}d", n),
        *(divisor_rejected(f"AvgPool{n}d", n) if n > 1 else []),
        *adaptive_rejected(f"AdaptiveAvgPool{n}d", n),
        *adaptive_rejected(f"AdaptiveMaxPool{n}d", n),
        *(fractional_rejected(f"FractionalMaxPool{n}d", n) if n > 1 else []),
        *(samples_rejected(n) if n > 1 else []),
        *unpool_rejected(f"MaxUnpool{n}d", n),
        *lp_rejected(f"LPPool{n}d", n),
    ]
] + [
    *rejected("AvgPool1d", ((2,), {}, (4,), "expected 2D or 3D input, got 1D")),
    *rejected("AdaptiveMaxPool1d", (((None,),), {}, (1, 4), "output_size must be ints, got None")),
    *rejected("AdaptiveAvgPool1d", (((None,),), {}, (1, 4), "output_size must be ints, got None")),
    *rejected(
        "AdaptiveAvgPool2d",
        ((2,), {}, (4, 4), "expected 3D or 4D input, got 2D"),
        (((2, -1),), {}, (1, 4, 4), r"got .2, -1"),
        (((1, 1),), {}, (4, 4), r"at least 3 axes for the output_size \(1, 1\)"),
        ((1,), {}, (4,), "expected at least 2D input, got 1D"),
    ),
    *rejected("AdaptiveAvgPool3d", (((2, None, 1),), {}, (4, 4, 4), "at least 4 axes"), ((1,), {}, (4, 4), "got 2D")),
    *rejected("AdaptiveMaxPool2d", (((2, None),), {}, (4, 4), "at least 3 axes"), ((1,), {}, (4, 4), "got 2D")),
    *rejected("AdaptiveMaxPool3d", (((2, None, 1),), {}, (4,) * 3, "at least 4 axes"), ((1,), {}, (4,) * 3, "got 3D")),
    *rejected("FractionalMaxPool2d", ((2,), {"output_ratio": (0.5,) * 3}, (1, 6, 6), "one number or 2 numbers")),
    *rejected(
        "FractionalMaxPool3d",
        ((0, 3), {}, None, "kernel_size must be positive, got 0"),
        (((2, 2, -1), 3), {}, None, r"kernel_size must be positive, got \(2, 2, -1\)"),
        ((2, 5), {}, (1, 6, 6, 6), r"the kernel_size \(2, 2, 2\) is too large for an output of size \(5, 5, 5\)"),
    ),
    *rejected("LPPool2d", ((math.inf, (2,)), {}, (1, 4, 4), r"kernel_size must be one int or 2 ints, got \(2,\)")),
]
