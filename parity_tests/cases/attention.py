"""Cases of attention, with and without projections."""

from typing import Any

import hypothesis.strategies as st
import numpy as np

from cases.common import Function, Layer, Maker, Rejected, Sweep, functions, layers, normal, rejected, then
from flaxnets.parity import Constant

CAUSAL = Constant(np.triu(np.full((4, 4), -np.inf), 1))
FUTURE = np.triu(np.ones((4, 4), bool), 1)


def keys_padded(batch: int, length: int) -> np.ndarray:
    """Return a mask of the last keys of each example but the first. The first key is never masked."""
    return np.arange(length) >= length - np.arange(batch)[:, None].clip(max=length - 1)


def itself(*shape: int) -> Maker:
    """Use one input as query, key and value."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        (x,) = normal(shape)(rng)
        return x, x, x

    return make


QKV = normal((4, 2, 6), (5, 2, 6), (5, 2, 6))
UNBATCHED = normal((4, 6), (5, 6), (5, 6))
BATCH_FIRST = normal((2, 4, 6), (2, 5, 6), (2, 5, 6))
NO_WEIGHTS = {"need_weights": False}
PADDED = keys_padded(2, 5)


def bias(*shape: int) -> np.ndarray:
    """Return a float mask, which is added to the scores."""
    return np.random.default_rng(1).normal(size=shape)


LAYERS: list[Layer] = layers(
    "MultiheadAttention",
    (QKV, (6, 2)),
    (QKV, (6, 3), {"dropout": 0.5}),
    (QKV, (6, 3), {"dropout": 0.5}, NO_WEIGHTS),
    (QKV, (6, 2, 0.3, False, True, True)),
    (QKV, (6, 2, 0.3, True, True, True), {}, {**NO_WEIGHTS, "key_padding_mask": PADDED, "attn_mask": bias(4, 5) > 1}),
    (QKV, (6, 1), {"bias": False}, NO_WEIGHTS),
    (QKV, (6, 2), {"add_bias_kv": True}, {"key_padding_mask": PADDED}),
    (QKV, (6, 2), {"add_zero_attn": True}, {"attn_mask": bias(4, 5), **NO_WEIGHTS}),
    (normal((4, 2, 6), (5, 2, 3), (5, 2, 7)), (6, 2), {"kdim": 3, "vdim": 7}),
    (normal((4, 2, 6), (5, 2, 3), (5, 2, 6)), (6, 2), {"kdim": 3, "bias": False, "dropout": 0.2}, NO_WEIGHTS),
    (normal((2, 4, 6), (2, 5, 6), (2, 5, 7)), (6, 2), {"vdim": 7, "batch_first": True, "add_bias_kv": True}),
    (BATCH_FIRST, (6, 2), {"batch_first": True}, {"average_attn_weights": False}),
    (BATCH_FIRST, (6, 2), {"batch_first": True, "dropout": 0.25}, {"key_padding_mask": PADDED, **NO_WEIGHTS}),
    (UNBATCHED, (6, 2)),
    (UNBATCHED, (6, 2), {"batch_first": True}, {"average_attn_weights": False, "key_padding_mask": PADDED[1]}),
    (UNBATCHED, (6, 2), {"dropout": 0.5}, {**NO_WEIGHTS, "attn_mask": bias(2, 4, 5)}),
    (QKV, (6, 2), {}, {"attn_mask": bias(4, 5) > 1}),
    (QKV, (6, 2), {}, {"attn_mask": bias(4, 4, 5), "average_attn_weights": False}),
    (QKV, (6, 2), {}, {**NO_WEIGHTS, "attn_mask": bias(4, 4, 5), "key_padding_mask": bias(2, 5)}),
    (QKV, (6, 2), {}, {"key_padding_mask": bias(2, 5), "attn_mask": bias(4, 5)}),
    # In the second example all keys are masked.
    (QKV, (6, 2), {}, {**NO_WEIGHTS, "key_padding_mask": np.array([[False] * 5, [True] * 5])}),
    (itself(4, 2, 6), (6, 2), {}, {"attn_mask": CAUSAL, "is_causal": True, **NO_WEIGHTS}),
    (itself(4, 2, 6), (6, 2), {"dropout": 0.5}, {"attn_mask": FUTURE, "is_causal": True}),
    # is_causal is set, but the mask is another one, which torch ignores without weights.
    (itself(4, 2, 6), (6, 2), {}, {"attn_mask": np.zeros((4, 4), bool), "is_causal": True, **NO_WEIGHTS}),
    (itself(4, 2, 6), (6, 2), {}, {"attn_mask": np.zeros((4, 4), bool), "is_causal": True}),
    (itself(4, 2, 6), (6, 2), {}, {"attn_mask": FUTURE, "is_causal": True, "key_padding_mask": keys_padded(2, 4)}),
    (QKV, (6, 2), {"add_bias_kv": True}, {"attn_mask": FUTURE, "is_causal": True, **NO_WEIGHTS}),
    (itself(2, 4, 6), (6, 2), {"batch_first": True, "dropout": 1.0}),
    (normal((4, 0, 6), (5, 0, 6), (5, 0, 6)), (6, 2)),
    (normal((4, 0, 6), (5, 0, 6), (5, 0, 6)), (6, 2), {}, NO_WEIGHTS),
    (normal((0, 2, 6), (5, 2, 6), (5, 2, 6)), (6, 2)),
    (normal((4, 2, 6), (0, 2, 6), (0, 2, 6)), (6, 2)),
    (normal((4, 2, 6), (0, 2, 6), (0, 2, 6)), (6, 2), {"add_zero_attn": True}, NO_WEIGHTS),
    (normal((1, 1, 1), (1, 1, 1), (1, 1, 1)), (1, 1)),
)
HEADS = normal((2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 6))


def forward(
    query: tuple[int, ...] = (4, 2, 6),
    key: tuple[int, ...] = (5, 2, 6),
    packed: bool = True,
    bias: bool = True,
    zero: bool = False,
    dropout: float = 0.0,
    embed_dim: int = 6,
    num_heads: int = 2,
    appended: tuple[Any, Any] = (None, None),
) -> Maker:
    """Return the positional arguments of multi_head_attention_forward."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        arrays = normal(query, key, key, (18, 6), (18,), (7, 6), (7,))(rng)
        q, k, v, weight, bias_in, weight_out, bias_out = arrays
        weights = weight if packed else None, bias_in if bias else None, *appended, zero, dropout
        return q, k, v, embed_dim, num_heads, *weights, weight_out, bias_out if bias else None

    return make


