"""Cases of containers and of layers that only change the shape."""

from collections import OrderedDict
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cases.common import Function, Layer, Rejected, Sweep, given, layers, normal, rejected


def _sequential_of_names(nn: Any, **rngs: Any) -> Any:
    return nn.Sequential(OrderedDict(second=nn.Linear(3, 4, **rngs), first=nn.ReLU(), out=nn.Linear(4, 2, **rngs)))


def _sequential_of_twelve(nn: Any, **rngs: Any) -> Any:
    return nn.Sequential(*(nn.Linear(3, 3, **rngs) for _ in range(12)))


def _sequential_sharing(nn: Any, **rngs: Any) -> Any:
    shared = nn.Linear(3, 3, **rngs)
    return nn.Sequential(shared, nn.Sigmoid(), shared, nn.Sequential(shared, nn.ReLU()))


def _data_parallel(nn: Any, **rngs: Any) -> Any:
    return nn.DataParallel(nn.Sequential(nn.Linear(3, 2, **rngs), nn.BatchNorm1d(2)))


def _sequential_rearranged(nn: Any, **rngs: Any) -> Any:
    net = nn.Sequential(nn.Linear(3, 3, **rngs), nn.ReLU(), nn.Linear(3, 2, **rngs))
    net.insert(1, nn.Sigmoid()).append(nn.Flatten())
    del net[2]
    return net


def _sequential_repeated(nn: Any, **rngs: Any) -> Any:
    return 2 * nn.Sequential(nn.Linear(3, 3, **rngs), nn.Sigmoid())


def _sequential_added(nn: Any, **rngs: Any) -> Any:
    return nn.Sequential(nn.Linear(3, 4, **rngs)) + nn.Sequential(nn.ReLU(), nn.Linear(4, 2, **rngs))


def _sequential_sliced(nn: Any, **rngs: Any) -> Any:
    return nn.Sequential(*(nn.Linear(3, 3, **rngs) for _ in range(5)))[1::2]


IMAGE = normal((2, 3, 7, 9))
LAYERS: list[Layer] = [
    *layers(
        "Flatten",
        (IMAGE,),
        (IMAGE, (0, 2)),
        (IMAGE, (), {"start_dim": 2}),
        (normal((3,)), (0,)),
        (IMAGE, (0,)),
        (IMAGE, (-2, -1)),
        (IMAGE, (1, 1)),
        (IMAGE, (), {"start_dim": 1, "end_dim": 2}),
        (normal(()), (0, 0)),
        (normal((0, 3, 2)),),
        (normal((2, 0, 3)), (0, 1)),
        (given(np.arange(12).reshape(2, 3, 2)),),
    ),
    *layers(
        "Unflatten",
        (normal((2, 12)), (1, (3, 4))),
        (normal((2, 12)), (1, [3, 4])),
        (normal((2, 12)), (-1, (2, -1, 3))),
        (normal((2, 12)), (-2, (2, 1))),
        (normal((6,)), (0, (-1,))),
        (normal((2, 6, 3)), (1, (6,))),
        (normal((2, 6, 3)), (), {"dim": 1, "unflattened_size": (3, 2)}),
        (normal((0, 4)), (0, (0, 3))),
        (normal((0, 4)), (1, (2, -1))),
        (normal((0, 4)), (0, (-1, 3))),
        (normal((1,)), (0, (1, 1, 1))),
        (given(np.arange(12).reshape(2, 6)), (1, (2, 3))),
    ),
    Layer("DataParallel", normal((5, 3)), build=_data_parallel),
    Layer("Sequential", normal((2, 3)), build=_sequential_of_names),
    Layer("Sequential", normal((2, 3)), build=_sequential_of_twelve),
    Layer("Sequential", normal((2, 3)), build=_sequential_sharing),
    Layer("Sequential", normal((2, 3)), build=lambda nn, **rngs: nn.Sequential()),
    Layer("Sequential", normal((2, 3)), build=_sequential_rearranged),
    Layer("Sequential", normal((2, 3)), build=_sequential_repeated),
    Layer("Sequential", normal((2, 3)), build=_sequential_added),
    Layer("Sequential", normal((2, 3)), build=_sequential_sliced),
]

