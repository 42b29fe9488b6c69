"""Cases of linear layers and embeddings."""

import numpy as np
from hypothesis import strategies as st

from cases.common import (
    Function,
    Layer,
    Maker,
    Rejected,
    Sweep,
    functions,
    given,
    layers,
    normal,
    rejected,
)
from flaxnets.parity import Constant


def complex_normal(*shapes: tuple[int, ...]) -> Maker:
    """Draw complex inputs from the normal distribution."""
    return lambda rng: tuple(rng.normal(size=shape) + 1j * rng.normal(size=shape) for shape in shapes)


def complex_constants(*shapes: tuple[int, ...]) -> Maker:
    """Draw complex inputs without gradients: JAX's gradient of a complex product is the conjugate of torch's."""
    return lambda rng: tuple(Constant(array) for array in complex_normal(*shapes)(rng))


def ids(*shape: int, below: int = 6) -> Maker:
    """Draw indices, with repetitions."""
    return lambda rng: (rng.integers(0, below, shape),)


def bags(*lengths: int, below: int = 6) -> Maker:
    """Draw indices in one row, with the start of each bag of these lengths."""
    starts = np.cumsum([0, *lengths])[:-1]
    return lambda rng: (rng.integers(0, below, sum(lengths)), starts)


def table(maker: Maker, *shape: int) -> Maker:
    """Insert a table after the indices of ``maker``, as the functions expect."""
    return lambda rng: (lambda indices, *rest: (indices, rng.normal(size=shape or (6, 3)), *rest))(*maker(rng))


def repeated(times: int) -> Maker:
    """Repeat each index equally often: otherwise torch's CPU kernel scales the gradient of an embedding bag wrongly."""
    return given(np.tile(np.arange(4), (2, times)))


def weighted(maker: Maker) -> Maker:
    """Append a weight for each index to the indices and offsets of ``maker``."""
    return lambda rng: (lambda indices, *rest: (indices, *(rest or (None,)), rng.normal(size=indices.shape)))(
        *maker(rng)
    )


def tied(*bags: list[int]) -> Maker:
    """Return bags that contain equal values of a table of small integral values."""
    return lambda rng: (np.array(bags), np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [-1.0, -1.0]]))


SPECIAL = np.array([[np.nan, 1, 2], [0, np.nan, 1], [3, 0, np.inf], [1, -np.inf, 2]])
BAG = bags(2, 3, 1)
WEIGHT = np.arange(12.0).reshape(4, 3)