SEPARATE = {
    "use_separate_proj_weight": True,
    "q_proj_weight": bias(6, 6),
    "k_proj_weight": bias(6, 6) + 1,
    "v_proj_weight": bias(6, 6) - 1,
}
STATIC = {"static_k": bias(4, 3, 3), "static_v": bias(4, 3, 3) - 1}
DISTANT = Constant(np.where(bias(4, 5) > 0.5, -np.inf, bias(4, 5)))

FUNCTIONS: list[Function] = [
    *functions(
        "scaled_dot_product_attention",
        (HEADS,),
        (HEADS, {"scale": -0.7}),
        (HEADS, {"scale": 0.0}),
        (HEADS, {"is_causal": True}),
        (HEADS, {"attn_mask": bias(4, 5) > 0}),
        (HEADS, {"attn_mask": bias(2, 1, 4, 5)}),
        (HEADS, {"attn_mask": bias(2, 2, 4, 5) > 0.2, "scale": 2.0}),
        (HEADS, {"attn_mask": DISTANT}),
        (HEADS, {"attn_mask": bias(5)}),
        (HEADS, {"attn_mask": bias()}),
        (HEADS, {"attn_mask": np.arange(4)[:, None] > 1}),  # all keys are masked for the first queries
        (HEADS, {"attn_mask": Constant(np.where(np.arange(4)[:, None] > 1, 0.0, -np.inf))}),
        (normal((4, 3), (5, 3), (5, 2)),),
        (normal((2, 4, 3), (2, 5, 3), (2, 5, 2)), {"is_causal": True}),
        (normal((2, 1, 2, 4, 3), (2, 1, 2, 5, 3), (2, 1, 2, 5, 3)), {"attn_mask": bias(2, 4, 5)}),
        (normal((2, 1, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2)),),
        (normal((3, 2, 4, 3), (2, 5, 3), (5, 2)),),
        (normal((2, 4, 4, 3), (2, 2, 5, 3), (2, 2, 5, 2)), {"enable_gqa": True, "is_causal": True}),
        (normal((4, 4, 3), (1, 5, 3), (2, 5, 2)), {"enable_gqa": True}),
        (normal((2, 2, 4, 3), (2, 2, 4, 3), (2, 2, 4, 3)), {"enable_gqa": True}),
        (normal((2, 2, 6, 3), (2, 2, 4, 3), (2, 2, 4, 3)), {"is_causal": True}),
        (normal((0, 2, 4, 3), (0, 2, 5, 3), (0, 2, 5, 3)),),
        (normal((2, 4, 3), (2, 0, 3), (2, 0, 3)),),
        (normal((2, 0, 3), (2, 4, 3), (2, 4, 3)),),
        (normal((2, 4, 0), (2, 5, 0), (2, 5, 3)),),
        (normal((1, 1), (1, 1), (1, 1)),),
        # Scores of several hundred: the softmax must not overflow.
        (lambda rng: tuple(30 * x for x in HEADS(rng)),),
    ),
    *functions(
        "multi_head_attention_forward",
        (forward(),),
        (forward(), {"need_weights": False, "attn_mask": bias(4, 5)}),
        (forward(bias=False, zero=True), {"training": False}),
        (forward(dropout=1.0), {"average_attn_weights": False}),
        (forward(dropout=0.5), {"training": False, "key_padding_mask": PADDED}),
        (forward(packed=False), SEPARATE),
        (forward(packed=False, bias=False), {**SEPARATE, "need_weights": False}),
        (forward(), STATIC),
        (forward(zero=True), {**STATIC, "need_weights": False, "key_padding_mask": bias(2, 3)}),
        (forward((4, 6), (5, 6)), {"is_causal": True, "attn_mask": bias(4, 5)}),
        (forward(), {"is_causal": True, "attn_mask": bias(4, 5), "need_weights": False}),
        (forward(appended=(bias(1, 1, 6), -bias(1, 1, 6))), {"key_padding_mask": PADDED}),
    ),
]


