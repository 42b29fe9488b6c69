"""Tests that initial values have torch's values or torch's distribution, and torch's exceptions."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from flaxnets.nn import init

KEY = jax.random.key(0)
NAMES = [
    name for name, value in vars(init).items() if inspect.isfunction(value) and not name.startswith(("_", "calculate"))
]


def torchs(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, **options: Any) -> np.ndarray:
    torch.manual_seed(0)
    return getattr(torch.nn.init, name + "_")(torch.empty(shape, dtype=dtype), **options).resolve_conj().numpy()


def test_every_initialiser_of_torch_is_here():
    in_place = {name[:-1] for name in vars(torch.nn.init) if name.endswith("_") and not name.startswith("_")}
    assert set(NAMES) == in_place


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_one_and_options_torchs(name: str):
    ours = list(inspect.signature(getattr(init, name)).parameters.values())
    theirs = list(inspect.signature(getattr(torch.nn.init, name + "_")).parameters.values())
    assert [p.name for p in ours[:3]] == ["key", "shape", "dtype"]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[3:])
    options = [(p.name, p.default) for p in theirs[1:] if p.name != "generator"]
    assert [(p.name, p.default) for p in ours[3:]] == options


DETERMINISTIC: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    *(("constant", shape, {"val": 0.3}) for shape in ((), (3,), (2, 3), (0, 2))),
    ("constant", (2,), {"val": -math.inf}),
    *((name, shape, {}) for name in ("zeros", "ones") for shape in ((), (3,), (2, 3), (2, 1, 3), (0, 2))),
    *(("eye", shape, {}) for shape in ((3, 3), (2, 4), (4, 2), (1, 1), (0, 3), (3, 0))),
    *(("dirac", shape, {}) for shape in ((3, 3, 3), (2, 4, 5), (4, 2, 1), (2, 2, 4), (0, 2, 3), (2, 0, 3), (0, 2, 0))),
    *(("dirac", shape, {}) for shape in ((3, 2, 3, 3), (2, 3, 2, 5), (2, 2, 1, 4), (2, 3, 3, 1, 2), (3, 2, 2, 3, 4))),
    *(("dirac", shape, {"groups": 2}) for shape in ((4, 2, 3), (4, 1, 3), (2, 3, 2), (6, 2, 3, 3), (4, 3, 3, 2, 1))),
    *(("dirac", (6, 2, 3, 3), {"groups": groups}) for groups in (1, 3, 6, -2)),
]


DTYPES = ("float32", "float16", "bfloat16", "int32", "bool", "complex64")


@pytest.mark.parametrize(
    ("name", "shape", "options", "dtype"),
    [
        (name, shape, options, dtype)
        for name, shape, options in DETERMINISTIC
        for dtype in DTYPES
        if not (dtype == "int32" and math.isinf(options.get("val", 0)))  # integers cannot be infinite
    ],
)
def test_constants_are_torchs(name: str, shape: tuple[int, ...], options: dict[str, Any], dtype: str):
    found = getattr(init, name)(None, shape, dtype, **options)
    assert (found.shape, str(found.dtype)) == (shape, dtype)
    tensor = getattr(torch.nn.init, name + "_")(torch.empty(shape, dtype=getattr(torch, dtype)), **options)
    expected = tensor.float().numpy() if dtype == "bfloat16" else tensor.numpy()
    np.testing.assert_array_equal(np.asarray(found, expected.dtype), expected)


BIG = (1000, 250, 4)  # 10**6 elements, fan in 1000, fan out 4000; smaller where torch is slow
RANDOM: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("uniform", BIG, {}),
    ("uniform", BIG, {"a": -3.0, "b": 0.5}),
    ("normal", BIG, {}),
    ("normal", BIG, {"mean": -2.0, "std": 0.3}),
    ("trunc_normal", BIG, {}),
    ("trunc_normal", BIG, {"std": 0.02}),
    ("trunc_normal", BIG, {"mean": 1.0, "std": 2.0, "a": -1.0, "b": 6.0}),
    ("trunc_normal", BIG, {"a": -math.inf, "b": math.inf}),
    ("trunc_normal", BIG, {"a": -0.2, "b": 0.1}),
    ("trunc_normal", (100, 250, 4), {"a": 1.5, "b": 3.0}),
    ("trunc_normal", (100, 250, 4), {"a": -3.0, "b": 3.0, "std": -1.0}),
    ("xavier_uniform", BIG, {}),
    ("xavier_uniform", BIG, {"gain": 2.5}),
    ("xavier_normal", BIG, {}),
    ("xavier_normal", BIG, {"gain": 0.5}),
    *((name, BIG, {}) for name in ("kaiming_uniform", "kaiming_normal")),
    *((name, BIG, {"mode": "fan_out", "nonlinearity": "relu"}) for name in ("kaiming_uniform", "kaiming_normal")),
    *((name, BIG, {"a": 2.0, "mode": "FAN_IN"}) for name in ("kaiming_uniform", "kaiming_normal")),
    ("orthogonal", (400, 300), {}),
    ("orthogonal", (200, 10, 30), {"gain": 3.0}),
    ("sparse", (1000, 1000), {"sparsity": 0.25}),
    ("sparse", (1000, 1000), {"sparsity": 0.9, "std": 2.0}),
]


@pytest.mark.parametrize(("name", "shape", "options"), RANDOM, ids=str)
def test_random_values_have_torchs_distribution(name: str, shape: tuple[int, ...], options: dict[str, Any]):
    expected = torchs(name, shape, **options)
    found = np.asarray(getattr(init, name)(KEY, shape, **options))
    assert found.shape == shape
    if name == "sparse":
        expected, found = expected[expected != 0], found[found != 0]
        assert expected.size == found.size
    count, spread = expected.size, float(expected.std())
    np.testing.assert_allclose(found.mean(), expected.mean(), atol=5 * spread * (2 / count) ** 0.5)
    np.testing.assert_allclose(found.std(), spread, rtol=5 * (1.5 / count) ** 0.5)
    if "uniform" in name or ({"a", "b"} <= options.keys() and math.isfinite(options["a"])):
        np.testing.assert_allclose(
            [found.min(), found.max()], [expected.min(), expected.max()], atol=100 / count * np.ptp(expected)
        )
    # Adjacent values are independent, also where a draw of a power of two was cut to the shape.
    if name not in ("orthogonal", "sparse"):
        flat = found.ravel() - found.mean()
        assert abs((flat[1:] * flat[:-1]).mean()) < 5 * spread**2 / count**0.5
    assert ks_2samp(expected.ravel(), found.ravel()).pvalue > 1e-3


@pytest.mark.filterwarnings("ignore:.*mean.* is more than 2 std:UserWarning")
@pytest.mark.parametrize("bounds", [(4.0, 5.0), (-7.0, -6.0)], ids=str)
def test_truncated_normal_far_in_the_tail_is_torchs(bounds: tuple[float, float]):
    with pytest.warns(UserWarning, match="the mean 0.0 is more than 2 standard deviations from the bounds"):
        found = np.asarray(init.trunc_normal(KEY, (20_000,), a=bounds[0], b=bounds[1]))
    expected = torchs("trunc_normal", (20_000,), a=bounds[0], b=bounds[1])
    assert bounds[0] <= found.min() <= found.max() <= bounds[1]
    assert ks_2samp(expected, found).pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["uniform", "normal", "trunc_normal", "xavier_uniform", "kaiming_normal"])
def test_half_precision_is_drawn_wide_and_rounded(name: str, dtype: str):
    narrow = getattr(init, name)(KEY, (300, 100), dtype)
    assert str(narrow.dtype) == dtype
    np.testing.assert_array_equal(narrow, getattr(init, name)(KEY, (300, 100)).astype(dtype))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uniform", {"a": -1.0, "b": 3.0}),
        ("normal", {"mean": 2.0, "std": 3.0}),
        ("xavier_uniform", {}),
        ("xavier_normal", {}),
        ("kaiming_uniform", {"a": math.sqrt(5)}),
        ("kaiming_normal", {}),
    ],
    ids=str,
)
def test_complex_values_have_torchs_distribution(name: str, options: dict[str, Any]):
    expected, found = (
        torchs(name, (500, 400), torch.complex64, **options),
        getattr(init, name)(KEY, (500, 400), "complex64", **options),
    )
    assert found.dtype == jnp.complex64
    for part in (np.real, np.imag, np.abs):
        assert ks_2samp(part(expected).ravel(), part(np.asarray(found)).ravel()).pvalue > 1e-3
    assert abs(np.corrcoef(np.real(found).ravel(), np.imag(found).ravel())[0, 1]) < 0.02


def test_float64_draws_float64():
    with jax.enable_x64(True):
        for name in ("uniform", "normal", "trunc_normal", "xavier_uniform", "kaiming_normal", "orthogonal"):
            found = np.asarray(getattr(init, name)(KEY, (40, 30), "float64"))
            assert found.dtype == np.float64
            assert (found != found.astype(np.float32)).mean() > 0.9


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("constant", "zeros", "ones", "eye", "dirac", "sparse")]
)
def test_keys_decide_and_transformations_change_nothing(name: str):
    initialise = getattr(init, name)
    first, second = initialise(KEY, (5, 3)), initialise(jax.random.key(1), (5, 3))
    assert (first != second).any()
    np.testing.assert_array_equal(initialise(KEY, (5, 3)), first)
    np.testing.assert_allclose(jax.jit(lambda key: initialise(key, (5, 3)))(KEY), first, rtol=1e-4, atol=1e-6)
    both = jax.vmap(lambda key: initialise(key, (5, 3)))(jnp.stack([KEY, jax.random.key(1)]))
    np.testing.assert_allclose(both, jnp.stack([first, second]), rtol=1e-4, atol=1e-6)
    shape = jax.eval_shape(lambda: initialise(KEY, (5, 3), "float16"))
    assert (shape.shape, shape.dtype) == ((5, 3), jnp.float16)


@pytest.mark.parametrize("gain", [1.0, 0.3, 2.0])
@pytest.mark.parametrize(
    "shape", [(4, 4), (3, 7), (7, 3), (1, 5), (5, 1), (3, 2, 4), (8, 2, 1, 2), (20, 2, 2, 2)], ids=str
)
def test_orthogonal_rows_or_columns_have_the_length_of_the_gain(shape: tuple[int, ...], gain: float):
    with jax.enable_x64(True):
        matrix = np.asarray(init.orthogonal(KEY, shape, "float64", gain=gain)).reshape(shape[0], -1)
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, gain**2 * np.eye(matrix.shape[1]), atol=1e-14)


def test_orthogonal_is_uniform_over_all_orthogonal_matrices():
    keys = jax.random.split(KEY, 2000)
    found = np.asarray(jax.vmap(lambda key: init.orthogonal(key, (3, 3)))(keys))
    expected = np.stack([torch.nn.init.orthogonal_(torch.empty(3, 3)).numpy() for _ in range(2000)])
    for entry in np.ndindex(3, 3):
        assert ks_2samp(found[:, *entry], expected[:, *entry]).pvalue > 1e-3
    np.testing.assert_allclose((np.linalg.det(found) > 0).mean(), 0.5, atol=0.05)
    for shape in ((0, 3), (3, 0), (2, 0, 3)):
        assert init.orthogonal(KEY, shape).shape == torchs("orthogonal", shape).shape
    assert init.orthogonal(KEY, (3, 2), "bfloat16").dtype == jnp.bfloat16


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.51, 1.0, 1.5, -0.3])
@pytest.mark.parametrize("shape", [(7, 5), (10, 3), (1, 4), (0, 3), (3, 0)], ids=str)
def test_sparse_has_exactly_torchs_number_of_zeros_in_each_column(shape: tuple[int, int], sparsity: float):
    found = np.asarray(init.sparse(KEY, shape, sparsity=sparsity))
    np.testing.assert_array_equal((found == 0).sum(0), (torchs("sparse", shape, sparsity=sparsity) == 0).sum(0))
    if shape[0] == 7 and sparsity == 0.5:
        assert len({tuple(column) for column in (found == 0).T}) > 1


LAYERS = {
    "Linear": (5, 3), "Bilinear": (5, 3, 2), "Embedding": (10, 3), "EmbeddingBag": (10, 3), "Conv1d": (4, 6, 3),
    "Conv2d": (4, 6, (3, 2)), "Conv3d": (4, 6, (3, 2, 1)), "ConvTranspose1d": (4, 6, 3),
    "ConvTranspose2d": (4, 6, (3, 2)), "ConvTranspose3d": (4, 6, (3, 2, 1)),
}  # fmt: skip
GROUPED = {f"grouped {name}": LAYERS[name] for name in LAYERS if name.startswith("Conv")}


@pytest.mark.parametrize(("name", "arguments"), (LAYERS | GROUPED).items(), ids=LAYERS | GROUPED)
def test_fans_are_torchs_for_every_kind_of_layer(name: str, arguments: tuple):
    options = {"groups": 2} if name.startswith("grouped") else {}
    weight = getattr(torch.nn, name.removeprefix("grouped "))(*arguments, **options).weight
    expected = torch.nn.init._calculate_fan_in_and_fan_out(weight)
    assert init.calculate_fan_in_and_fan_out(tuple(weight.shape)) == expected


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0), (3, 4, 0), (2, 3, 4, 5, 6, 7)], ids=str)
def test_fans_are_torchs_for_any_shape(shape: tuple[int, ...]):
    assert init.calculate_fan_in_and_fan_out(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


GAINS = ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"] + [
    f"conv{transpose}{n}d" for transpose in ("", "_transpose") for n in (1, 2, 3)
]


@pytest.mark.parametrize("nonlinearity", GAINS)
def test_gains_are_torchs(nonlinearity: str):
    for param in (None, 0.2, 3):
        assert init.calculate_gain(nonlinearity, param) == torch.nn.init.calculate_gain(nonlinearity, param)


def test_empty_shapes_give_empty_arrays():
    for name in ("kaiming_uniform", "kaiming_normal"):
        for options in ({}, {"mode": "fan"}):
            with pytest.warns(UserWarning, match="no-op"):
                expected = torchs(name, (0, 3), **options)
            assert getattr(init, name)(KEY, (0, 3), **options).shape == expected.shape
    for name in ("uniform", "normal", "trunc_normal", "xavier_uniform", "xavier_normal"):
        for shape in ((0, 3), (3, 0)):
            assert getattr(init, name)(KEY, shape).shape == torchs(name, shape).shape


WHOLE = ("int32", "bool")
REJECTED: list[tuple[str, tuple[int, ...], str, dict[str, Any], str]] = [
    ("constant", (2,), "float32", {"val": 2.7j}, "complex value 2.7j requires a complex dtype"),
    *(("eye", shape, "float32", {}, "two axes, got") for shape in ((), (3,), (2, 2, 2))),
    *(("dirac", shape, "float32", {}, "3, 4 or 5 axes, got") for shape in ((3, 4), (1, 1, 1, 1, 1, 1))),
    ("dirac", (3, 4, 3), "float32", {"groups": 2}, r"groups=2 must divide the first axis of the shape \(3, 4, 3\)"),
    ("dirac", (3, 4, 3), "float32", {"groups": 0}, "groups must not be 0, got 0"),
    ("dirac", (4, 4, 3), "float32", {"groups": 2.0}, "'float'"),
    ("dirac", (4, 4, 0), "float32", {"groups": 2}, r"got the shape \(4, 4, 0\)"),
    ("uniform", (3,), "float32", {"a": 1.0, "b": 0.0}, "got a=1.0 and b=0.0"),
    ("uniform", (3,), "float32", {"b": math.inf}, "got a=0.0 and b=inf"),
    ("uniform", (3,), "float32", {"a": math.nan}, "got a=nan"),
    ("uniform", (3,), "float16", {"b": 1e5}, "b=100000.0"),
    *(("uniform", (3,), dtype, {}, f"got {dtype}") for dtype in WHOLE),
    ("normal", (3,), "float32", {"std": -1.0}, "must not be negative, got -1.0"),
    ("normal", (3,), "float32", {"std": math.nan}, "must not be negative, got nan"),
    ("normal", (0,), "float32", {"std": -1.0}, "must not be negative, got -1.0"),
    *(("normal", (3,), dtype, {}, f"got {dtype}") for dtype in WHOLE),
    ("trunc_normal", (3,), "float32", {"std": 0.0}, "must not be 0, got 0.0"),
    ("trunc_normal", (3,), "float32", {"a": 1.0, "b": -1.0}, "got a=1.0 and b=-1.0"),
    ("trunc_normal", (3,), "float32", {"a": 1.5, "b": math.inf}, "got a=1.5 and b=inf"),
    *(("trunc_normal", (3,), dtype, {}, f"got {dtype}") for dtype in (*WHOLE, "complex64")),
    *((f"{kind}_{law}", (3,), "float32", {}, r"at least two axes, got the shape \(3,\)")
      for kind in ("xavier", "kaiming") for law in ("uniform", "normal")),
    *((f"{kind}_{law}", (3, 2), dtype, {}, f"got {dtype}")
      for kind in ("xavier", "kaiming") for law in ("uniform", "normal") for dtype in WHOLE),
    ("xavier_uniform", (3, 4), "float32", {"gain": -1.0}, "with a <= b, got a=0.9"),
    ("xavier_normal", (3, 4), "float32", {"gain": -1.0}, "must not be negative, got -0.5"),
    *((f"xavier_{law}", (0, 0), "float32", {}, r"for the shape \(0, 0\)") for law in ("uniform", "normal")),
    *((f"kaiming_{law}", (3, 4), "float32", {"mode": "fan"}, "got 'fan'") for law in ("uniform", "normal")),
    *((f"kaiming_{law}", (3, 4), "float32", {"nonlinearity": "gelu"}, "unknown nonlinearity 'gelu'")
      for law in ("uniform", "normal")),
    ("kaiming_uniform", (3, 4), "float32", {"a": "x"}, "must be a number, got 'x'"),
    ("kaiming_uniform", (3, 4), "float32", {"a": True}, "must be a number, got True"),
    *(("orthogonal", shape, "float32", {}, "at least two axes, got") for shape in ((), (3,))),
    *(("orthogonal", (3, 3), dtype, {}, f"got {dtype}") for dtype in (*WHOLE, "complex64")),
    *(("sparse", shape, "float32", {"sparsity": 0.5}, "two axes, got") for shape in ((), (3,), (2, 2, 2))),
    ("sparse", (3, 3), "float32", {"sparsity": 0.5, "std": -1.0}, "must not be negative, got -1.0"),
    *(("sparse", (3, 3), dtype, {"sparsity": 0.5}, f"got {dtype}") for dtype in WHOLE),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "dtype", "options", "message"), REJECTED, ids=str)
def test_exceptions_are_torchs_and_carry_the_value(name, shape, dtype, options, message):
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        getattr(torch.nn.init, name + "_")(torch.empty(shape, dtype=getattr(torch, dtype)), **options)
    with pytest.raises(theirs.type, match=message):
        getattr(init, name)(KEY, shape, dtype, **options)


@pytest.mark.parametrize(("function", "arguments", "message"), [
    ("calculate_gain", ("gelu",), "unknown nonlinearity 'gelu'"),
    ("calculate_gain", ("leaky_relu", "x"), "must be a number, got 'x'"),
    ("calculate_gain", ("leaky_relu", True), "must be a number, got True"),
])  # fmt: skip
def test_gain_rejects_what_torch_rejects(function: str, arguments: tuple, message: str):
    with pytest.raises(ValueError):  # noqa: PT011
        getattr(torch.nn.init, function)(*arguments)
    with pytest.raises(ValueError, match=message):
        getattr(init, function)(*arguments)


def test_initialisers_can_take_each_others_place():
    initialisers: list[Callable[..., jax.Array]] = [init.zeros, init.ones, init.eye, init.normal, init.xavier_uniform]
    for initialise in initialisers:
        assert initialise(KEY, (3, 2), jnp.float16).dtype == jnp.float16