LAYERS: list[Layer] = [
    *layers(
        "Identity",
        (normal((2, 3)),),
        (normal((2, 3)), (54,), {"unused_argument1": 0.1, "unused_argument2": False}),
        (ids(4),),
        (normal(()),),
        (complex_normal((2,)),),
    ),
    *layers(
        "Linear",
        (normal((4, 3)), (3, 5)),
        (normal((3,)), (3, 5)),
        (normal((2, 3, 4, 5)), (5, 1)),
        (normal((4, 3)), (3, 2), {"bias": False}),
        (normal((0, 3)), (3, 2)),
        (normal((4, 3)), (3, 2, False)),
        (normal((1, 1)), (1, 1)),
        (normal((2, 0, 3)), (3, 2)),
        (normal((4, 3)), (), {"in_features": 3, "out_features": 2}),
    ),
    *layers(
        "Bilinear",
        (normal((4, 3), (4, 2)), (3, 2, 5)),
        (normal((3,), (2,)), (3, 2, 5)),
        (normal((2, 3, 4), (2, 3, 5)), (4, 5, 1)),
        (normal((4, 3), (4, 2)), (3, 2, 5), {"bias": False}),
        (normal((4, 3), (4, 2)), (3, 2, 5, False)),
        (normal((0, 3), (0, 2)), (3, 2, 5)),
        (normal((1, 1), (1, 1)), (1, 1, 1)),
        (normal((2, 0, 3), (2, 0, 2)), (3, 2, 5)),
        (normal((4, 3), (4, 2)), (), {"in1_features": 3, "in2_features": 2, "out_features": 2}),
        (normal((1, 2, 1, 3), (1, 2, 1, 3)), (3, 3, 2)),
    ),
    *layers(
        "Embedding",
        (ids(2, 4), (6, 3)),
        (ids(5), (6, 3)),
        (given(np.array(2)), (6, 3)),
        (ids(0), (6, 3)),
        (ids(2, 0), (6, 3)),
        (ids(2, 3, 2), (6, 1)),
        (ids(4), (6, 0)),
        (ids(2, 4), (6, 3), {"padding_idx": 1}),
        (ids(2, 4), (6, 3, 0)),
        (ids(2, 4), (6, 3), {"padding_idx": -1}),
        (ids(2, 4), (6, 3), {"padding_idx": -6}),
        (given(np.array([2, 2])), (6, 3), {"padding_idx": 2}),
        (ids(2, 4), (6, 3), {"scale_grad_by_freq": True}),
        (given(np.array([[1, 1], [1, 3]])), (6, 3), {"scale_grad_by_freq": True, "padding_idx": 3}),
        (ids(2, 4), (6, 3), {"max_norm": 1.0}),
        (ids(2, 4), (6, 3), {"max_norm": 0.5, "norm_type": 1.0}),
        (ids(2, 4), (6, 3), {"max_norm": 0.5, "norm_type": float("inf")}),
        (ids(2, 4), (6, 3), {"max_norm": 2.0, "norm_type": 3.0}),
        (ids(2, 4), (6, 3), {"max_norm": 1.0, "norm_type": 0.0}),
        (ids(2, 4), (6, 3), {"max_norm": 0.0}),
        (ids(2, 4), (6, 3), {"max_norm": 100.0}),
        (ids(2, 4), (6, 3, 2, 1.0, 2.0, True)),
        (ids(0), (6, 3), {"max_norm": 1.0}),
        (ids(3), (), {"num_embeddings": 6, "embedding_dim": 2}),
        (given(np.array([0, 0, 0])), (1, 1)),
        (given(np.array([[1, 2]], np.int32)), (6, 3)),
    ),
    *layers(
        "EmbeddingBag",
        *((ids(2, 4), (6, 3), {"mode": mode}) for mode in ("sum", "mean", "max")),
        *((BAG, (6, 3), {"mode": mode}) for mode in ("sum", "mean", "max")),
        *((bags(0, 2, 0, 3, 0), (6, 3), {"mode": mode}) for mode in ("sum", "mean", "max")),
        *((bags(0, 0), (6, 3), {"mode": mode}) for mode in ("sum", "mean", "max")),
        *((ids(3, 5), (6, 3), {"mode": mode, "padding_idx": 2}) for mode in ("sum", "mean", "max")),
        *((bags(4, 1, 3), (6, 3), {"mode": mode, "padding_idx": -1}) for mode in ("sum", "mean", "max")),
        *((given(np.full((2, 2), 1)), (6, 3), {"mode": mode, "padding_idx": 1}) for mode in ("sum", "mean", "max")),
        *((ids(2, 4), (6, 3), {"mode": mode, "max_norm": 0.7}) for mode in ("sum", "mean", "max")),
        (ids(2, 4), (6, 3), {"max_norm": 0.7, "norm_type": 1.0}),
        (repeated(1), (6, 3), {"scale_grad_by_freq": True}),
        (repeated(2), (6, 3), {"scale_grad_by_freq": True, "mode": "sum"}),
        (given(np.full((2, 3), 5)), (6, 3), {"scale_grad_by_freq": True}),
        *(
            (given(np.array([1, 2, 4, 5, 4]), np.array([0, 2, 2, 5])), (6, 3), {"mode": m, "include_last_offset": True})
            for m in ("sum", "mean", "max")
        ),
        (ids(2, 3), (6, 3), {"include_last_offset": True}),
        (weighted(ids(2, 4)), (6, 3), {"mode": "sum"}),
        (weighted(BAG), (6, 3), {"mode": "sum"}),
        (weighted(bags(0, 4, 2)), (6, 3), {"mode": "sum", "padding_idx": 3}),
        (weighted(repeated(1)), (6, 3), {"mode": "sum", "scale_grad_by_freq": True}),
        (BAG, (6, 3, None, 2.0, False, "sum", False, None, False, 0)),
        (given(np.zeros(0, int), np.zeros(0, int)), (6, 3)),
        (ids(0, 2), (6, 3)),
        (ids(2, 5), (6, 3), {"mode": "sum"}, {"offsets": None, "per_sample_weights": None}),
        (given(np.array([[1, 2]], np.int32)), (6, 3)),
        (ids(2, 2), (6, 1), {"mode": "max"}),
    ),
]


