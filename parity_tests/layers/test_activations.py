"""Tests of activations, softmax and dropout beyond the tables of cases.

NaN, narrow and complex dtypes, warnings and random masks.
"""

import collections
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxnets import nn
from flaxnets.nn import functional as F
from flaxnets.parity import assert_parity

ARGUMENTS = {"Threshold": (0.25, 2.0), "PReLU": (1, 0.25)}
POINTWISE = (
    "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish",
    "PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink",
    "Threshold",
)  # fmt: skip
# For these activations, torch's gradient at NaN depends on the position in the array (vector or scalar code).
ANY_GRADIENT_AT_NAN = {
    "CELU", "ELU", "Hardshrink", "Hardswish", "Hardtanh", "ReLU6", "SELU", "Softshrink"
}  # fmt: skip


def both(name: str, *arguments):
    arguments = arguments or ARGUMENTS.get(name, ())
    return getattr(torch.nn, name)(*arguments), getattr(nn, name)(*arguments)


def values_and_gradients(theirs, ours, array: np.ndarray):
    """Return outputs and gradients of their sum. A complex gradient of JAX is the conjugate of torch's."""
    tensor = torch.from_numpy(array.copy()).requires_grad_()
    output = theirs(tensor)
    (gradient,) = torch.autograd.grad(output, tensor, torch.ones_like(output))
    found, vjp = jax.vjp(ours, jnp.asarray(array))
    (found_gradient,) = vjp(jnp.ones_like(found))
    expected = output.detach().resolve_conj().numpy(), gradient.resolve_conj().numpy()
    return expected, (np.asarray(found), np.conj(np.asarray(found_gradient)))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", POINTWISE)
def test_infinities_and_nan_give_torchs_values_and_gradients(name: str, x64: None):
    array = np.array([-np.inf, np.inf, np.nan])
    expected, found = values_and_gradients(*[layer.double() for layer in both(name)], array)
    np.testing.assert_array_equal(found[0], expected[0])
    compared = slice(2 if name in ANY_GRADIENT_AT_NAN else 3)
    np.testing.assert_array_equal(
        found[1][compared], expected[1][compared].astype(np.float64) if name != "Hardsigmoid" else expected[1]
    )


@pytest.mark.parametrize("arguments", [("Softplus", 1.0, 1000.0), ("GELU", "tanh"), ("Softmax", 0), ("LogSoftmax", 0)])
@pytest.mark.parametrize("array", [[800.0, 1.0], [np.inf, 0.0], [-np.inf, -np.inf], [np.nan, 1.0]], ids=str)
def test_overflow_gives_torchs_values_and_gradients(arguments: tuple, array: list, x64: None):
    expected, found = values_and_gradients(*both(*arguments), np.array(array))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-14)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", ["softmax", "softmin", "log_softmax", "gumbel_softmax"])
def test_functions_take_no_mask_that_hides_everything_for_a_number(kind: str):
    noise = {"noise": jnp.zeros(2)} if kind == "gumbel_softmax" else {}
    sign = -1 if kind == "softmin" else 1
    assert jnp.isnan(getattr(F, kind)(sign * jnp.full(2, -jnp.inf), dim=0, **noise)).all()


