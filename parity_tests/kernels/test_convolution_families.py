"""Tests of the CPU implementations of convolutions that are slow in XLA, against ``lax.conv_general_dilated``."""

import functools
import os
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flaxnets import kernels
from flaxnets.kernels.convolution_nd import Window, convolution_nd, native_convolution
from flaxnets.nn import functional as F


class Case(NamedTuple):
    """A convolution with these channels, or the transposed convolution from its output to its input."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    channels: tuple[int, int] = (3, 4)
    groups: int = 1
    stride: tuple[int, ...] | None = None
    pads: tuple[tuple[int, int], ...] | None = None
    dilation: tuple[int, ...] | None = None

    def window(self, channels_last: bool = False) -> Window:
        one = (1,) * len(self.size)
        pads = self.pads or ((0, 0),) * len(self.size)
        return Window(
            self.size, self.kernel, self.stride or one, pads, self.dilation or one, self.groups, channels_last
        )

    def arrays(self, rng: np.random.Generator, result: str, dtype: Any = jnp.float64, n: int = 2) -> list[jax.Array]:
        data = (self.channels[0], *self.size) if result == "output" else (self.channels[1], *self.window().output)
        weight = (self.channels[1], self.channels[0] // self.groups, *self.kernel)
        return [jnp.asarray(rng.normal(size=shape), dtype) for shape in ((n, *data), weight)]


CASES = {
    "1-d depthwise": Case((9,), (3,), (4, 4), 4, pads=((1, 1),)),
    "1-d depthwise, many taps": Case((50,), (41,), (3, 3), 3, pads=((20, 20),)),
    "1-d groups, strided and dilated": Case((14,), (3,), (4, 8), 2, (2,), ((2, 1),), (3,)),
    "1-d blocks": Case((11,), (4,), stride=(4,), pads=((1, 0),)),
    "1-d, many taps, strided": Case((50,), (36,), (2, 3), stride=(3,), pads=((5, 7),)),
    "2-d depthwise": Case((7, 6), (3, 3), (4, 4), 4, pads=((1, 1), (1, 1))),
    "2-d depthwise, strided, asymmetric": Case((8, 7), (3, 2), (4, 4), 4, (2, 3), ((1, 2), (0, 1))),
    "2-d depthwise, dilated": Case((9, 8), (3, 2), (4, 4), 4, pads=((2, 2), (0, 3)), dilation=(2, 3)),
    "2-d depthwise, strided and dilated": Case((9, 9), (2, 3), (3, 3), 3, (2, 1), ((1, 1), (2, 2)), (3, 2)),
    "2-d depthwise with a multiplier": Case((6, 5), (3, 3), (3, 9), 3, (2, 2), ((1, 1), (1, 1))),
    "2-d depthwise, more rows than are added at once": Case((19, 4), (2, 3), (3, 3), 3),
    "2-d groups": Case((6, 7), (3, 3), (6, 4), 2, pads=((1, 1), (1, 1))),
    "2-d groups, strided": Case((8, 7), (3, 2), (8, 16), 4, (2, 3), ((1, 1), (0, 1))),
    "2-d depthwise, strided and dilated columns": Case((8, 11), (2, 3), (4, 4), 4, (1, 2), ((0, 0), (1, 2)), (2, 3)),
    "2-d groups, a stride wider than the image": Case((4, 1), (1, 1), (2, 2), 2, (1, 3)),
    "1-d groups, a stride wider than the sequence": Case((2,), (2,), (4, 4), 4, (3,)),
    "2-d groups, dilated": Case((8, 8), (2, 3), (4, 8), 2, dilation=(2, 2)),
    "2-d groups wider than a dense convolution": Case((4, 5), (2, 2), (40, 20), 2),
    "2-d groups of many channels": Case((5, 4), (2, 3), (32, 48), 2, (2, 1), ((1, 0), (1, -1))),
    "2-d groups, a prime number": Case((4, 4), (2, 2), (14, 28), 7),
    "2-d groups, more than are written out": Case((3, 3), (2, 2), (560, 280), 70),
    "2-d groups 1x1": Case((4, 5), (1, 1), (6, 9), 3),
    "2-d patches": Case((9, 8), (4, 3), stride=(4, 3), pads=((0, 0), (1, 1))),
    "2-d patches with gaps": Case((9, 8), (2, 1), stride=(3, 2)),
    "2-d, strided by more than the kernel in one axis": Case((9, 8), (3, 1), stride=(2, 3)),
    "2-d, overlapping": Case((8, 9), (4, 4), stride=(2, 2), pads=((1, 1), (1, 1))),
    "2-d, more padding than the kernel reaches": Case((4, 5), (2, 3), stride=(2, 1), pads=((3, 2), (4, 4))),
    "2-d, negative padding": Case((9, 8), (3, 2), stride=(2, 1), pads=((1, -2), (-1, 0))),
    "2-d, remainder that no window covers": Case((9, 10), (2, 3), stride=(3, 3), groups=1),
    "2-d depthwise, joined rows": Case((9, 10), (5, 4), (3, 3), 3, pads=((2, 2), (1, 2))),
    "2-d depthwise, joined rows, strided": Case((9, 11), (4, 5), (3, 3), 3, (2, 3), ((1, 2), (2, 1))),
    "2-d depthwise, joined rows, strided and dilated": Case((9, 12), (3, 6), (2, 2), 2, (2, 1), dilation=(3, 2)),
    "2-d depthwise, joined rows, more padding than the kernel reaches": Case(
        (2, 3), (4, 5), (2, 2), 2, pads=((5, 4), (6, 7))
    ),
    "2-d depthwise, joined rows, negative padding": Case((9, 11), (5, 5), (2, 2), 2, pads=((-1, 0), (2, -2))),
    "2-d groups, joined rows, two loops": Case((6, 7), (3, 3), (8, 4), 2, pads=((1, 1), (1, 1))),
    "2-d depthwise, joined rows, more taps than are written out": Case((12, 13), (11, 11), (2, 2), 2),
    "3-d": Case((5, 4, 6), (3, 2, 3), pads=((1, 1), (0, 1), (1, 1))),
    "3-d, strided": Case((7, 6, 5), (3, 2, 3), stride=(2, 3, 2), pads=((1, 1), (0, 0), (1, 1))),
    "3-d, dilated": Case((7, 6, 5), (2, 3, 2), pads=((1, 1), (1, 1), (0, 0)), dilation=(3, 1, 2)),
    "3-d groups": Case((4, 5, 4), (2, 3, 1), (4, 4), 2, (1, 2, 1)),
    "3-d depthwise": Case((5, 4, 4), (3, 2, 3), (4, 4), 4, (2, 1, 1), ((1, 1), (0, 0), (1, 1))),
    "3-d blocks": Case((5, 4, 6), (2, 2, 3), stride=(2, 2, 3)),
    "3-d, many taps": Case((5, 5, 5), (3, 4, 4), (2, 2), pads=((1, 1), (2, 1), (2, 1)), stride=(1, 1, 2)),
}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def error(got: Any, expected: Any) -> float:
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return max(np.abs(a - b).max() / (np.abs(b).max() or 1.0) for a, b in pairs)


def functions(name: str, result: str, channels_last: bool = False, library: Any = "xla") -> tuple[Any, Any]:
    """Return the CPU implementation and the reference."""
    case = CASES[name]
    window = case.window()
    ours = case.window(channels_last)._replace(library=library)
    made = functools.partial(convolution_nd, bias=None, result=result, window=ours)
    return made, functools.partial(native_convolution, bias=None, result=result, window=window)


LAYOUTS = [
    *((name, None) for name in CASES),
    *((name, False) for name in CASES if "joined" in name or "blocks" in name or "patches" in name),
]


@pytest.mark.parametrize("result", ["output", "input"])
@pytest.mark.parametrize(("name", "channels_last"), LAYOUTS)  # None: a random layout
def test_outputs_and_gradients_are_those_of_xlas_convolution(name, channels_last, result, rng):
    arrays = CASES[name].arrays(rng, result)
    made, native = functions(name, result, rng.random() < 0.5 if channels_last is None else channels_last)
    cotangent = jnp.asarray(rng.normal(size=jax.eval_shape(native, *arrays).shape))

    def both(function: Any) -> Any:
        output, back = jax.vjp(function, *arrays)
        return output, back(cotangent)

    (got, got_gradients), (expected, gradients) = jax.jit(lambda: (both(made), both(native)))()
    assert error(got, expected) <= 1e-12
    assert error(got_gradients, gradients) <= 1e-10


IN_FLOAT32 = [
    *((name, library, True) for name in CASES for library in ("xla", "onednn")),
    *((name, "xla", False) for name, case in CASES.items() if case.groups > 1 and len(case.size) == 2),
]


@pytest.mark.parametrize("result", ["output", "input"])
@pytest.mark.parametrize(("name", "library", "channels_last"), IN_FLOAT32)
def test_float32_has_the_same_numbers_with_both_libraries(name, result, library, channels_last, rng):
    arrays = CASES[name].arrays(rng, result, jnp.float32)
    made, native = functions(name, result, channels_last, library)
    cotangent = jnp.asarray(rng.normal(size=jax.eval_shape(native, *arrays).shape), jnp.float32)

    def both(function: Any, dtype: Any) -> Any:
        output, back = jax.vjp(function, *(x.astype(dtype) for x in arrays))
        return output, back(cotangent.astype(dtype))

    got, expected = jax.jit(lambda: (both(made, jnp.float32), both(native, jnp.float64)))()
    assert error(got, expected) <= 1e-5


MAPPED = ["2-d groups, strided", "2-d depthwise", "3-d, strided", "2-d depthwise with a multiplier"]


@pytest.mark.parametrize("axes", [(0, None), (None, 1), (1, 0)], ids=str)
@pytest.mark.parametrize("result", ["output", "input"])
@pytest.mark.parametrize("name", MAPPED)
def test_vmap_maps_outputs_and_gradients(name, result, axes, rng):
    draws = [CASES[name].arrays(rng, result) for _ in range(3)]
    stacked = [jnp.stack(arrays, axis or 0) for arrays, axis in zip(zip(*draws, strict=True), axes, strict=True)]
    arrays = [s if axis is not None else s[0] for s, axis in zip(stacked, axes, strict=True)]
    made, native = functions(name, result, channels_last=axes == (1, 0))

    def both(function: Any) -> Any:
        def one(*arrays: jax.Array) -> Any:
            output, back = jax.vjp(function, *arrays)
            return output, back(jnp.cos(output))

        return jax.vmap(one, in_axes=axes)(*arrays)

    def slow() -> Any:  # one example after the other
        each = [[x if a is None else jnp.take(x, i, a) for x, a in zip(arrays, axes, strict=True)] for i in range(3)]
        outputs = []
        for inputs in each:
            output, back = jax.vjp(native, *inputs)
            outputs.append((output, back(jnp.cos(output))))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)

    got, expected = jax.jit(lambda: (both(made), slow()))()
    assert error(got, expected) <= 1e-10


@pytest.mark.parametrize("name", ["images", "sequences"])
def test_ensembles_and_gradients_by_example_of_one_group_are_no_groups_of_xla(name, rng):
    function, x, weight, options, _ = CHOICES[name]
    x, weight = (jnp.asarray(rng.normal(size=(3, *shape))) for shape in (x, weight))

    def loss(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sin(function(x, weight, **options)).sum()

    def ensemble(x: jax.Array, weight: jax.Array) -> Any:
        return jax.vmap(jax.value_and_grad(loss, (0, 1)))(x, weight)

    def by_example(x: jax.Array, weight: jax.Array) -> Any:
        return jax.vmap(jax.grad(loss, 1), in_axes=(0, None))(x, weight[0])

    for mapped, weights in ((ensemble, weight), (by_example, weight[:1].repeat(3, 0))):
        lowered = jax.jit(mapped).lower(x, weight)
        assert "_group_count = 3" not in lowered.as_text()
        each = [jax.value_and_grad(loss, (0, 1))(*pair) for pair in zip(x, weights, strict=True)]
        expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        assert error(lowered.compile()(x, weight), expected if mapped is ensemble else expected[1][1]) <= 1e-10


def test_vmap_over_no_examples_gives_none():
    made, native = functions("2-d groups", "output")
    case = CASES["2-d groups"]
    x, weight = jnp.ones((0, 2, 6, *case.size)), jnp.ones((4, 3, 3, 3))
    got = jax.vmap(made, in_axes=(0, None))(x, weight)
    assert got.shape == jax.eval_shape(jax.vmap(native, in_axes=(0, None)), x, weight).shape


@pytest.mark.parametrize("result", ["output", "input"])
@pytest.mark.parametrize("name", ["2-d groups, strided", "2-d depthwise", "3-d", "2-d patches"])
def test_forward_second_and_mixed_derivatives_and_scan(name, result, rng):
    arrays = CASES[name].arrays(rng, result)
    tangents = CASES[name].arrays(rng, result)
    made, native = functions(name, result)

    def all_of(function: Any) -> Any:
        def loss(*arrays: jax.Array) -> jax.Array:
            return jnp.sin(function(*arrays)).sum()

        gradient = jax.grad(loss, (0, 1))
        hessian_vector = jax.jvp(gradient, arrays, tangents)
        twice = jax.grad(lambda *arrays: sum((g**2).sum() for g in gradient(*arrays)), (0, 1))(*arrays)

        def step(weight: jax.Array, x: jax.Array) -> Any:
            value, slope = jax.value_and_grad(loss, 1)(x, weight)
            return weight - 0.01 * slope, value

        looped = lax.scan(jax.checkpoint(step), arrays[1], jnp.stack([arrays[0], tangents[0]]))
        return hessian_vector, twice, looped

    got, expected = jax.jit(lambda: (all_of(made), all_of(native)))()
    assert error(got, expected) <= 1e-10


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(
    "name", ["2-d depthwise", "2-d groups", "3-d, strided", "2-d patches", "1-d, many taps, strided"]
)
def test_lower_precision_is_no_further_off_than_xlas_convolution(name, dtype, rng):
    results = []
    for result in ("output", "input"):
        arrays = CASES[name].arrays(rng, result, dtype)
        made, native = functions(name, result)

        def both(function: Any, arrays: Any) -> Any:
            output, back = jax.vjp(function, *arrays)
            return output, back(output)

        wide = [x.astype(jnp.float64) for x in arrays]
        outputs = jax.jit(lambda: (both(made, arrays), both(native, arrays), both(native, wide)))()  # noqa: B023
        assert {x.dtype for x in jax.tree.leaves(outputs[0])} == {jnp.dtype(dtype)}
        results.append(jax.tree.map(lambda x: np.asarray(x, np.float64), outputs))
    for got, native, exact in results:
        assert error(got, exact) <= max(2 * error(native, exact), 4 * float(jnp.finfo(dtype).eps))


# Calls of the layers' functions, and whether the CPU implementation replaces XLA's convolution.
CHOICES = {
    "grouped": (F.conv2d, (2, 4, 6, 6), (4, 2, 3, 3), {"groups": 2}, True),
    "depthwise": (F.conv1d, (2, 4, 6), (4, 1, 3), {"groups": 4}, True),
    "volumes": (F.conv3d, (2, 3, 4, 4, 4), (4, 3, 2, 2, 2), {}, True),
    "patches": (F.conv2d, (2, 3, 8, 8), (4, 3, 4, 4), {"stride": 4}, True),
    "transposed": (F.conv_transpose2d, (2, 3, 4, 4), (3, 4, 3, 3), {"stride": 2}, True),
    "transposed groups": (F.conv_transpose1d, (2, 4, 4), (4, 3, 3), {"groups": 2, "stride": 2}, True),
    "images": (F.conv2d, (2, 3, 6, 6), (4, 3, 3, 3), {"padding": 1}, False),
    "dilated images": (F.conv2d, (2, 3, 6, 6), (4, 3, 3, 3), {"dilation": 2}, True),
    "sequences": (F.conv1d, (2, 3, 6), (4, 3, 3), {}, True),
}  # fmt: skip


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
@pytest.mark.parametrize("name", CHOICES)
def test_only_cpus_replace_xlas_convolution(name, platform):
    function, x, weight, options, is_replaced = CHOICES[name]

    def both(x: jax.Array, weight: jax.Array) -> Any:
        output, back = jax.vjp(functools.partial(function, **options), x, weight)
        return output, back(output)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, weight)]
    text = jax.jit(both).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    count = text.count("stablehlo.convolution")
    groups = options.get("groups", 1)
    assert f"feature_group_count = {groups} " in text or (is_replaced and platform == "cpu")
    if not is_replaced or platform != "cpu":
        assert count == 3
    else:
        assert "batch_group_count = 2" not in text


@pytest.mark.parametrize("dtype", [np.int32, np.complex64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", ["grouped", "volumes", "transposed", "patches"])
def test_integers_and_complex_numbers_keep_xlas_convolution(name, dtype, rng):
    function, x, weight, options, _ = CHOICES[name]
    x, weight = (jnp.asarray(rng.integers(-4, 5, shape), dtype) for shape in (x, weight))
    got = function(x, weight, **options)
    assert got.dtype == dtype
    np.testing.assert_array_equal(
        got, function(x.real.astype(float), weight.real.astype(float), **options).astype(dtype)
    )


def test_calls_outside_of_jit_are_compiled_once(caplog):
    # A shape that no other test has, so that no program is cached.
    x, weight = jnp.ones((2, 4, 6, 11)), jnp.ones((4, 1, 3, 3))
    function = functools.partial(F.conv2d, groups=4)
    with jax.log_compiles():
        function(x, weight)
        assert "Compiling" in caplog.text
        caplog.clear()
        function(x, weight)
    assert "Compiling" not in caplog.text
    assert "convolution_nd" in str(jax.make_jaxpr(function)(x, weight))


# Large kernels, whose taps must not be unrolled: the whole gradient compiles within some seconds.
LARGE = {
    "7x7x7": (F.conv3d, (1, 4, 8, 8, 8), (4, 4, 7, 7, 7), {"padding": 3}),
    "7x7x7 depthwise": (F.conv3d, (1, 4, 8, 8, 8), (4, 1, 7, 7, 7), {"padding": 3, "groups": 4}),
    "31x31 depthwise": (F.conv2d, (1, 4, 32, 32), (4, 1, 31, 31), {"padding": 15, "groups": 4}),
    "255 depthwise": (F.conv1d, (1, 4, 300), (4, 1, 255), {"padding": 127, "groups": 4}),
    "255 in groups": (F.conv1d, (1, 4, 300), (4, 2, 255), {"padding": 127, "groups": 2}),
    "512 groups": (F.conv2d, (1, 1024, 4, 4), (1024, 2, 3, 3), {"padding": 1, "groups": 512}),
    "64x64 by 32, transposed": (F.conv_transpose2d, (1, 3, 3, 3), (3, 3, 64, 64), {"stride": 32, "padding": 16}),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_gradients_of_large_kernels_are_small_programs(name):
    function, x, weight, options = LARGE[name]

    def both(x: jax.Array, weight: jax.Array) -> Any:
        output, back = jax.vjp(functools.partial(function, **options), x, weight)
        return output, back(output)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, weight)]
    assert len(jax.jit(both).lower(*shapes).as_text().splitlines()) < 6000


SHARDED = """
import functools, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from flaxnets.nn import functional as F

mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
calls = {
    "depthwise": (F.conv2d, (8, 4, 9, 8), (4, 1, 3, 3), {"groups": 4, "stride": 2, "padding": 1}),
    "groups": (F.conv2d, (8, 8, 6, 6), (8, 2, 3, 3), {"groups": 4, "padding": 1}),
    "volumes": (F.conv3d, (8, 3, 4, 4, 4), (4, 3, 3, 3, 3), {"padding": 1}),
    "patches": (F.conv2d, (8, 3, 8, 8), (4, 3, 4, 4), {"stride": 4}),
    "transposed": (F.conv_transpose2d, (8, 3, 4, 4), (3, 4, 3, 3), {"stride": 2}),
}
rng = np.random.default_rng(0)
for name, (function, *shapes, options) in calls.items():
    x, weight = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    def both(x, weight):
        output, back = jax.vjp(functools.partial(function, **options), x, weight)
        return output, *back(output)
    alone = jax.jit(both)(x, weight)
    compiled = jax.jit(both, out_shardings=(rows, rows, whole)).lower(
        jax.device_put(x, rows), jax.device_put(weight, whole)).compile()
    shared = compiled(jax.device_put(x, rows), jax.device_put(weight, whole))
    for a, b in zip(shared, alone):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
    text = compiled.as_text()
    for moved in ("all-gather", "all-to-all", "collective-permute"):
        assert moved not in text, (name, moved)
    assert "all-reduce" in text, name