FUNCTIONS: list[Function] = [
    *functions(
        "linear",
        (normal((4, 3), (3,)),),
        (normal((3,), (3,)),),
        (normal((4, 3), (2, 3), ()),),
        (normal((4, 3), (2, 3), (1,)),),
        (normal((2, 4, 3), (2, 3), (2,)),),
        (complex_constants((4, 3), (2, 3)),),
        (complex_constants((4, 3), (2, 3), (2,)),),
    ),
    *functions(
        "bilinear",
        (normal((4, 2), (4, 3), (5, 2, 3)),),
        (normal((4, 2), (4, 3), (5, 2, 3), (5,)),),
        (complex_constants((4, 2), (4, 3), (5, 2, 3)),),
        (complex_constants((4, 2), (4, 3), (5, 2, 3), (5,)),),
    ),
    *functions(
        "embedding",
        (table(ids(2, 3)),),
        (table(ids(2, 3)), {"padding_idx": -2}),
        (table(ids(2, 3)), {"padding_idx": 0, "scale_grad_by_freq": True}),
        (given(np.array([0, 2, 3]), SPECIAL),),
        (given(np.array([0, 2, 3]), SPECIAL), {"padding_idx": 2}),
        (given(np.array([0, 2, 3]), Constant(WEIGHT * 1j)), {"padding_idx": 2}),
    ),
    *functions(
        "embedding_bag",
        (table(ids(2, 3)),),
        (table(BAG), {"mode": "sum"}),
        *((given(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), SPECIAL), {"mode": mode}) for mode in ("sum", "mean", "max")),
        (given(np.array([[0, 1, 3], [1, 0, 3], [3, 0, 1]]), SPECIAL), {"mode": "max", "padding_idx": 1}),
        (given(np.array([[2, 0], [3, 0]]), SPECIAL), {"mode": "max"}),
        (tied([0, 1, 2], [1, 0, 3], [3, 2, 0], [4, 4, 4]), {"mode": "max"}),
        (tied([0, 1, 2], [1, 0, 3], [3, 2, 0], [4, 4, 4]), {"mode": "max", "padding_idx": 3}),
        (
            given(np.array([[1, 2], [2, 2]]), WEIGHT),
            {"mode": "sum", "per_sample_weights": np.array([[0.5, 2], [0, -1]])},
        ),
    ),
    *functions(
        "one_hot",
        (ids(4), {"num_classes": 6}),
        (ids(2, 3), {"num_classes": 9}),
        (given(np.array(1)), {"num_classes": 3}),
        (given(np.zeros(0, int)), {"num_classes": 5}),
        (given(np.zeros((2, 0), int)), {"num_classes": 1}),
        (
            given(np.array([0, 2])),
            {"num_classes": -1},
            {"runs": ("eager",)},
        ),  # under jit the largest class is not known
        (given(np.array(1)), {}, {"runs": ("eager",)}),
        (given(np.array([[0], [0]])), {}, {"runs": ("eager",)}),
    ),
]

_size = st.integers(1, 4)
_batch = st.lists(st.integers(0, 3), max_size=3).map(tuple)

SWEEPS: list[Sweep] = [
    Sweep(
        "Linear",
        st.builds(
            lambda batch, n, m, bias: Layer("Linear", normal((*batch, n)), (n, m), {"bias": bias}),
            _batch,
            _size,
            _size,
            st.booleans(),
        ),
    ),
    Sweep(
        "Bilinear",
        st.builds(
            lambda batch, n, m, out, bias: Layer("Bilinear", normal((*batch, n), (*batch, m)), (n, m, out, bias)),
            _batch,
            _size,
            _size,
            _size,
            st.booleans(),
        ),
    ),
    Sweep(
        "Embedding",
        st.builds(
            lambda shape, rows, size, padding, by_frequency, max_norm: Layer(
                "Embedding",
                ids(*shape, below=rows),
                (rows, size, None if padding is None else padding % (2 * rows) - rows, max_norm),
                {"scale_grad_by_freq": by_frequency},
            ),
            _batch,
            st.integers(1, 6),
            _size,
            st.none() | st.integers(0, 11),
            st.booleans(),
            st.none() | st.sampled_from([0.3, 1.0]),
        ),
    ),
    Sweep(
        "EmbeddingBag",
        st.builds(
            lambda lengths, rows, size, mode, padding: Layer(
                "EmbeddingBag",
                bags(*lengths, below=rows),
                (rows, size),
                {"mode": mode, "padding_idx": None if padding is None else padding % rows},
            ),
            st.lists(st.integers(0, 4), min_size=1, max_size=4),
            st.integers(1, 6),
            _size,
            st.sampled_from(["sum", "mean", "max"]),
            st.none() | st.integers(0, 5),
        ),
        examples=12,
    ),
]