def test_slope_gets_no_gradient_from_an_infinity_that_it_does_not_scale():
    def loss(nn, weight):
        return nn.functional.prelu(weight * 0 + float("inf"), weight).sum()

    layer = nn.PReLU()
    gradient = nnx.grad(lambda layer: layer(jnp.array([jnp.inf, -2.0])).sum())(layer)
    assert gradient["weight"][...].tolist() == [-2.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", POINTWISE)
def test_half_precision_is_rounded_where_torch_rounds(name: str, dtype: torch.dtype, rng: np.random.Generator):
    theirs, ours = both(name)
    narrow = str(dtype).split(".")[1]
    array = torch.from_numpy(rng.normal(0, 3, 200).astype(np.float32)).to(dtype)
    if name == "PReLU":
        theirs, ours = theirs.to(dtype), ours.to(narrow)
    tensor = array.clone().requires_grad_()
    output = theirs(tensor)
    (gradient,) = torch.autograd.grad(output, tensor, torch.ones_like(output))
    found, vjp = jax.vjp(ours, jnp.asarray(array.float().numpy(), narrow))
    (found_gradient,) = vjp(jnp.ones_like(found))
    assert found.dtype == found_gradient.dtype == jnp.dtype(narrow)
    eps = float(jnp.finfo(narrow).eps)
    # Torch computes the gradients of sigmoid and tanh from the rounded output: an error of eps if it is near 1.
    for a, b, atol in ((found, output, eps / 4), (found_gradient, gradient, eps)):
        np.testing.assert_allclose(a.astype(jnp.float32), b.detach().float().numpy(), rtol=2 * eps, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_half_precision_sums_in_float32(name: str, dtype: torch.dtype, rng: np.random.Generator):
    array = torch.from_numpy(rng.normal(0, 3, (2, 3000)).astype(np.float32)).to(dtype)
    expected = getattr(torch.nn.functional, name)(array, 1)
    found = getattr(F, name)(jnp.asarray(array.float().numpy(), str(dtype).split(".")[1]), 1)
    np.testing.assert_allclose(found.astype(jnp.float32), expected.float().numpy(), rtol=float(jnp.finfo(found).eps))


@pytest.mark.parametrize("name", ["Sigmoid", "Softsign", "Tanh", "Tanhshrink"])
def test_complex_numbers_give_torchs_values_and_gradients(name: str, x64: None, rng: np.random.Generator):
    array = rng.normal(size=6) + 1j * rng.normal(size=6)
    expected, found = values_and_gradients(*both(name), np.append(array, 0))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)


def test_silu_of_complex_numbers_is_torchs(x64: None, rng: np.random.Generator):
    array = rng.normal(size=6) + 1j * rng.normal(size=6)
    expected = torch.nn.functional.silu(torch.from_numpy(array)).numpy()
    np.testing.assert_allclose(F.silu(jnp.asarray(array)), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        *((name, np.arange(-3, 4)) for name in ("sigmoid", "tanh", "tanhshrink", "softsign")),
        # torch rejects booleans for the other activations.
        *((name, np.array([True, False])) for name in ("sigmoid", "tanh")),
    ],
)
def test_whole_numbers_become_float32(name: str, array: np.ndarray):
    expected = getattr(torch.nn.functional, name)(torch.from_numpy(array))
    found = getattr(F, name)(jnp.asarray(array))
    assert (found.dtype, expected.dtype) == (jnp.float32, torch.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 2), (2, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("name", ["Softmax", "Softmin", "LogSoftmax"])
def test_softmax_without_dim_chooses_as_torch_and_warns(name: str, shape: tuple[int, ...], rng: np.random.Generator):
    array = rng.normal(size=shape).astype(np.float32)
    function = {"LogSoftmax": "log_softmax"}.get(name, name.lower())
    for theirs, ours in (
        (getattr(torch.nn, name)(), getattr(nn, name)()),
        (getattr(torch.nn.functional, function), getattr(F, function)),
    ):
        with pytest.warns(UserWarning, match="[Ii]mplicit"):
            expected = theirs(torch.from_numpy(np.asarray(array)))
        with pytest.warns(UserWarning, match=f"of {len(shape)} axes is deprecated") as caught:
            found = ours(jnp.asarray(array))
        assert caught[0].filename == __file__
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
def test_softmax_casts_before_it_computes(name: str, rng: np.random.Generator):
    for array, dtype in ((np.arange(-3, 4), "float32"), (rng.normal(size=5).astype(np.float16), "float32")):
        expected = getattr(torch.nn.functional, name)(torch.from_numpy(array), 0, dtype=getattr(torch, dtype))
        found = getattr(F, name)(jnp.asarray(array), 0, dtype=dtype)
        assert str(found.dtype) == dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    narrow = getattr(F, name)(jnp.ones(3), 0, dtype=jnp.float16)
    assert narrow.dtype == jnp.float16
    for dtype in ("int32", "complex64"):
        with pytest.raises(NotImplementedError):
            getattr(torch.nn.functional, name)(torch.ones(3), 0, dtype=getattr(torch, dtype))
        with pytest.raises(NotImplementedError, match=f"dtype {dtype}"):
            getattr(F, name)(jnp.ones(3), 0, dtype=dtype)


def test_hardtanh_takes_the_old_names_and_warns():
    for either in (torch.nn, nn):
        with pytest.warns(FutureWarning, match="min_val"):
            layer = either.Hardtanh(min_value=-2.0)
        with pytest.warns(FutureWarning, match="max_val"):
            layer = either.Hardtanh(-2.0, max_value=3.0)
        assert (layer.min_val, layer.max_val) == (-2.0, 3.0)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(
    ("shape", "dim", "tau"), [((3, 4), -1, 1.0), ((3, 4), 0, 0.3), ((2, 3, 2), 1, 5.0), ((), -1, 1.0)]
)
def test_gumbel_softmax_is_torchs_on_the_same_noise(shape, dim, tau, hard, x64, rng):
    logits, cotangent = rng.normal(size=shape), rng.normal(size=shape)
    tensor = torch.from_numpy(np.asarray(logits)).requires_grad_()
    torch.manual_seed(3)
    noise = -torch.empty_like(tensor).exponential_().log()
    torch.manual_seed(3)
    expected = torch.nn.functional.gumbel_softmax(tensor, tau, hard, dim=dim)
    (gradient,) = torch.autograd.grad(expected, tensor, torch.from_numpy(np.asarray(cotangent)))
    given = jnp.asarray(noise.detach().numpy())
    found, vjp = jax.vjp(lambda x: F.gumbel_softmax(x, tau, hard, dim=dim, noise=given), jnp.asarray(logits))
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(vjp(jnp.asarray(cotangent))[0], gradient.numpy(), rtol=1e-11, atol=1e-14)


def test_gumbel_softmax_draws_from_the_categorical_distribution():
    logits = jnp.log(jnp.array([0.1, 0.2, 0.7]))
    drawn = F.gumbel_softmax(jnp.broadcast_to(logits, (20_000, 3)), hard=True, key=jax.random.key(0))
    np.testing.assert_array_equal(drawn.sum(1), 1)
    np.testing.assert_allclose(drawn.mean(0), [0.1, 0.2, 0.7], atol=0.015)


def test_gumbel_softmax_rejects_what_torch_rejects():
    for either, ones in ((torch.nn.functional, torch.ones), (F, jnp.ones)):
        extra = {} if either is not F else {"key": jax.random.key(0)}
        whole = {torch.ones: torch.int64, jnp.ones: jnp.int32}[ones]
        with pytest.raises(RuntimeError, match=r"(?i)int|long"):
            either.gumbel_softmax(ones(3, dtype=whole), **extra)
        with pytest.raises(IndexError, match="got 3"):
            either.gumbel_softmax(ones((3, 4)), dim=3, **extra)
        with pytest.raises(IndexError, match=r"non-zero size|at least one category"):
            either.gumbel_softmax(ones((3, 0)), hard=True, **extra)
        with pytest.warns(UserWarning, match="no effect"):
            either.gumbel_softmax(ones(3), eps=1e-5, **extra)
    with pytest.raises(ValueError, match="expected a random key"):
        F.gumbel_softmax(jnp.ones(3))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("Dropout2d", shape) for shape in ((4, 5, 3), (4, 5), (2, 3, 2, 2, 2))),
        *(("Dropout3d", shape) for shape in ((9,), (9, 2), (6, 2, 3), (2, 3, 2, 2, 1, 2))),
    ],
    ids=str,
)
def test_dropout_of_other_numbers_of_axes_warns_and_drops_the_same_axes(name, shape, rng):
    for function, options in (
        (getattr(torch.nn.functional, name.lower()), {}),
        (getattr(F, name.lower()), {"key": jax.random.key(0)}),
    ):
        ones = torch.ones(shape) if not options else jnp.ones(shape)
        with pytest.warns(UserWarning, match=name.lower()):
            function(ones, training=False, **options)
        patterns = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            for seed in range(30):
                options = {"key": jax.random.key(seed)} if options else {}
                patterns.append(np.asarray(function(ones, 0.5, **options)) > 0)
        # Axes along which all elements are equal in every draw are dropped as a whole.
        whole = tuple(
            axis for axis in range(len(shape)) if (np.ptp(np.stack(patterns).astype(int), axis=axis + 1) == 0).all()
        )
        expected = {"Dropout2d": range(2, len(shape)), "Dropout3d": range(1, len(shape))}[name]
        if name == "Dropout3d" and len(shape) == 6:
            expected = range(1, 6)
        assert whole == tuple(expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_parity(getattr(torch.nn, name)(0.3), getattr(nn, name)(0.3, rngs=nnx.Rngs(0)), rng.normal(size=shape))


def test_dropout_of_channels_needs_channels():
    for function, shape in ((F.dropout2d, (3,)), (F.dropout3d, ()), (F.feature_alpha_dropout, (3,))):
        theirs = getattr(torch.nn.functional, function.__name__)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(RuntimeError):
                theirs(torch.ones(shape), training=True)
            with pytest.raises(RuntimeError, match=r"expected at least \d axes, got an input of shape"):
                function(jnp.ones(shape), training=True, key=jax.random.key(0))


DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
WHOLE_CHANNELS = {"Dropout1d": (40, 50, 3), "Dropout2d": (40, 50, 3, 1), "Dropout3d": (40, 50, 1, 3, 1)}


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_layers_draw_a_new_mask_each_time_and_a_seed_repeats_them(name: str, rng: np.random.Generator):
    x = jnp.asarray(rng.normal(size=WHOLE_CHANNELS.get(name, (40, 50, 3))), jnp.float32)
    layer, again = (getattr(nn, name)(0.3, rngs=nnx.Rngs(1)) for _ in range(2))
    first, second = layer(x), layer(x)
    assert (first != second).any()
    np.testing.assert_array_equal(again(x), first)
    np.testing.assert_array_equal(again(x), second)
    mask = layer.draw_mask(x.shape)
    np.testing.assert_allclose(mask.mean(), 0.7, atol=5 * (0.21 / mask.size) ** 0.5)
    np.testing.assert_array_equal(again(x, mask=mask), again(x, mask=mask))
    np.testing.assert_array_equal(layer.eval()(x), x)
    whole = name not in ("Dropout", "AlphaDropout")
    assert mask.shape == ((40, 50, *[1] * (x.ndim - 2)) if whole else x.shape)
    if "Alpha" not in name:
        np.testing.assert_array_equal(
            first == 0, jnp.broadcast_to(~getattr(nn, name)(0.3, rngs=nnx.Rngs(1)).draw_mask(x.shape), x.shape)
        )


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_alpha_dropout_keeps_mean_0_and_variance_1(p: float, rng: np.random.Generator):
    x = rng.normal(size=200_000).astype(np.float32)
    found = nn.AlphaDropout(p, rngs=nnx.Rngs(0))(jnp.asarray(x))
    torch.manual_seed(0)
    expected = torch.nn.AlphaDropout(p)(torch.from_numpy(x)).numpy()
    for y in (found, expected):
        np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=0.02)
    np.testing.assert_allclose(found.min(), expected.min(), rtol=0.2)