def multihead(heads: int, head_dim: int, lengths: tuple[int, int], batch: int, **options: Any) -> Layer:
    """Return a row of multi-head attention with these sizes."""
    (query, key), size = lengths, heads * head_dim
    shapes = [(length, batch, size) for length in (query, key, key)]
    shapes = [(shape[1], shape[0], size) for shape in shapes] if options["batch_first"] else shapes
    call = {"need_weights": options.pop("need_weights")}
    return Layer("MultiheadAttention", normal(*shapes), (size, heads), options, call, check=EAGER)


def dot_product(query: tuple[int, ...], length: int, size: int, is_causal: bool, scale: float | None) -> Function:
    """Return a row with this shape of the query, ``length`` keys, and values of ``size`` features."""
    leading = query[:-2]
    maker = normal(query, (*leading, length, query[-1]), (*leading, length, size))
    return Function("scaled_dot_product_attention", maker, {"is_causal": is_causal, "scale": scale}, EAGER)


SIZES = st.integers(1, 3)
FLAGS = ("bias", "add_bias_kv", "add_zero_attn", "batch_first", "need_weights")

# Each example has other shapes, and XLA would compile a program for each.
EAGER = {"runs": ("eager",)}

SWEEPS: list[Sweep] = [
    Sweep(
        "MultiheadAttention",
        st.builds(
            multihead, SIZES, SIZES, st.tuples(SIZES, SIZES), SIZES, **{flag: st.booleans() for flag in FLAGS},
            dropout=st.sampled_from((0.0, 0.4)),
        ),
    ),
    Sweep(
        "scaled_dot_product_attention",
        st.builds(
            dot_product, st.lists(SIZES, min_size=2, max_size=5).map(tuple), SIZES, SIZES, st.booleans(),
            st.sampled_from((None, 0.3, 2.0)),
        ),
    ),
]  # fmt: skip


def kept(**kwargs: Any) -> Any:
    """Return the arguments of a call, which are given by name, as positional inputs. Omitted arguments are None."""
    names = ("key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal")
    values = {"need_weights": True, "average_attn_weights": True, "is_causal": False, **kwargs}
    return tuple(values.get(name) for name in names)


def called(*shapes: tuple[int, ...], **kwargs: Any) -> Maker:
    """Return query, key and value of these shapes, followed by the other arguments of the call."""
    return then(normal(*shapes), *kept(**kwargs))


def static(k: tuple[int, ...] | None, v: tuple[int, ...] | None = None, mask: np.ndarray | None = None) -> Any:
    """Return the last arguments of multi_head_attention_forward, which include static keys and values."""
    keys, values = (None if shape is None else np.ones(shape) for shape in (k, v))
    return True, None, True, mask, False, None, None, None, keys, values


SELF = ((4, 2, 6),) * 3
ALONE = ((4, 6),) * 3
SDPA = "scaled_dot_product_attention"

