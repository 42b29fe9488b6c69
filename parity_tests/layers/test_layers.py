"""Tests that every layer computes the same as torch's layer with the same name, and has the same defaults."""

import inspect
from collections.abc import Callable

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases import FUNCTIONS, LAYERS, SWEEPS, Function, Layer, Sweep
from flax import nnx
from report import measurement

from flaxnets import nn
from flaxnets.parity import assert_parity

Case = Layer | Function
Record = Callable[[str, object], None]

# One case of each class.
FIRST = {case.name: case for case in reversed([*LAYERS, *FUNCTIONS])}


def assert_case(case: Case, rng: np.random.Generator, record_property: Record, eager: bool) -> None:
    # To save time, only float64 is tested for every case, because rounding errors of float32 would hide small
    # differences. test_float32_is_as_near_as_float32_can_be tests float32 for one case of each class.
    options = {"dtypes": ("float64",), "runs": ("eager", "jit") if eager else ("jit",), **case.options()}
    report = assert_parity(*case.pair(), *case.inputs(rng), **options)
    record_property("parity", measurement(case.name, case.option_names(), report))


@pytest.fixture
def all_eager(request: pytest.FixtureRequest) -> bool:
    """Whether every case also runs eagerly (twice the time). By default only the first case of each class does."""
    return request.config.getoption("--eager")


@pytest.mark.parametrize("case", [*LAYERS, *FUNCTIONS], ids=str)
def test_outputs_gradients_and_buffers_are_torchs(
    case: Layer | Function, rng: np.random.Generator, record_property: Record, all_eager: bool
):
    assert_case(case, rng, record_property, eager=all_eager or case is FIRST[case.name])


@pytest.mark.parametrize("sweep", SWEEPS, ids=str)
def test_arguments_and_shapes_that_hypothesis_chooses_make_no_difference(
    sweep: Sweep, record_property: Record, all_eager: bool
):
    @hypothesis.settings(max_examples=sweep.examples, deadline=None, derandomize=True, database=None)
    @hypothesis.given(case=sweep.cases)
    def holds(case: Case) -> None:
        assert case.name == sweep.name
        assert_case(case, np.random.default_rng(0), record_property, eager=all_eager)

    holds()


# To save time, float32 is tested for one case of each class, and only compiled. The same code computes in both dtypes,
# so what float32 adds is the choice of kernels and of accumulators, which depends on the class.
@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST)
def test_float32_is_as_near_as_float32_can_be(case: Case, rng: np.random.Generator):
    assert_parity(*case.pair(), *case.inputs(rng), **{**case.options(), "dtypes": ("float32",), "runs": ("jit",)})


# Arguments of torch's constructors that flaxnets does not have: JAX decides where arrays are placed.
NOT_TAKEN = {"device"}


def defined(kind: type) -> set[str]:
    """Return the names that a class and its bases define, up to the common base class of all layers."""
    bases = kind.__mro__[: next(i for i, base in enumerate(kind.__mro__) if base.__name__ == "Module")]
    return {name for base in bases for name in vars(base)}


# Classes whose signature in torch is *args, **kwargs: the same positional arguments must have the same effect.
HIDDEN = {
    "RNN": (3, 4, 2, "relu", False, True, 0.5, True),
    "GRU": (3, 4, 2, False, True, 0.5, True),
    "LSTM": (3, 4, 2, False, True, 0.5, True, 2),
}


@pytest.mark.parametrize(("name", "arguments"), HIDDEN.items(), ids=HIDDEN)
def test_constructor_takes_torchs_positional_arguments(name: str, arguments: tuple):
    expected, found = getattr(torch.nn, name)(*arguments), getattr(nn, name)(*arguments, rngs=nnx.Rngs(0))
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
    for attribute in (*names, *(["nonlinearity"] if name == "RNN" else [])):
        assert getattr(found, attribute) == getattr(expected, attribute)


@pytest.mark.parametrize("name", sorted({case.name for case in LAYERS if case.build is None} - HIDDEN.keys()))
def test_constructor_takes_torchs_arguments(name: str):
    def arguments(kind):
        # inspect.signature would return that of object.__init__, which has no parameters.
        if "__init__" not in defined(kind):
            return {}
        return {
            p.name: getattr(p.default, "__name__", p.default)
            for p in inspect.signature(kind.__init__).parameters.values()
            if p.name not in {"self", "dtype", "rngs", *NOT_TAKEN} and p.kind is not p.VAR_KEYWORD
        }

    expected, found = arguments(getattr(torch.nn, name)), arguments(getattr(nn, name))
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize("name", sorted({case.name for case in LAYERS}))
def test_call_takes_torchs_arguments(name: str):
    expected = list(inspect.signature(getattr(torch.nn, name).forward).parameters)
    found = list(inspect.signature(getattr(nn, name).__call__).parameters)
    assert found[: len(expected)] == expected


