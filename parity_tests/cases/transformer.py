"""Cases of transformers, including the rows of attention."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from cases import attention
from cases.attention import CAUSAL, FUTURE, PADDED, bias, keys_padded
from cases.common import Function, Layer, Rejected, Sweep, layers, normal, rejected, then


def quick(rows: list[Layer], after: int = 1) -> list[Layer]:
    """Run rows after the first ones only eagerly and in training mode (with dropout), because XLA compiles slowly."""
    fewer = {"modes": ("train",), "runs": ("eager",)}
    return [*rows[:after], *(dataclasses.replace(row, check=fewer) for row in rows[after:])]


STEPS = normal((4, 2, 6))
STEPS_FIRST = normal((2, 4, 6))
BOTH = normal((4, 2, 6), (5, 2, 6))
BOTH_FIRST = normal((2, 4, 6), (2, 5, 6))
PAIR = normal((5, 2, 6), (4, 2, 6))
PAIR_FIRST = normal((2, 5, 6), (2, 4, 6))
SMALL = (6, 2, 5)
LATER = np.triu(np.ones((5, 5), bool), 1)
TGT_PADDED = keys_padded(2, 4)

ENCODER_LAYER = layers(
    "TransformerEncoderLayer",
    (STEPS, SMALL),
    (STEPS, (6, 3, 5, 0.0)),
    (STEPS, (6, 2, 5, 0.5, "gelu", 1e-3, False, True, False)),
    (STEPS_FIRST, SMALL, {"batch_first": True}, {"src_key_padding_mask": TGT_PADDED}),
    (STEPS_FIRST, SMALL, {"batch_first": True, "norm_first": True, "dropout": 0.0}, {"src_mask": CAUSAL}),
    (STEPS, SMALL, {"activation": "gelu"}, {"src_mask": FUTURE, "src_key_padding_mask": TGT_PADDED}),
    (STEPS, SMALL, {"norm_first": True}, {"src_mask": FUTURE, "is_causal": True}),
    (STEPS, SMALL, {"bias": False}, {"src_mask": bias(4, 4, 4), "src_key_padding_mask": bias(2, 4)}),
    (STEPS, SMALL, {"layer_norm_eps": 0.1, "dropout": 0.9}, {"src_mask": FUTURE.T}),
    (normal((4, 6)), SMALL),
    (normal((4, 6)), SMALL, {"batch_first": True, "norm_first": True}, {"src_key_padding_mask": TGT_PADDED[1]}),
    # In the second example all keys are masked.
    (STEPS, SMALL, {}, {"src_key_padding_mask": np.array([[False] * 4, [True] * 4])}),
    (STEPS, (6, 1, 1), {"dropout": 1.0}),
    (normal((4, 0, 6)), SMALL),
    (normal((1, 1, 2)), (2, 1, 1)),
)
DECODER_LAYER = layers(
    "TransformerDecoderLayer",
    (BOTH, SMALL),
    (BOTH, (6, 3, 5, 0.0)),
    (BOTH, (6, 2, 5, 0.5, "gelu", 1e-3, False, True, False)),
    (BOTH_FIRST, SMALL, {"batch_first": True}, {"memory_key_padding_mask": PADDED}),
    (BOTH_FIRST, SMALL, {"batch_first": True, "norm_first": True}, {"tgt_mask": CAUSAL, "tgt_is_causal": True}),
    (BOTH, SMALL, {}, {"tgt_mask": FUTURE, "tgt_key_padding_mask": TGT_PADDED, "memory_key_padding_mask": PADDED}),
    (BOTH, SMALL, {"norm_first": True}, {"memory_mask": bias(4, 5), "tgt_mask": bias(4, 4, 4)}),
    (BOTH, SMALL, {"activation": "gelu"}, {"memory_mask": bias(4, 5) > 1, "memory_is_causal": True}),
    (BOTH, SMALL, {"bias": False, "layer_norm_eps": 0.1}, {"memory_mask": bias(4, 4, 5) > 1}),
    (normal((4, 6), (5, 6)), SMALL),
    (normal((4, 6), (5, 6)), SMALL, {"dropout": 0.0}, {"memory_key_padding_mask": PADDED[1], "tgt_mask": FUTURE}),
    (normal((4, 0, 6), (5, 0, 6)), SMALL),
    (normal((4, 2, 6), (0, 2, 6)), SMALL),
    (normal((1, 1, 2), (1, 1, 2)), (2, 1, 1)),
)


def built(name: str, *rows: tuple[Any, ...]) -> list[Layer]:
    """Return the rows ``(inputs, build, call's keyword arguments)``. The last is optional."""
    return quick([Layer(name, inputs, build=build, call=dict(*call)) for inputs, build, *call in rows])


def quietly(kind: Any, *args: Any, **kwargs: Any) -> Any:
    """Build a module without torch's warning that its encoder does not use nested tensors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "enable_nested_tensor is True", UserWarning)
        return kind(*args, **kwargs)


def encoder(nn: Any, rngs: dict[str, Any], num_layers: int, norm: bool = True, **options: Any) -> Any:
    """Build an encoder, with or without a final norm."""
    layer = nn.TransformerEncoderLayer(6, 2, 5, **options, **rngs)
    return quietly(nn.TransformerEncoder, layer, num_layers, nn.LayerNorm(6) if norm else None)


def decoder(nn: Any, rngs: dict[str, Any], num_layers: int, norm: bool = True, **options: Any) -> Any:
    """Build a decoder, with or without a final norm."""
    layer = nn.TransformerDecoderLayer(6, 2, 5, **options, **rngs)
    return nn.TransformerDecoder(layer, num_layers, nn.LayerNorm(6) if norm else None)


ENCODER = built(
    "TransformerEncoder",
    (STEPS, lambda nn, **r: encoder(nn, r, 2)),
    (STEPS, lambda nn, **r: encoder(nn, r, 1, norm=False, dropout=0.0)),
    (STEPS, lambda nn, **r: encoder(nn, r, 3, norm_first=True, activation="gelu", dropout=0.5)),
    (STEPS_FIRST, lambda nn, **r: encoder(nn, r, 2, batch_first=True), {"src_key_padding_mask": TGT_PADDED}),
    (STEPS_FIRST, lambda nn, **r: encoder(nn, r, 2, batch_first=True, bias=False), {"mask": bias(4, 4)}),
    (STEPS, lambda nn, **r: encoder(nn, r, 2), {"mask": CAUSAL, "is_causal": True}),
    (STEPS, lambda nn, **r: encoder(nn, r, 2), {"mask": CAUSAL}),
    (STEPS, lambda nn, **r: encoder(nn, r, 2), {"mask": bias(4, 4, 4) > 1, "is_causal": False}),
    (STEPS, lambda nn, **r: encoder(nn, r, 1), {"mask": FUTURE, "src_key_padding_mask": TGT_PADDED}),
    (normal((4, 6)), lambda nn, **r: encoder(nn, r, 2)),
    (normal((4, 6)), lambda nn, **r: encoder(nn, r, 1, layer_norm_eps=0.1), {"src_key_padding_mask": TGT_PADDED[1]}),
    (STEPS, lambda nn, **r: encoder(nn, r, 1, activation=nn.functional.silu)),
    (STEPS, lambda nn, **r: encoder(nn, r, 2, activation=nn.PReLU())),
    (
        STEPS_FIRST,
        lambda nn, **r: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 5, **r), 2, None, False, False),
    ),
)
DECODER = built(
    "TransformerDecoder",
    (BOTH, lambda nn, **r: decoder(nn, r, 2)),
    (BOTH, lambda nn, **r: decoder(nn, r, 1, norm=False, dropout=0.0)),
    (BOTH, lambda nn, **r: decoder(nn, r, 3, norm_first=True, activation="gelu", dropout=0.5)),
    (BOTH_FIRST, lambda nn, **r: decoder(nn, r, 2, batch_first=True), {"memory_key_padding_mask": PADDED}),
    (BOTH_FIRST, lambda nn, **r: decoder(nn, r, 1, batch_first=True, bias=False), {"tgt_mask": bias(4, 4)}),
    (BOTH, lambda nn, **r: decoder(nn, r, 2), {"tgt_mask": CAUSAL, "tgt_is_causal": True}),
    (BOTH, lambda nn, **r: decoder(nn, r, 2), {"tgt_mask": CAUSAL}),
    (BOTH, lambda nn, **r: decoder(nn, r, 1), {"memory_mask": bias(4, 5) > 1, "memory_is_causal": True}),
    (BOTH, lambda nn, **r: decoder(nn, r, 1), {"memory_mask": bias(4, 4, 5), "tgt_is_causal": False}),
    (BOTH, lambda nn, **r: decoder(nn, r, 1), {"tgt_mask": FUTURE, "tgt_key_padding_mask": TGT_PADDED}),
    (normal((4, 6), (5, 6)), lambda nn, **r: decoder(nn, r, 2, layer_norm_eps=0.1)),
    (BOTH, lambda nn, **r: decoder(nn, r, 1, activation=nn.functional.relu)),
)
TINY = (6, 2, 1, 1, 5)
TRANSFORMER = quick(
    layers(
        "Transformer",
        (PAIR_FIRST, TINY, {"batch_first": True}),
        (PAIR_FIRST, (6, 2, 2, 1, 5, 0.5, "gelu"), {"batch_first": True}, {"tgt_mask": CAUSAL}),
        (
            PAIR_FIRST,
            (6, 2, 1, 2, 5, 0.0),
            {"batch_first": True, "layer_norm_eps": 0.1},
            {
                "src_key_padding_mask": PADDED,
                "memory_key_padding_mask": PADDED,
                "tgt_key_padding_mask": TGT_PADDED,
            },
        ),
    )
)
TRANSFORMER += built(
    "Transformer",
    (PAIR, lambda nn, **r: quietly(nn.Transformer, *TINY, **r)),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, *TINY, norm_first=True, **r), {"tgt_mask": FUTURE}),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, *TINY, bias=False, **r), {"src_mask": bias(5, 5)}),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, 6, 3, 1, 1, 5, 0.2, **r), {"memory_mask": bias(4, 5)}),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, 6, 1, 2, 2, 3, 0.0, nn.functional.gelu, **r)),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, *TINY, **r), {"tgt_mask": CAUSAL, "tgt_is_causal": True}),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, *TINY, **r), {"src_mask": LATER, "src_is_causal": True}),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, *TINY, **r), {"memory_mask": LATER[:4], "memory_is_causal": True}),
    (normal((5, 6), (4, 6)), lambda nn, **r: quietly(nn.Transformer, *TINY, **r)),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, *TINY, custom_encoder=encoder(nn, r, 2, norm=False), **r)),
    (PAIR, lambda nn, **r: quietly(nn.Transformer, *TINY, custom_decoder=decoder(nn, r, 1, bias=False), **r)),
)
LAYERS: list[Layer] = [
    *attention.LAYERS,
    *quick(ENCODER_LAYER, 4),
    *quick(DECODER_LAYER, 4),
    *ENCODER,
    *DECODER,
    *TRANSFORMER,
]

FUNCTIONS: list[Function] = attention.FUNCTIONS

SWEEPS: list[Sweep] = attention.SWEEPS

REJECTED: list[Rejected] = [
    *attention.REJECTED,
    *(
        row
        for name, inputs in (("TransformerEncoderLayer", STEPS), ("TransformerDecoderLayer", BOTH))
        for row in rejected(
            name,
            ((6, 4), {}, None, "embed_dim=6 must be divisible by num_heads=4"),
            ((0, 1), {}, None, "embed_dim must be positive, got 0"),
            ((6, 2, -1), {}, None, "must not be negative, got -1"),
            ((6, 2), {"dropout": 1.5}, None, r"between 0 and 1, got 1\.5"),
            ((6, 2), {"activation": "tanh"}, None, "must be 'relu', 'gelu' or a function, got 'tanh'"),
            ((6, 2, 5), {}, then(inputs, np.zeros((4, 5))), r"\(4, 4\), got \(4, 5\)"),
            ((6, 2, 5), {}, then(inputs, np.zeros((4, 4), int)), "got int"),
        )
    ),
    *rejected(
        "TransformerEncoderLayer",
        ((6, 2, 5), {}, (4, 2, 5), "must have 6 features, got 5"),
        ((6, 2, 5), {}, (1, 4, 2, 6), "got 4D"),
        ((6, 2, 5), {}, then(STEPS, None, np.zeros((2, 5), bool)), r"\(2, 4\), got \(2, 5\)"),
        ((6, 2, 5), {}, then(STEPS, None, None, True), "got attn_mask=None"),
    ),
    *rejected(
        "TransformerDecoderLayer",
        ((6, 2, 5), {}, normal((4, 2, 6), (5, 3, 6)), r"same batch size, got .* \(5, 3, 6\)"),
        ((6, 2, 5), {}, normal((4, 2, 6), (5, 6)), r"key must be 3D, got the shape \(5, 6\)"),
        ((6, 2, 5), {}, normal((4, 2, 6), (5, 2, 5)), r"got .* \(5, 2, 5\)"),
        ((6, 2, 5), {}, then(BOTH, None, np.zeros((4, 4))), r"\(4, 5\), got \(4, 4\)"),
        ((6, 2, 5), {}, then(BOTH, None, None, None, None, True), "got attn_mask=None"),
    ),
    *rejected(
        "Transformer",
        (TINY, {"batch_first": True}, normal((2, 5, 6), (3, 4, 6)), r"batch size, got .* \(3, 4, 6\)"),
        (TINY, {"batch_first": True}, normal((2, 5, 5), (2, 4, 5)), "d_model=6 features, got .*5"),
        (TINY, {"batch_first": True}, normal((2, 5, 6), (2, 4, 5)), r"d_model=6 features, got .*\(2, 4, 5\)"),
        ((6, 4), {"batch_first": True}, None, "embed_dim=6 must be divisible by num_heads=4"),
        ((6, 2, 1, 1, 5, 2.0), {"batch_first": True}, None, r"between 0 and 1, got 2\.0"),
        ((6, 2, 0, 1, 5), {"batch_first": True}, PAIR_FIRST, "at least one layer, got num_layers=0"),
        ((6, 2, 1, 0, 5), {"batch_first": True}, PAIR_FIRST, "at least one layer, got num_layers=0"),
        (TINY, {"batch_first": True, "activation": "swish"}, None, "got 'swish'"),
    ),
]
