"""Tests of losses beyond the tables of cases: warnings, values that tracing hides, gradients that are not finite."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases import Function, Layer
from cases.losses import NOT_FINITE
from flax import nnx

from flaxnets import nn, state
from flaxnets.nn import functional as F
from flaxnets.parity.run import Call, run_flax, run_torch

TARGET = jnp.array([0, 1])


def messages(call: Any) -> list[type[Warning]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [each.category for each in caught]


PAIR = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
WIDER = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)
INDICES = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        *[(name, WIDER, {}) for name in ("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss")],
        *[(name, WIDER, {}) for name in ("hinge_embedding_loss", "poisson_nll_loss", "soft_margin_loss")],
        *[("kl_div", PAIR, {"reduction": reduction}) for reduction in ("mean", "batchmean", "sum", "none")],
        ("l1_loss", PAIR, {"reduction": "elementwise_mean"}),
        ("cross_entropy", INDICES, {"reduction": "elementwise_mean"}),
        ("nll_loss", INDICES, {"size_average": True}),
        ("nll_loss", INDICES, {"reduce": True}),
        ("mse_loss", PAIR, {"size_average": False, "reduce": False}),
        ("kl_div", PAIR, {"size_average": True}),
        ("mse_loss", PAIR, {}),
    ],
)
def test_warnings_are_torchs(name: str, arguments: tuple, options: dict):
    expected = messages(lambda: getattr(torch.nn.functional, name)(*map(torch.tensor, arguments), **options))
    assert messages(lambda: getattr(F, name)(*map(jnp.asarray, arguments), **options)) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("L1Loss", (False,), {}),
        ("BCEWithLogitsLoss", (), {"reduce": True}),
        ("CrossEntropyLoss", (), {"size_average": True}),
        ("NLLLoss2d", (), {}),
        ("MSELoss", (), {}),
    ],
)
def test_constructors_warn_as_torchs_do(name: str, arguments: tuple, options: dict):
    expected = messages(lambda: getattr(torch.nn, name)(*arguments, **options))
    assert messages(lambda: getattr(nn, name)(*arguments, **options)) == expected


@pytest.mark.parametrize("average", [None, False, True])
@pytest.mark.parametrize("reduce", [None, False, True])
@pytest.mark.filterwarnings("ignore:size_average and reduce")
def test_old_flags_mean_what_they_mean_in_torch(average: bool | None, reduce: bool | None):
    assert nn.MSELoss(average, reduce, "sum").reduction == torch.nn.MSELoss(average, reduce, "sum").reduction


def test_weights_are_buffers_in_torchs_order_and_none_stays_none():
    weights = {"weight": np.ones(3, np.float32), "pos_weight": np.ones(3, np.float32)}
    assert list(nn.BCEWithLogitsLoss(**weights).state_dict()) == ["weight", "pos_weight"]
    assert list(nn.BCEWithLogitsLoss(pos_weight=weights["pos_weight"]).state_dict()) == ["pos_weight"]
    assert nn.CrossEntropyLoss().weight is None
    assert [*nn.CrossEntropyLoss(weights["weight"]).parameters()] == []


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("nll_loss", [0, 3]),
        ("nll_loss", [0, -1]),
        ("cross_entropy", [0, 3]),
        ("multi_margin_loss", [0, 3]),
        ("multi_margin_loss", [0, -2]),
        ("multilabel_margin_loss", [[0, 1, 2], [0, 3, -1]]),
        ("multilabel_margin_loss", [[0, 1, 2], [0, -2, -1]]),
    ],
)
def test_a_target_that_is_no_class_becomes_nan_where_it_cannot_be_checked(name: str, target: list):
    losses = jax.jit(lambda x, t: getattr(F, name)(x, t, reduction="none"))(jnp.ones((2, 3)), jnp.array(target))
    assert np.isnan(losses).tolist() == [False, True]


@pytest.mark.parametrize("row", NOT_FINITE, ids=lambda row: str(row))
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_gradients_that_are_not_finite_are_torchs(row: Layer | Function, jit: bool, rng: np.random.Generator):
    expected_module, module = row.pair()
    call = Call(row.inputs(rng), row.options()["kwargs"], training=True, dtype="float64")
    with jax.enable_x64(True):
        state.cast(module, "float64")
        expected, cotangents = run_torch(expected_module, call, None, rng)
        found = run_flax(module, call, cotangents, jit)
    assert any(not np.isfinite(gradient).all() for gradient in expected.input_gradients)
    for a, b in zip(found.outputs, expected.outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for a, b in zip(found.input_gradients, expected.input_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "cross_entropy", "binary_cross_entropy_with_logits"])
def test_half_precision_accumulates_as_torch_does(name: str, dtype: Any, rng: np.random.Generator):
    x = rng.normal(size=(700, 9)).astype(np.float32)
    y = rng.integers(0, 9, 700) if name == "cross_entropy" else rng.random((700, 9)).astype(np.float32)
    ours = [jnp.asarray(a, dtype if a.dtype == np.float32 else None) for a in (x, y)]
    torchs = [torch.tensor(a) for a in (x, y)]
    torchs = [t.to(getattr(torch, jnp.dtype(dtype).name)) if t.is_floating_point() else t for t in torchs]
    found, expected = getattr(F, name)(*ours), getattr(torch.nn.functional, name)(*torchs)
    assert found.dtype == dtype
    np.testing.assert_allclose(float(found), float(expected), rtol=2 * float(jnp.finfo(dtype).eps))


def ctc_inputs(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    log_probs = np.asarray(jax.nn.log_softmax(rng.normal(size=(6, 3, 4)).astype(np.float32)))
    return log_probs, rng.integers(1, 4, (3, 3)), np.array([6, 4, 5]), np.array([3, 0, 2])


def test_ctc_takes_lengths_that_are_traced(rng: np.random.Generator):
    inputs = ctc_inputs(rng)
    expected = torch.nn.functional.ctc_loss(*map(torch.tensor, inputs), reduction="none")
    found = jax.jit(lambda *a: F.ctc_loss(*a, reduction="none"))(*inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    one_axis = inputs[0], np.concatenate([inputs[1][0], inputs[1][2, :2]]), *inputs[2:]
    np.testing.assert_allclose(jax.jit(lambda *a: F.ctc_loss(*a, reduction="none"))(*one_axis), expected, rtol=1e-5)


def test_ctc_gives_the_same_for_each_example_alone_and_mapped(rng: np.random.Generator):
    log_probs, targets, input_lengths, target_lengths = ctc_inputs(rng)
    together = F.ctc_loss(log_probs, targets, input_lengths, target_lengths, reduction="none")
    mapped = jax.vmap(lambda x, t, i, n: F.ctc_loss(x, t, i, n, reduction="none"), (1, 0, 0, 0))(
        log_probs, targets, input_lengths, target_lengths
    )
    np.testing.assert_allclose(mapped, together, rtol=1e-6)


def test_ctc_rejects_labels_that_are_no_class():
    with pytest.raises(IndexError, match=r"targets must be in \[0, 3\), got 7"):
        F.ctc_loss(jnp.zeros((4, 1, 3)), jnp.array([[1, 7]]), (4,), (2,))


def test_chunks_never_make_all_logits_at_once():
    loss = nn.LinearCrossEntropyLoss(8, 512, options=nn.LinearCrossEntropyOptions(batch_chunk_size=4), rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(loss)

    def gradient(x: jax.Array) -> Any:
        return jax.grad(lambda x, s: nnx.merge(graphdef, s)(x, jnp.zeros(64, int)), argnums=(0, 1))(x, state)

    text = str(jax.make_jaxpr(gradient)(jnp.ones((64, 8))))
    assert "[4,512]" in text
    assert not any(shape in text for shape in ("[64,512]", "[16,4,512]"))


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({}, (10, 4, 100)), ({"chunking_method": "aspect_ratio"}, (100, 4, 100)), ({"batch_chunk_size": 7}, (5, 3, 4))],
)
def test_chunks_have_torchs_sizes(options: dict, sizes: tuple[int, int, int]):
    expected = torch.nn.LinearCrossEntropyOptions(**options)._adjust(*sizes, torch.float64)
    assert nn.LinearCrossEntropyOptions(**options).chunk_size(*sizes) == expected.batch_chunk_size


def test_chunk_options_that_disagree_are_rejected_as_in_torch():
    options = {"batch_chunk_size": 5, "chunking_method": "aspect_ratio"}
    with pytest.raises(ValueError, match=r"disagree|different"):
        torch.nn.LinearCrossEntropyOptions(**options)._adjust(64, 4, 100, torch.float32)
    with pytest.raises(ValueError, match="batch_chunk_size 5 and the 4 of chunking_method 'aspect_ratio' must agree"):
        nn.LinearCrossEntropyOptions(**options).chunk_size(64, 4, 100)
    with pytest.raises(RuntimeError, match="got float64 for float32"):
        F.linear_cross_entropy(
            jnp.ones((2, 3)),
            jnp.ones((4, 3)),
            TARGET,
            options=nn.LinearCrossEntropyOptions(acc_dtype=jnp.float64),
        )


@pytest.mark.parametrize("value", ["float31", jnp.int32])
def test_accumulation_dtypes_that_are_none_are_rejected(value: Any):
    with pytest.raises((ValueError, TypeError), match=r"float31|int32"):
        nn.LinearCrossEntropyOptions(acc_dtype=value)