FUNCTIONS: list[Function] = []

_sizes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)

SWEEPS: list[Sweep] = [
    Sweep(
        "Flatten",
        st.builds(
            lambda shape, ends: Layer("Flatten", normal(shape), tuple(sorted(end % len(shape) for end in ends))),
            st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple),
            st.tuples(st.integers(0, 3), st.integers(0, 3)),
        ),
    ),
    Sweep(
        "Unflatten",
        st.builds(
            lambda before, sizes, after: Layer(
                "Unflatten", normal((*before, int(np.prod(sizes)), *after)), (len(before), sizes)
            ),
            _sizes,
            _sizes,
            _sizes,
        ),
    ),
]

REJECTED: list[Rejected] = [
    *rejected(
        "Flatten",
        ((3,), {}, (2, 3), r"for an input of shape \(2, 3\), got 3"),
        ((2, 1), {}, (2, 3, 4), "start_dim=2 comes after end_dim=1"),
        ((0, 3), {}, (2, 3), r"for an input of shape \(2, 3\), got 3"),
        ((-3,), {}, (2, 3), r"for an input of shape \(2, 3\), got -3"),
        ((1,), {}, (), r"for an input of shape \(\), got 1"),
    ),
    *rejected(
        "Unflatten",
        ((1, 5), {}, None, "must be a tuple or list of ints, got 5"),
        ((1, (2, "a")), {}, None, "must be ints, got 'a'"),
        ((1, (2.0, 5)), {}, None, "must be ints, got 2.0"),
        (("features", (("C", 2), ("H", 5))), {}, None, r"must be ints, got \('C', 2\)"),
        (("N", (2, 5)), {}, (2, 10), "dim must be an int, got 'N'"),
        ((1, (3, -1)), {}, (2, 10), r"the product of the sizes \(3, -1\) must be"),
        ((1, (4, 3)), {}, (2, 10), r"the product of the sizes \(4, 3\) must be"),
        ((1, (-1, -1)), {}, (2, 10), r"the sizes \(-1, -1\)"),
        ((1, (-2, 5)), {}, (2, 10), r"the sizes \(-2, 5\)"),
        ((1, (-2, -5)), {}, (2, 10), r"the sizes \(-2, -5\)"),
        ((1, ()), {}, (2, 10), r"the sizes \(\)"),
        ((0, (0, -1)), {}, (0, 10), r"the sizes \(0, -1\)"),
        ((2, (2, 5)), {}, (2, 10), r"for an input of shape \(2, 10\), got 2"),
        ((-3, (2, 5)), {}, (2, 10), r"for an input of shape \(2, 10\), got -3"),
        ((0, (1, 1)), {}, (), "the input has no axes, got dim=0"),
    ),
    *rejected("ModuleList", (([3],), {}, None, "got int"), ((3,), {}, None, "got int")),
    *rejected(
        "ModuleDict",
        (({"a": 3},), {}, None, "got int"),
        ((3,), {}, None, "got int"),
        (([3],), {}, None, "element 0 must be a pair, got int"),
        (([("a", 1, 2)],), {}, None, "element 0 must be a pair, got 3 values"),
    ),
    *rejected(
        "ParameterList",
        ((3,), {}, None, "expected an iterable of parameters, got int"),
        (([],), {}, (2,), "should not be called, got 1"),
    ),
    *rejected(
        "ParameterDict",
        ((3,), {}, None, "got int"),
        (([3],), {}, None, "element 0 must be a pair, got int"),
        (([("a", 1, 2)],), {}, None, "element 0 must be a pair, got 3 values"),
        ((), {}, (2,), "should not be called, got 1"),
    ),
    *rejected(
        "Sequential",
        ((3,), {}, None, "expected a Module, got int"),
        (({},), {}, None, "expected a Module, got dict"),
    ),
]