def test_functions_of_dropout_want_a_key_or_a_mask():
    for name in DROPOUTS:
        function = {"AlphaDropout": "alpha_dropout", "FeatureAlphaDropout": "feature_alpha_dropout"}.get(
            name, name.lower()
        )
        x = jnp.ones(WHOLE_CHANNELS.get(name, (40, 50, 3)))
        with pytest.raises(ValueError, match=f"{function}: expected a random key or a mask"):
            getattr(F, function)(x, training=True)
        drawn = getattr(F, function)(x, 0.3, True, key=jax.random.key(0))
        np.testing.assert_allclose((drawn == drawn.min()).mean(), 0.3, atol=0.05)


def test_rrelu_draws_new_uniform_slopes_each_time_and_a_seed_repeats_them():
    x = -jnp.ones(10_000)
    layer, again = (nn.RReLU(0.1, 0.7, rngs=nnx.Rngs(1)) for _ in range(2))
    first, second = layer(x), layer(x)
    assert (first != second).all()
    np.testing.assert_array_equal(again(x), first)
    assert -0.7 <= first.min() < -0.69
    assert -0.11 < first.max() <= -0.1
    np.testing.assert_allclose([first.mean(), first.std()], [-0.4, 0.6 / 12**0.5], atol=0.01)
    np.testing.assert_array_equal(layer(x, samples=jnp.full(10_000, 0.2)), 0.2 * x)
    np.testing.assert_allclose(layer.eval()(x), 0.4 * x)
    np.testing.assert_array_equal(F.rrelu(x, training=True, key=jax.random.key(0)) <= -1 / 8, True)
    with pytest.raises(ValueError, match="rrelu: expected a random key or samples"):
        F.rrelu(x, training=True)
    assert nn.RReLU(rngs=nnx.Rngs(0))(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cutoffs", [[3, 6], [1, 2, 9], [9]], ids=str)
def test_adaptive_softmax_knows_all_probabilities_and_the_best_class(cutoffs, bias, x64, rng):
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 10, cutoffs, 2.0, bias).double()
    ours = nn.AdaptiveLogSoftmaxWithLoss(8, 10, cutoffs, 2.0, bias, jnp.float64, rngs=nnx.Rngs(0))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=tuple(parameter.shape))))
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    x = rng.normal(size=(200, 8))
    expected, best = theirs.log_prob(torch.from_numpy(x)).detach().numpy(), theirs.predict(torch.from_numpy(x)).numpy()
    found = ours.log_prob(jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(jnp.exp(found).sum(1), 1, rtol=1e-12)
    for predict in (ours.predict, jax.jit(ours.predict)):
        np.testing.assert_array_equal(predict(jnp.asarray(x)), best)
    assert len(collections.Counter(best.tolist())) > 3
    for attribute in (
        "shortlist_size",
        "n_clusters",
        "head_size",
        "in_features",
        "n_classes",
        "div_value",
        "head_bias",
    ):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert list(ours.cutoffs) == theirs.cutoffs


def test_adaptive_softmax_rejects_what_torch_rejects_and_has_a_named_result():
    layer = nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3, 6], 2.0, rngs=nnx.Rngs(0))
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3, 6], 2.0)
    for method in ("log_prob", "predict"):
        with pytest.raises(IndexError):
            getattr(theirs, method)(torch.ones(8))
        with pytest.raises(IndexError, match="expected 2D input, got 1D"):
            getattr(layer, method)(jnp.ones(8))
    with pytest.raises(RuntimeError):
        theirs.log_prob(torch.ones(1, 1, 8))
    with pytest.raises(RuntimeError, match="expected 2D input, got 3D"):
        layer.log_prob(jnp.ones((1, 1, 8)))
    result = jax.jit(layer)(jnp.ones((3, 8)), jnp.array([1, 10, -1]))
    assert result._fields == theirs(torch.ones(1, 8), torch.tensor([1]))._fields
    assert jnp.isnan(result.output).tolist() == [False, True, True]


def test_adaptive_softmax_keeps_infinities_of_one_example_from_the_clusters_of_others():
    layer = nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2, 4], 2.0, rngs=nnx.Rngs(0))

    def loss(layer: nn.AdaptiveLogSoftmaxWithLoss) -> jax.Array:
        x = jnp.ones((2, 4)).at[0, 0].set(jnp.inf)
        return layer(x, jnp.array([0, 5])).output[1]

    gradient = nnx.grad(loss)(layer)
    assert jnp.isfinite(gradient["tail"]["1"]["0"]["weight"][...]).all()