REJECTED: list[Rejected] = [
    *rejected(
        "Linear",
        ((-1, 2), {}, None, "in_features must not be negative, got -1"),
        ((2, -1), {}, None, "out_features must not be negative, got -1"),
        ((3, 2), {}, (4, 5), r"must have 3 features, got an input of shape \(4, 5\)"),
        ((3, 2), {}, (), r"got an input of shape \(\)"),
        ((3, 2), {}, given(np.ones((4, 3), int)), "got int"),
    ),
    *rejected(
        "linear",
        ((), {}, normal((4, 3), (2, 4)), r"a weight of shape \(2, 4\)"),
        ((), {}, normal((4, 3), (2, 2, 3)), r"got a weight of shape \(2, 2, 3\)"),
        ((), {}, normal((4, 3), (3,), ()), r"got a weight of shape \(3,\)"),
        ((), {}, normal((4, 3), (2, 3), (3,)), r"expected a bias of shape \(2,\), got \(3,\)"),
    ),
    *rejected(
        "Bilinear",
        ((-1, 2, 3), {}, None, "in1_features must not be negative, got -1"),
        ((2, -1, 3), {}, None, "in2_features must not be negative, got -1"),
        ((2, 1, -3), {}, None, "out_features must not be negative, got -3"),
        ((0, 2, 3), {}, None, "in1_features must be positive, got 0"),
        ((3, 2, 5), {}, normal((4, 3), (5, 2)), r"got the shapes \(4, 3\) and \(5, 2\)"),
        ((3, 2, 5), {}, normal((4, 3), (2,)), r"got the shapes \(4, 3\) and \(2,\)"),
        ((3, 2, 5), {}, normal((4, 3), (4, 3)), r"expected a weight of shape \(out, 3, 3\), got \(5, 3, 2\)"),
        ((3, 2, 5), {}, normal((4, 2), (4, 2)), r"expected a weight of shape \(out, 2, 2\), got \(5, 3, 2\)"),
        ((3, 2, 5), {}, normal((), ()), r"got the shapes \(\) and \(\)"),
        ((3, 2, 5), {}, given(np.ones((4, 3)), np.ones((4, 2), int)), "got int"),
    ),
    *rejected(
        "bilinear",
        ((), {}, normal((4, 2), (4, 3), (2, 3)), r"expected a weight of shape \(out, 2, 3\), got \(2, 3\)"),
        ((), {}, normal((4, 2), (4, 3), (5, 2, 3), (1,)), r"expected a bias of shape \(5,\), got \(1,\)"),
    ),
    *rejected(
        "Embedding",
        ((-1, 2), {}, None, "num_embeddings must not be negative, got -1"),
        ((3, -2), {}, None, "embedding_dim must not be negative, got -2"),
        ((4, 3), {"padding_idx": 4}, None, "padding_idx must be within num_embeddings=4, got 4"),
        ((4, 3), {"padding_idx": -5}, None, "padding_idx must be within num_embeddings=4, got -5"),
        ((4, 3), {}, given(np.array([0, 4])), "expected indices from 0 to 3, got 4"),
        ((4, 3), {}, given(np.array([0, -1])), "expected indices from 0 to 3, got -1"),
        ((4, 3), {"max_norm": 1.0}, given(np.array([0, 7])), "expected indices from 0 to 3, got 7"),
        ((4, 3), {}, (2,), "expected integer indices, got dtype float32"),
        ((4, 3), {"max_norm": 1.0}, (2,), "expected integer indices, got dtype float32"),
        ((4, 3), {}, given(np.array([True])), "expected integer indices, got dtype bool"),
    ),
    *rejected(
        "embedding",
        ((), {}, given(np.array([1]), np.ones(3)), r"expected a weight of 2 axes, got the shape \(3,\)"),
        ((), {"padding_idx": 4}, given(np.array([1]), WEIGHT), "within num_embeddings=4, got 4"),
        ((), {"padding_idx": -5}, given(np.array([1]), WEIGHT), "within num_embeddings=4, got -5"),
    ),
    *rejected(
        "EmbeddingBag",
        ((-1, 2), {}, None, "num_embeddings must not be negative, got -1"),
        ((4, 3), {"padding_idx": 4}, None, "padding_idx must be within num_embeddings=4, got 4"),
        ((4, 3), {"padding_idx": -5}, None, "padding_idx must be within num_embeddings=4, got -5"),
        ((4, 3), {"mode": "avg"}, given(np.array([[0, 1]])), "got 'avg'"),
        ((4, 3), {}, given(np.array([[0, 4]])), "expected indices from 0 to 3, got 4"),
        ((4, 3), {}, given(np.array([[0, -1]])), "expected indices from 0 to 3, got -1"),
        ((4, 3), {}, given(np.array([0, 1])), "requires offsets of 1 axis, got None"),
        ((4, 3), {}, given(np.array([0, 1]), np.array([[0]])), r"got an array of shape \(1, 1\)"),
        ((4, 3), {}, given(np.array([[0, 1]]), np.array([0])), r"allows no offsets, got offsets of shape \(1,\)"),
        ((4, 3), {}, given(np.array([0, 1]), np.array([1])), "the first offset must be 0, got 1"),
        ((4, 3), {}, given(np.array([0, 1]), np.array([0, 3])), r"up to the length 2 of the input, got \[0, 3\]"),
        ((4, 3), {}, given(np.array([0, 1, 2]), np.array([0, 2, 1])), r"must ascend .*, got \[0, 2, 1\]"),
        ((4, 3), {}, given(np.array([0, 1]), np.array([0.0])), "expected integer indices, got dtype float32"),
        ((4, 3), {}, given(np.zeros((2, 0), int)), r"cannot be empty, got the shape \(2, 0\)"),
        ((4, 3), {}, given(np.array(1), np.array([0])), r"1 or 2 axes, got the shape \(\)"),
        ((4, 3), {}, given(np.array([[[1]]])), r"1 or 2 axes, got the shape \(1, 1, 1\)"),
        ((4, 3), {}, (2, 2), "expected integer indices, got dtype float32"),
        ((4, 3), {"mode": "max", "scale_grad_by_freq": True}, given(np.array([[0, 1]])), "scale_grad_by_freq=True"),
        ((4, 3), {"mode": "max", "sparse": True}, given(np.array([[0, 1]])), "sparse=True"),
        ((4, 3), {}, weighted(ids(1, 2, below=4)), "got mode='mean'"),
        ((4, 3), {"mode": "sum"}, given(np.array([[0, 1]]), None, np.ones(2)), r"shape \(1, 2\), got \(2,\)"),
        ((4, 3), {"include_last_offset": True}, given(np.array([0]), np.zeros(0, int)), "at least one offset, got 0"),
    ),
    *rejected(
        "embedding_bag",
        ((), {}, given(np.array([[0, 1]]), np.ones(3)), r"expected a weight of 2 axes, got the shape \(3,\)"),
        ((), {"padding_idx": 4}, given(np.array([[0, 1]]), WEIGHT), "from -4 to 3, got 4"),
        ((), {"padding_idx": -5}, given(np.array([[0, 1]]), WEIGHT), "from -4 to 3, got -5"),
        ((), {}, given(np.array([[0, 1]]), WEIGHT.astype(np.complex64)), "got dtype complex64"),
    ),
    *rejected(
        "one_hot",
        ((), {"num_classes": 2}, given(np.array([0, 2])), "from 0 to 1, got 2"),
        ((), {"num_classes": 0}, given(np.array([0, 1])), "got 0"),
        ((), {"num_classes": -2}, given(np.array([0, 1])), "got 0"),
        ((), {}, given(np.array([0, -1])), "got -1"),
        ((), {}, (2,), "got dtype float32"),
        ((), {}, given(np.array([True])), "got dtype bool"),
        ((), {}, given(np.zeros(0, int)), "got num_classes=-1"),
        ((), {"num_classes": 0}, given(np.zeros(0, int)), "got num_classes=0"),
    ),
]