# Where the user divides the arrays, XLA's own convolution says how.
function, *shapes, options = calls["depthwise"]
x, weight = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
convolve = functools.partial(function, **options)
by_hand = jax.shard_map(convolve, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
np.testing.assert_allclose(by_hand(x, weight), convolve(x, weight), rtol=1e-4, atol=1e-4)
with jax.set_mesh(jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))):
    explicit = jax.jit(convolve)(jax.device_put(x, P("data")), weight)
    assert jax.typeof(explicit).sharding.spec[0] == "data"
np.testing.assert_allclose(explicit, convolve(x, weight), rtol=1e-4, atol=1e-4)
print("right")
"""


def test_images_on_two_devices_stay_there():
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    run = subprocess.run(
        [sys.executable, "-c", SHARDED], capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": flags}
    )
    assert run.stdout == "right\n", run.stderr[-3000:]


def test_the_engine_computes_every_family_channels_last():
    for function, x, weight, options, is_replaced in CHOICES.values():
        x, weight = jnp.ones(x, jnp.float32), jnp.ones(weight, jnp.float32)
        with kernels.use("xla"):
            text = str(jax.make_jaxpr(functools.partial(function, **options))(x, weight))
        assert "conv_general_dilated" not in text
        if is_replaced and "groups" in options:
            assert "channels_last=True" in text