def test_max_pool_gives_the_first_of_equal_maxima_the_whole_gradient():
    x = jnp.ones((1, 1, 4, 4))
    gradient = jax.grad(lambda x: nn.MaxPool2d(2)(x).sum())(x)
    assert gradient[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_relu_has_gradient_zero_at_zero():
    assert jax.grad(lambda x: nn.ReLU()(x))(0.0) == 0.0


def test_max_pool_passes_nan_on():
    x = jnp.zeros((1, 4, 4)).at[0, 1, 1].set(jnp.nan)
    expected = torch.nn.MaxPool2d(3, 1)(torch.tensor(np.array(x))).numpy()
    np.testing.assert_array_equal(nn.MaxPool2d(3, 1)(x), expected)


def test_batch_norm_leaves_mean_0_and_unbiased_variance_in_the_running_statistics(rng):
    x = jnp.asarray(rng.normal(3, 2, (8, 4, 5, 5)), jnp.float32)
    norm = nn.BatchNorm2d(4, momentum=1.0, eps=1e-9)
    y = norm(x)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-6)
    count = 8 * 5 * 5
    np.testing.assert_allclose(y.var((0, 2, 3), ddof=1), count / (count - 1), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var[...], x.var((0, 2, 3), ddof=1), rtol=1e-5)
    assert int(norm.num_batches_tracked[...]) == 1


@pytest.mark.parametrize(
    ("make", "bound"),
    [
        (lambda nn, **r: nn.Linear(300, 200, **r), 300**-0.5),
        (lambda nn, **r: nn.Conv2d(20, 60, 5, **r), 500**-0.5),
        (lambda nn, **r: nn.Conv2d(20, 600, 5, groups=2, **r), 250**-0.5),
    ],
    ids=["Linear", "Conv2d", "grouped Conv2d"],
)
def test_initial_values_have_torchs_distribution(make, bound):
    module = make(nn, rngs=nnx.Rngs(7))
    for name, expected in make(torch.nn).named_parameters():
        values, expected = np.asarray(module.state_dict()[name]), expected.detach().numpy()
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.95 * bound
        count = values.size
        np.testing.assert_allclose(values.mean(), 0, atol=5 * bound / (3 * count) ** 0.5)
        np.testing.assert_allclose(values.std(), expected.std(), rtol=5 / count**0.5)


def test_dropout_draws_a_new_mask_each_time_and_a_seed_repeats_them(rng):
    x = jnp.ones((50, 50))
    layer, again = nn.Dropout(0.3, rngs=nnx.Rngs(1)), nn.Dropout(0.3, rngs=nnx.Rngs(1))
    first, second = layer(x), layer(x)
    assert (first != second).any()
    np.testing.assert_array_equal(first, again(x))
    np.testing.assert_array_equal(second, again(x))
    np.testing.assert_allclose((first == 0).mean(), 0.3, atol=0.05)
    np.testing.assert_allclose(np.unique(first), [0, 1 / 0.7], rtol=1e-6)
    mask = jnp.asarray(rng.random((50, 50)) < 0.5)
    np.testing.assert_allclose(layer(x, mask=mask), mask / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(layer.eval()(x), x)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_stays_half_and_keeps_float32_statistics(dtype):
    net = nn.Sequential(nn.Conv2d(1, 2, 3, rngs=nnx.Rngs(0)), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2))
    net[0].to(dtype)
    y = net(jnp.ones((2, 1, 6, 6), dtype))
    assert y.dtype == dtype
    assert net[1].running_mean.dtype == jnp.float32


def test_sync_batch_norm_along_an_axis_normalises_over_the_whole_batch(rng):
    x = jnp.asarray(rng.normal(3, 2, (2, 6, 4, 5, 5)), jnp.float32)
    whole, parts = nn.BatchNorm2d(4), nn.SyncBatchNorm(4, axis_name="devices")
    graphdef, state = nnx.split(parts)

    def call(x):
        module = nnx.merge(graphdef, state, copy=True)
        return module(x), nnx.state(module)

    y, states = jax.vmap(call, axis_name="devices")(x)
    expected = whole(x.reshape(12, 4, 5, 5))
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
    for part in range(2):
        nnx.update(parts, jax.tree.map(lambda array, part=part: array[part], states))
        np.testing.assert_allclose(parts.running_var[...], whole.running_var[...], rtol=1e-5)