REJECTED: list[Rejected] = [
    *rejected(
        "MultiheadAttention",
        ((0, 1), {}, None, "embed_dim must be positive, got 0"),
        ((-6, 2), {}, None, "embed_dim must be positive, got -6"),
        ((6, 0), {}, None, "num_heads must be positive, got 0"),
        ((6, 4), {}, None, "embed_dim=6 must be divisible by num_heads=4"),
        ((6, 2), {"kdim": -1}, None, "kdim must not be negative, got -1"),
        ((6, 2), {"vdim": -2}, None, "vdim must not be negative, got -2"),
        ((6, 2), {"dropout": 1.5}, called(*SELF), r"between 0 and 1, got 1\.5"),
        ((6, 2), {"dropout": 1.5}, called(*SELF, need_weights=False), r"between 0 and 1, got 1\.5"),
        ((6, 2), {}, normal((6,), (6,), (6,)), r"2D or a batched 3D query, got 1D of shape \(6,\)"),
        ((6, 2), {}, normal((1, 4, 2, 6), (4, 2, 6), (4, 2, 6)), "got 4D"),
        ((6, 2), {}, normal((4, 2, 6), (4, 6), (4, 6)), r"key must be 3D, got the shape \(4, 6\)"),
        ((6, 2), {}, normal((4, 6), (4, 6), (4, 2, 6)), r"value must be 2D, got the shape \(4, 2, 6\)"),
        ((6, 2), {}, normal((4, 2, 5), (4, 2, 5), (4, 2, 5)), "must have 6 features, got 5"),
        ((6, 2), {}, normal((4, 2, 6), (4, 2, 5), (4, 2, 5)), r"must have 6 features, got .* \(4, 2, 5\)"),
        ((6, 2), {}, normal((4, 2, 6), (4, 2, 6), (5, 2, 6)), r"\(4, 2, 6\) and \(5, 2, 6\)"),
        ((6, 2), {}, normal((4, 2, 6), (4, 3, 6), (4, 3, 6)), r"same batch size, got .* \(4, 3, 6\)"),
        ((6, 2), {"kdim": 3}, normal((4, 2, 6), (5, 2, 4), (5, 2, 6)), r"of shape \(6, 4\), got \(6, 3\)"),
        ((6, 2), {"vdim": 3}, normal((4, 2, 6), (5, 2, 6), (5, 2, 4)), r"of shape \(6, 4\), got \(6, 3\)"),
        ((6, 2), {"kdim": 3}, normal((4, 2, 6), (5, 2, 3), (4, 2, 6)), r"\(5, 2, 3\) and \(4, 2, 6\)"),
        ((6, 2), {}, then(normal(*SELF), np.zeros((2, 4), int)), "key_padding_mask must be of bools .* got int"),
        ((6, 2), {}, called(*SELF, attn_mask=np.zeros((4, 4), int)), "attn_mask must be of bools .* got int"),
        ((6, 2), {}, called(*SELF, key_padding_mask=np.zeros(4, bool)), r"must be 2D, got \(4,\)"),
        ((6, 2), {}, called(*SELF, key_padding_mask=np.zeros((2, 5), bool)), r"\(2, 4\), got \(2, 5\)"),
        ((6, 2), {}, called(*SELF, key_padding_mask=np.zeros((3, 4), bool)), r"\(2, 4\), got \(3, 4\)"),
        ((6, 2), {}, called(*ALONE, key_padding_mask=np.zeros((1, 4), bool)), r"must be 1D, got \(1, 4\)"),
        ((6, 2), {}, called(*ALONE, key_padding_mask=np.zeros(5, bool)), r"\(1, 4\), got \(1, 5\)"),
        ((6, 2), {}, called(*SELF, attn_mask=np.zeros(4)), r"must be 2D or 3D, got the shape \(4,\)"),
        ((6, 2), {}, called(*SELF, attn_mask=np.zeros((1, 1, 4, 4))), r"got the shape \(1, 1, 4, 4\)"),
        ((6, 2), {}, called(*SELF, attn_mask=np.zeros((4, 5))), r"of shape \(4, 4\), got \(4, 5\)"),
        ((6, 2), {}, called(*SELF, attn_mask=np.zeros((2, 4, 4))), r"of shape \(4, 4, 4\), got \(2, 4, 4\)"),
        ((6, 2), {}, called(*ALONE, attn_mask=np.zeros((1, 4, 4))), r"of shape \(2, 4, 4\), got \(1, 4, 4\)"),
        ((6, 2), {}, called(*SELF, attn_mask=np.zeros((4, 4), np.float16)), "query's dtype float32, got float16"),
        (
            (6, 2),
            {},
            called(*SELF, attn_mask=np.zeros((4, 4), np.float16), need_weights=False),
            "bool, float32 or float32, got float16",
        ),
        ((6, 2), {}, called(*SELF, is_causal=True), "requires it, got attn_mask=None"),
        ((6, 2), {}, lambda rng: (np.ones((4, 2, 6), int),) * 3, "got int"),
    ),
    *rejected(
        SDPA,
        ((), {}, normal((6,), (6,), (6,)), r"got the shapes \(6,\)"),
        ((), {}, normal((2, 4, 3), (2, 5, 2), (2, 5, 3)), r"\(2, 5, 2\)"),
        ((), {}, normal((2, 4, 3), (2, 5, 3), (2, 6, 3)), r"\(2, 6, 3\)"),
        ((), {}, normal((3, 4, 3), (2, 5, 3), (2, 5, 3)), r"\(3, 4, 3\)"),
        ((), {}, normal((2, 4, 3), (2, 5, 3), (3, 5, 3)), r"\(3, 5, 3\)"),
        ((), {}, lambda rng: (np.ones((4, 3)), np.ones((5, 3)), np.ones((5, 3), np.float16)), "float16"),
        ((), {}, lambda rng: (np.ones((4, 3), np.int32),) * 3, "expected floating-point arrays, got int32"),
        ((), {}, lambda rng: (np.ones((4, 3), np.complex64),) * 3, "got complex64"),
        ((), {"dropout_p": 1.5}, normal((4, 3), (4, 3), (4, 3)), r"between 0 and 1, got 1\.5"),
        ((), {"is_causal": True}, then(normal((4, 3), (4, 3), (4, 3)), np.ones((4, 4), bool)), "got is_causal=True"),
        ((), {}, then(normal((4, 3), (4, 3), (4, 3)), np.ones((4, 4), np.int32)), "got int32"),
        ((), {}, then(normal((4, 3), (4, 3), (4, 3)), np.ones((4, 4), np.float16)), "got float16"),
        ((), {}, then(normal((4, 3), (4, 3), (4, 3)), np.ones((3, 4))), r"scores \(4, 4\), got .* \(3, 4\)"),
        ((), {}, then(normal((4, 3), (4, 3), (4, 3)), np.ones((2, 4, 4))), r"got a mask of shape \(2, 4, 4\)"),
        (
            (),
            {"enable_gqa": True},
            normal((2, 3, 4, 3), (2, 2, 4, 3), (2, 2, 4, 3)),
            "multiple of the 2 heads .* got 3",
        ),
        ((), {"enable_gqa": True}, normal((4, 3), (4, 3), (4, 3)), r"got \(4, 3\)"),
    ),
    *rejected(
        "multi_head_attention_forward",
        ((), {}, forward(embed_dim=5), "must have 5 features, got 6"),
        ((), {}, forward(num_heads=4), "embed_dim=6 must be divisible by num_heads=4"),
        ((), {}, forward(num_heads=0), "zero"),
        ((), {}, forward(packed=False), "expected in_proj_weight .* got None"),
        ((), {"use_separate_proj_weight": True}, forward(), r"q_proj_weight must be of shape \(6, 6\), got None"),
        ((), {}, forward((4, 2, 5), (5, 2, 5), embed_dim=5, num_heads=1), r"\(15, 5\), got \(18, 6\)"),
        ((), {}, forward(appended=(np.ones((1, 1, 6)), None)), "require each other, got only bias_k"),
        ((), {}, forward(appended=(None, np.ones((1, 1, 6)))), "require each other, got only bias_v"),
        ((), {}, forward(appended=(np.ones((1, 1, 5)), np.ones((1, 1, 5)))), r"\(1, 1, 6\), got \(1, 1, 5\)"),
        ((), {}, then(forward(appended=(np.ones((1, 1, 6)),) * 2), *static((4, 3, 3))), "appended to static_k, got"),
        ((), {}, then(forward(), *static((5, 3, 3))), r"static_k must be of shape \(4, S, 3\), got \(5, 3, 3\)"),
        ((), {}, then(forward(), *static((4, 3, 2))), r"static_k must be of shape \(4, S, 3\), got \(4, 3, 2\)"),
        ((), {}, then(forward(), *static(None, (3, 5, 3))), r"static_v must be of shape \(4, S, 3\), got \(3, 5, 3\)"),
        ((), {}, then(forward(), *static((4, 3, 3))), r"keys and values .* got \(2, 2, 3, 3\) and \(2, 2, 5, 3\)"),
        ((), {}, then(forward(), *static((4, 3, 3), (4, 3, 3), np.zeros((4, 5)))), "attn_mask has 5 columns"),
    ),
]
