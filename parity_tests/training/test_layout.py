"""Tests of layout optimization: transposes are moved through a traced function, and the results stay the same."""

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import NETWORKS
from conftest import PRODUCTION
from flax import nnx
from hypothesis import strategies as st
from jax import lax
from jax.extend import core as jex

import flaxnets
from flaxnets import nn, state
from flaxnets.training import Batch, StepOptions, TrainState
from flaxnets.training.engine import compile_predict_step
from flaxnets.training.layout import _interpreter, bind_physical, make_physical_step, sink_transposes
from flaxnets.training.layout._interpreter import evaluate
from flaxnets.training.layout._rules import Rule
from flaxnets.training.layout._values import Value
from flaxnets.training.step import jit_options, predict_function, train_function

CPU = jit_options()["compiler_options"]


def equations(function: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """Yield all equations of a traced function, including those of inner functions."""

    def walk(jaxpr: Any) -> Iterator[Any]:
        for eqn in jaxpr.eqns:
            yield eqn
            for inner in jax.tree.leaves(tuple(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                if hasattr(inner, "eqns"):
                    yield from walk(getattr(inner, "jaxpr", inner))

    return walk(jax.make_jaxpr(function)(*args).jaxpr)


def transposes(function: Callable[..., Any], *args: Any) -> int:
    return sum(eqn.primitive.name == "transpose" for eqn in equations(function, *args))


def arrays(tree: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a tree by path. Random keys become the integers that they contain."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        found[jax.tree_util.keystr(path)] = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    return found


def differing(actual: Any, expected: Any) -> list[str]:
    """Return the paths where two trees with the same shapes and dtypes are not bit-identical."""
    a, b = arrays(actual), arrays(expected)
    assert {name: (x.shape, x.dtype) for name, x in a.items()} == {name: (x.shape, x.dtype) for name, x in b.items()}
    return [name for name in a if not np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f")]


SHAPE = (2, 3, 4, 5)  # N, C, H, W
ONE, ROW = jnp.ones(()), jnp.arange(3.0)
WINDOW = functools.partial(lax.reduce_window, window_dimensions=(1, 1, 2, 3), window_strides=(1, 1, 2, 1))


def scatter(x: jax.Array) -> jax.Array:
    largest, back = jax.vjp(lambda x: WINDOW(x, -jnp.inf, lax.max, padding="SAME"), x)
    return back(largest)[0]


def scan(x: jax.Array) -> jax.Array:
    def body(carry: tuple[jax.Array, jax.Array], row: jax.Array) -> Any:
        total, wide = carry
        return (total + row * ROW[:, None, None], wide.T + row.max()), row - total

    (total, wide), ys = lax.scan(body, (jnp.zeros(SHAPE[1:]), jnp.ones((3, 3))), x, reverse=True)
    return (ys * total[None] + wide.sum()) / 4


def scan_channels(x: jax.Array) -> jax.Array:
    return lax.scan(lambda carry, row: (carry + row, carry * 2), jnp.zeros((2, 4, 5)), x.swapaxes(0, 1))[1]


def loop(x: jax.Array) -> jax.Array:
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2 - x), (0, x))[1]


def branch(x: jax.Array) -> jax.Array:
    return lax.cond(x[0, 0, 0, 0] > 1e9, lambda x: jnp.zeros(SHAPE), lambda x: x * 2 + 1, x)


def checkpointed(x: jax.Array) -> jax.Array:
    # A constant inside the function, which the pass turns into an argument.
    table = jnp.arange(60.0).reshape(1, 3, 4, 5)
    squared, back = jax.vjp(jax.checkpoint(lambda x: jnp.square(x * jax.jit(lambda x: x + table)(x))), x)
    return back(squared)[0]


# For each function of an NCHW array whose data are NHWC: the number of transposes until its 4-d result is NHWC again,
# or has the layout in its name.
RULES: dict[str, tuple[Callable[[jax.Array], Any], int]] = {
    "unary": (lambda x: -jnp.abs(x), 0),
    "with a number": (lambda x: jnp.clip(2 * x + 1, -3, ONE), 0),
    "with a vector": (lambda x: x * ROW[None, :, None, None] - jnp.broadcast_to(ROW[None, :, None, None], SHAPE), 0),
    "where": (lambda x: jnp.where(x > 0, x, jnp.zeros_like(x)), 0),
    "another dtype": (lambda x: x.astype(jnp.int32), 0),
    "with a logical array": (lambda x: x + jnp.arange(120.0).reshape(SHAPE), 1),
    "relu": (jax.nn.relu, 0),
    "sum to a vector": (lambda x: x.sum((0, 2, 3)), 0),
    "max over channels": (lambda x: x.max(1), 0),
    "sum over rows": (lambda x: x.sum(2), 1),
    "sum of all in another order": (lambda x: x.sum(), 1),
    "largest of all": (lambda x: x.max(), 0),
    "argmax": (lambda x: x.argmax(1), 0),
    "mean, kept": (lambda x: x - x.sum((2, 3), keepdims=True), 0),
    "concatenate": (lambda x: jnp.concatenate([x, 2 * x, jnp.zeros((2, 1, 4, 5))], 1), 0),
    "stack": (lambda x: jnp.stack([x, x + 1], 2).sum(2), 0),
    "split": (lambda x: operator.mul(*jnp.split(x[:, :2], 2, 1)), 0),
    "pad": (lambda x: lax.pad(x, 1.0, [(0, 0, 0), (1, 0, 0), (2, -1, 1), (0, 3, 0)]), 0),
    "slice": (lambda x: x[:, 1:, ::2, 1:4], 0),
    "dynamic slice": (lambda x: lax.dynamic_slice(x, (0, 1, x[0, 0, 0, 0].astype(int) * 0, 0), (2, 1, 4, 2)), 0),
    "dynamic update": (lambda x: lax.dynamic_update_slice(x, x[:, :1] * 2, (0, 2, 0, 0)), 0),
    "reverse": (lambda x: x[:, ::-1, :, ::-1], 0),
    "cumulative sum": (lambda x: jnp.cumsum(x, 1), 0),
    "sort": (lambda x: jnp.sort(x, 1), 0),
    "window": (lambda x: WINDOW(x, 0.0, lax.add, padding="VALID"), 0),
    "general window": (lambda x: WINDOW(x, 1.0, lax.mul, padding="VALID"), 0),
    "window's gradient": (scatter, 0),
    "window in another order": (lambda x: WINDOW(x.swapaxes(2, 3), -jnp.inf, lax.max, padding="VALID"), 2),
    "squeeze": (lambda x: jnp.squeeze(x[:, 1:2], 1), 0),
    "new axis": (lambda x: (x[:, :, None] * jnp.ones((1, 1, 2, 1, 1))).sum(2), 0),
    "parts of channels": (lambda x: (x.reshape(2, 3, 1, 4, 5) + 1).reshape(SHAPE), 0),
    "pixels in a row": (lambda x: (x.reshape(2, 3, 20) * 2).reshape(SHAPE), 0),
    "flatten": (lambda x: x.reshape(2, 60), 1),
    "barrier": (lambda x: lax.optimization_barrier((x, ROW))[0], 0),
    "used twice": (lambda x: (x.reshape(2, 60) @ jnp.ones((60, 2)), x.reshape(6, 20) * 2), 1),
    "unknown": (lambda x: lax.conv_general_dilated(x, jnp.ones((2, 3, 1, 1)), (1, 1), "VALID"), 2),
    "jit": (jax.jit(lambda x: x * 2), 0),
    "checkpoint": (checkpointed, 2),
    "scan": (scan, 1),
    "scan over an inner axis": (scan_channels, 2),
    "while": (loop, 0),
    "branches": (branch, 0),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_keeps_the_numbers_and_needs_so_many_transposes(name, rng, caplog):
    """Compare results and count transposes. Integral values make sums exact in every order."""
    inner, count = RULES[name]

    def function(x: jax.Array) -> Any:
        outputs = inner(lax.transpose(x, (0, 3, 1, 2)))
        return jax.tree.map(lambda y: lax.transpose(y, (0, 2, 3, 1)) if y.ndim == 4 else y, outputs)

    x = jnp.asarray(rng.integers(-3, 4, (2, 4, 5, 3)), jnp.float32)
    assert differing(jax.jit(sink_transposes(function))(x), jax.jit(function)(x)) == []
    assert caplog.text == ""
    assert transposes(sink_transposes(function), x) == count


class Changed(NamedTuple):
    """A primitive as in another version of JAX: with parameters of other names or meanings."""

    primitive: Any
    there: Callable[[dict[str, Any]], dict[str, Any]]
    back: Callable[[dict[str, Any]], dict[str, Any]]

    @property
    def name(self) -> str:
        return self.primitive.name

    @property
    def multiple_results(self) -> bool:
        return self.primitive.multiple_results

    def get_bind_params(self, params: dict[str, Any]) -> dict[str, Any]:
        return self.primitive.get_bind_params(self.back(params))

    def bind(self, *operands: Any, **params: Any) -> Any:
        return self.primitive.bind(*operands, **params)


CHANGES = {
    "another name": (
        lambda params: {f"new_{name}": value for name, value in params.items()},
        lambda params: {name.removeprefix("new_"): value for name, value in params.items()},
    ),
    "one more": (
        lambda params: {**params, "new": None},
        lambda params: {name: value for name, value in params.items() if name != "new"},
    ),
    "another meaning": (
        lambda params: {name: lambda value=value: value for name, value in params.items()},
        lambda params: {name: value() for name, value in params.items()},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", RULES)
def test_parameters_of_an_unknown_version_keep_the_numbers(name, change, rng):
    inner, _ = RULES[name]
    there, back = CHANGES[change]

    def function(x: jax.Array) -> Any:
        return inner(lax.transpose(x, (0, 3, 1, 2)))

    x = jnp.asarray(rng.integers(-3, 4, (2, 4, 5, 3)), jnp.float32)
    closed = jax.make_jaxpr(function)(x)
    eqns = [
        eqn.replace(primitive=Changed(eqn.primitive, there, back), params=there(eqn.params))
        for eqn in closed.jaxpr.eqns
    ]
    for value in (Value(x), Value(x.transpose(0, 3, 1, 2), (0, 2, 3, 1))):
        outputs = evaluate(closed.jaxpr.replace(eqns=eqns), closed.consts, [value])
        assert differing([value.logical for value in outputs], jax.tree.leaves(function(x))) == []


def test_a_primitive_that_nobody_knows_keeps_the_numbers():
    made_up = jex.Primitive("made_up")
    made_up.def_impl(lambda x, *, axis: jnp.cumsum(x, axis) + x.shape[axis])
    made_up.def_abstract_eval(lambda x, *, axis: x)
    x = jnp.arange(24.0).reshape(2, 3, 4)

    def function(x: jax.Array) -> jax.Array:
        return jnp.abs(made_up.bind(jnp.abs(x.transpose(2, 0, 1)), axis=1)).transpose(1, 2, 0)

    np.testing.assert_array_equal(sink_transposes(function)(x), function(x))


def test_a_rule_that_gives_another_shape_is_not_used(monkeypatch, caplog):
    monkeypatch.setitem(_interpreter._RULES, "abs", Rule(lambda eqn, inputs: [inputs[0].transposed((1, 0))]))
    x = -jnp.ones((2, 3))
    np.testing.assert_array_equal(sink_transposes(jnp.abs)(x), jnp.ones((2, 3)))
    assert "rule of abs gives other types" in caplog.text
    caplog.clear()


def permutation(ndim: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.permutations(range(ndim)).map(tuple)


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Draw the steps of a program. Each step makes an array from earlier arrays. The first array is ``(2, 3, 4)``."""
    shapes, steps = [(2, 3, 4)], []
    for _ in range(draw(st.integers(3, 12))):
        i = draw(st.integers(0, len(shapes) - 1))
        shape = shapes[i]
        axis = draw(st.integers(0, len(shape) - 1)) if shape else 0
        kind = draw(st.sampled_from(["transpose", *OPERATIONS]))
        if not shape and kind not in ("add", "where", "broadcast"):
            continue
        if kind == "transpose":
            order = draw(permutation(len(shape)))
            step, new = (kind, i, order), tuple(shape[j] for j in order)
        elif kind in ("add", "where"):
            j = draw(st.sampled_from([j for j, other in enumerate(shapes) if other == shape]))
            step, new = (kind, i, j), shape
        elif kind in ("sum", "max"):
            axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
            step, new = (kind, i, tuple(sorted(axes))), tuple(n for k, n in enumerate(shape) if k not in axes)
        elif kind == "reshape":
            new = draw(st.sampled_from([(*shape[:axis], 1, *shape[axis:]), (*shape[:-2], int(np.prod(shape[-2:])))]))
            step = (kind, i, new)
        elif kind == "broadcast":
            step, new = (kind, i, axis), (*shape[:axis], 2, *shape[axis:])
        else:
            change = {"concatenate": shape[axis], "pad": 3, "slice": -(shape[axis] // 2), "cumsum": 0, "barrier": 0}
            step, new = (kind, i, axis), (*shape[:axis], shape[axis] + change[kind], *shape[axis + 1 :])
        if len(new) <= 4 and np.prod(new) <= 500:
            steps.append(step)
            shapes.append(new)
    return steps


OPERATIONS: dict[str, Callable[[jax.Array, Any, list[jax.Array]], jax.Array]] = {
    "transpose": lambda x, order, _: lax.transpose(x, order),
    "add": lambda x, other, made: 3 * x + made[other],
    "where": lambda x, other, made: jnp.where(x > made[other], x, -made[other]),
    "sum": lambda x, axes, _: x.sum(axes),
    "max": lambda x, axes, _: x.max(axes),
    "cumsum": lambda x, axis, _: jnp.cumsum(jnp.flip(x, axis), axis),
    "reshape": lambda x, shape, _: x.reshape(shape),
    "concatenate": lambda x, axis, _: jnp.concatenate([x, x + 1], axis),
    "slice": lambda x, axis, _: lax.slice_in_dim(x, x.shape[axis] // 2, x.shape[axis], axis=axis),
    "pad": lambda x, axis, _: lax.pad(x, jnp.int32(7), [(k == axis, 2 * (k == axis), 0) for k in range(x.ndim)]),
    "broadcast": lambda x, axis, _: jnp.repeat(jnp.expand_dims(x, axis), 2, axis),
    "barrier": lambda x, *_: lax.optimization_barrier(x),
}


def run_program(steps: list[tuple[Any, ...]], x: jax.Array) -> list[jax.Array]:
    made = [x]
    for kind, i, argument in steps:
        made.append(OPERATIONS[kind](made[i], argument, made))
    return made[1:]


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True, database=None)
@hypothesis.given(programs())
def test_any_order_of_operations_gives_the_same(steps):
    """Compare the results of integers, whose sums are the same in every order."""
    x = jnp.arange(24, dtype=jnp.int32).reshape(2, 3, 4) - 7
    program = functools.partial(run_program, steps)
    assert differing(jax.jit(sink_transposes(program))(x), jax.jit(program)(x)) == []


def test_what_two_users_want_is_made_once():
    def function(x: jax.Array) -> Any:
        y = x.T * 2
        return y.reshape(-1), y.T.reshape(-1), y.reshape(-1) + 1, y.T.reshape(-1) + 1

    assert transposes(sink_transposes(function), jnp.ones((2, 3))) == 1


def test_barrier_of_checkpoints_stays():
    gradient = jax.grad(lambda x: jax.checkpoint(lambda x: jnp.sin(jnp.sin(x.T)))(x).max())
    found = [eqn for eqn in equations(sink_transposes(gradient), jnp.ones((2, 3))) if eqn.primitive.name == "remat2"]
    assert [(eqn.params["differentiated"], eqn.params["prevent_cse"]) for eqn in found] == [(True, True)]


def mean_square(outputs: Any, targets: jax.Array, weights: jax.Array) -> dict[str, jax.Array]:
    return {"loss": (jax.tree.leaves(outputs)[0] ** 2).mean() * targets.size, "count": weights.sum()}


def training(case: Any, rng: np.random.Generator, dtype: Any = jnp.float32, **options: Any) -> tuple[Any, Any, Batch]:
    """Return a step that is not compiled, a function that creates its first state, and a batch."""
    model = flaxnets.create_model(case.name, **case.options)
    for _, variable in state.named_variables(model):
        if jnp.issubdtype(variable.dtype, jnp.floating):
            variable.set_value(jnp.asarray(variable[...], dtype))
    inputs = case.inputs(rng)[0]
    inputs = jnp.asarray(inputs, dtype if inputs.dtype.kind == "f" else int)
    optimizer = optax.sgd(1e-3, momentum=0.9)
    step_options = StepOptions(backend="xla", **{"nonfinite": "ignore", **options})
    step = train_function(model, optimizer, mean_square, step_options)
    create = functools.partial(
        TrainState.create, model, optimizer, accumulate=options.get("accumulate", 1), ema="ema_decay" in options
    )
    return step, create, Batch(inputs, jnp.zeros(3, int), jnp.ones(3, dtype))


def three_steps(step: Any, state: Any, batch: Batch) -> Any:
    for _ in range(3):
        state, metrics = step(state, batch)
    return state, metrics


def physical_steps(step: Any, create: Any, batch: Batch, options: Any) -> Any:
    compiled, to_physical, to_logical = make_physical_step(step, create(), batch, compiler_options=options)
    physical, metrics = three_steps(compiled, to_physical(create()), batch)
    return to_logical(physical), metrics


BY_NAME = {case.name: case for case in NETWORKS}
# The first two networks have no parameters. googlenet compiles slowly, and the other networks contain its layers.
TRAINED = [name for name in BY_NAME if name not in ("centered", "pool2d", "googlenet")]


def assert_same_numbers(actual: Any, expected: Any) -> None:
    """Compare in float64. The last digits differ: XLA sums in another order if the operands have another layout."""
    a, b = arrays(actual), arrays(expected)
    assert a.keys() == b.keys()
    errors = {name: np.abs(a[name] - b[name]).max() / max(np.abs(b[name]).max(), 1) for name in b}
    assert {name: error for name, error in errors.items() if error > 1e-12} == {}


VARIANTS = {
    "remat": {"remat": True},
    "accumulate": {"accumulate": 2},
    "all of the state": {"ema_decay": 0.9, "nonfinite": "skip"},
}

# XLA fuses the gates of an LSTM and batch statistics differently, so the last bits differ.
OTHER_BITS = [("lstm_lm", "remat"), ("lenet_batchnorm", "remat"), ("lenet_batchnorm", "all of the state")]


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in TRAINED), *((name, VARIANTS[variant]) for name, variant in OTHER_BITS)],
)
def test_network_trains_to_the_same_numbers(name, options, rng):
    with jax.enable_x64(True):
        step, create, batch = training(BY_NAME[name], rng, jnp.float64, **options)
        expected = three_steps(jax.jit(step, compiler_options=CPU), create(), batch)
        assert_same_numbers(physical_steps(step, create, batch, CPU), expected)


BIT_EQUAL = ["lenet_batchnorm", "mlp_dropout", "rnn_lm", "lstm_lm"]
OTHER_STEPS = [(name, variant) for name in BIT_EQUAL for variant in VARIANTS if (name, variant) not in OTHER_BITS]


@pytest.mark.parametrize(("name", "variant"), OTHER_STEPS)
def test_other_steps_train_to_the_same_bits(name, variant, rng):
    step, create, batch = training(BY_NAME[name], rng, **VARIANTS[variant])
    expected = three_steps(jax.jit(step, compiler_options=CPU), create(), batch)
    assert differing(physical_steps(step, create, batch, CPU), expected) == []


@pytest.mark.parametrize("name", BIT_EQUAL)
def test_steps_within_a_scan_train_to_the_same_bits(name, rng):
    step, create, batch = training(BY_NAME[name], rng)
    batches = jax.tree.map(lambda x: jnp.stack([x] * 3), batch)
    expected = jax.jit(functools.partial(lax.scan, step), compiler_options=CPU)(create(), batches)
    inner, to_physical, to_logical = make_physical_step(step, create(), batch)
    state, metrics = jax.jit(functools.partial(lax.scan, inner), compiler_options=CPU)(to_physical(create()), batches)
    assert differing((to_logical(state), metrics), expected) == []
    sunk = jax.jit(sink_transposes(functools.partial(lax.scan, step)), compiler_options=CPU)
    assert differing(sunk(create(), batches), expected) == []


def test_as_xla_compiles_by_default_results_agree_to_rounding(rng):
    """Compare with XLA's default options: the layout decides about fusions, and so whether products are rounded."""
    with jax.enable_x64(True):
        step, create, batch = training(BY_NAME["lenet_batchnorm"], rng, jnp.float64)
        expected = three_steps(jax.jit(step, compiler_options=CPU | PRODUCTION), create(), batch)
        assert_same_numbers(physical_steps(step, create, batch, CPU | PRODUCTION), expected)


def images(n: int) -> Batch:
    return Batch(jnp.ones((n, 3, 8, 8)), jnp.zeros(n, int), jnp.ones(n))


@pytest.fixture
def convolutions() -> tuple[Any, TrainState]:
    """Return a step of two convolutions that is not compiled, and its first state."""
    rngs = nnx.Rngs(0)
    first, second = (nn.Conv2d(i, i + 1, 3, bias=False, rngs=rngs) for i in (3, 4))
    model, optimizer = nn.Sequential(first, nn.ReLU(), second, nn.ReLU()), optax.sgd(0.1, momentum=0.9)
    step = train_function(model, optimizer, mean_square, StepOptions(backend="xla", nonfinite="ignore"))
    return step, TrainState.create(model, optimizer)


def test_between_steps_weights_lie_as_kernels_want_them(convolutions):
    """Count transposes. One of the input remains, and one of the output, which the loss sums over all axes."""
    step, state = convolutions
    compiled, to_physical, _ = make_physical_step(step, state, images(2))
    physical = to_physical(state)
    assert [leaf.shape for leaf in physical if leaf.ndim == 4] == [(3, 3, 3, 4), (3, 3, 4, 5)] * 2
    assert transposes(step, state, images(2)) == 11
    assert transposes(compiled.__wrapped__, physical, images(2)) == 2


def test_held_weights_lie_as_kernels_want_them():
    """Count transposes. One of the input and one of the output remain."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, rngs=nnx.Rngs(0)), nn.ReLU(), nn.Conv2d(4, 5, 3, rngs=nnx.Rngs(1)))
    _, params, model_state = nnx.split(model, nnx.Param, ...)
    step = predict_function(model, backend="xla", compute_dtype=None)
    held = bind_physical(lambda held, batch: step(*held, batch), (params, model_state), images(2))
    assert (transposes(step, params, model_state, images(2)), transposes(held, images(2))) == (6, 2)
    assert held(images(3)).shape == (3, 5, 4, 4)


@pytest.mark.parametrize("backend", ["plain", "xla"])
@pytest.mark.parametrize("name", ["lenet_batchnorm", "mlp_dropout", "lstm_lm", "googlenet", "densenet"])
def test_network_with_held_weights_predicts_the_same_numbers(name, backend, rng):
    with jax.enable_x64(True):
        _, create, batch = training(BY_NAME[name], rng, jnp.float64)
        params, model_state = create().params, create().model_state
        model = flaxnets.create_model(name, **BY_NAME[name].options)
        step = predict_function(model, backend=backend, compute_dtype=None)
        predict = compile_predict_step(step, params, model_state, batch, backend)
        assert_same_numbers(predict(batch), jax.jit(step, **jit_options())(params, model_state, batch))


def test_physical_state_is_donated_and_shares_nothing(convolutions):
    step, state = convolutions
    compiled, to_physical, to_logical = make_physical_step(step, state, images(2))
    physical = to_physical(state)
    restored = to_logical(physical)
    compiled(physical, images(2))
    assert all(leaf.is_deleted() for leaf in physical)
    assert differing(restored, state) == []


def test_physical_step_takes_batches_of_other_sizes(convolutions):
    step, state = convolutions
    compiled, to_physical, to_logical = make_physical_step(step, state, images(2))
    physical, _ = compiled(compiled(to_physical(state), images(2))[0], images(3))
    assert differing(to_logical(physical), step(step(state, images(2))[0], images(3))[0]) == []


def test_step_that_changes_the_states_structure_is_refused():
    with pytest.raises(ValueError, match=r"another structure: .*'b'.*Expected .*'a'"):
        make_physical_step(lambda state, batch: ({"b": state["a"]}, batch), {"a": jnp.ones(2)}, jnp.ones(1))
