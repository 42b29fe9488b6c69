"""How a step is executed: compiled for states that lie as its kernels want them, alone or several at once."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import jaxprs_in_params

from flaxnets import kernels as forms
from flaxnets.training.layout import PhysicalStep, hold_physical, make_physical_step
from flaxnets.training.objectives import Metrics
from flaxnets.training.step import Kernels, Step, jit_options
from flaxnets.training.train_state import TrainState

# How many steps an execution takes at most; and the seconds below which it may take twice as many.
_SEVERAL, _SHORT = 32, 0.01


class Several(NamedTuple):
    """What several steps see, for one execution that takes them.

    Attributes:
        shared: arrays that each step sees.
        each: arrays whose first axis is that of the steps; what a step sees is ``(*shared, *each)``.
        count: how many steps to take, at most the length of that axis.
    """

    shared: tuple[Any, ...]
    each: tuple[Any, ...]
    count: Any


class Pace:
    """How many steps an execution takes.

    Args:
        steps: so many; ``"auto"``: one, then twice as many as long as they are done in 10 milliseconds.
        every: none goes beyond a multiple of this.

    >>> pace = Pace(8, every=12)
    >>> pace(0), pace(8), pace(12)
    (8, 4, 8)
    """

    def __init__(self, steps: int | Literal["auto"], every: int | None = None):
        if steps != "auto" and steps < 1:
            raise ValueError(f"steps_per_execution must be at least 1 or auto, got {steps}")
        self.limit = _SEVERAL if steps == "auto" else steps
        self._count, self._growing = (1, True) if steps == "auto" else (steps, False)
        self._every = every

    def __call__(self, step: int) -> int:
        """For the execution that begins with this step."""
        return self._count if self._every is None else min(self._count, self._every - step % self._every)

    def see(self, started: float, metrics: Any) -> None:
        """Learns how long the execution took that gave these metrics; waits for them as long as it is to learn."""
        if self._growing:
            jax.block_until_ready(metrics)
            self._growing = time.perf_counter() - started < _SHORT and 2 * self._count <= self.limit
            self._count *= 2 if self._growing else 1


def _take_several(step: Step) -> Callable[..., Any]:
    """One execution of as many steps as it is told; their metrics have an axis of steps, with 0 behind the last."""

    def take(state: TrainState, several: Several) -> tuple[TrainState, Metrics]:
        def at(i: Any) -> Any:
            return *several.shared, *jax.tree.map(lambda array: array[i], several.each)

        def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = step(carry[0], at(i))
            return state, {name: column.at[i].set(metrics[name]) for name, column in carry[1].items()}

        limit = len(several.each[0])
        metrics = jax.eval_shape(step, state, at(0))[1]
        columns = {name: jnp.zeros(limit, value.dtype) for name, value in metrics.items()}
        return jax.lax.fori_loop(0, several.count, body, (state, columns))

    return take


def _lie_as_named(kernels: Kernels) -> bool:
    """Whether kernels want arrays in the order of their axes."""
    return forms.choose(kernels) in ("plain", "cudnn")


def compile_train_step(
    step: Step, state: TrainState, batch: Any, kernels: Kernels = "auto"
) -> PhysicalStep[TrainState]:
    """Compiles a step for states whose arrays lie, from step to step, as its kernels want them.

    Args:
        step: what :func:`make_train_step` returns.
        state: an example; only shapes and dtypes count.
        batch: an example; of :class:`Several`, if each execution shall take several steps.
        kernels: as those of the step. The state of a plain one, or cuDNN's, lies as it is named.

    Returns:
        The compiled step, and the ways to its states and back.

    >>> import flaxnets, jax.numpy as jnp
    >>> from flaxnets import optim
    >>> from flaxnets.training import Batch, classification, make_train_step
    >>> model, optimizer = flaxnets.create_model("mlp"), optim.SGD(0.1)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.ones(4))
    >>> state = TrainState.create(model, optimizer)
    >>> compiled = compile_train_step(make_train_step(model, optimizer, classification), state, batch)
    >>> physical, metrics = compiled.step(compiled.to_physical(state), batch)
    >>> int(compiled.to_logical(physical).step)
    1
    """
    function = step.__wrapped__  # type: ignore[attr-defined]
    if isinstance(batch, Several):
        function = _take_several(function)
    if _lie_as_named(kernels):
        made = PhysicalStep(
            jax.jit(function, donate_argnums=0, **jit_options()), lambda state: state, lambda state: state
        )
    else:
        made = make_physical_step(function, state, batch, **jit_options())
    example = jax.eval_shape(made.to_physical, state)
    return made._replace(step=made.step.lower(example, batch).compile())  # type: ignore[attr-defined]


def compile_predict_step(
    step: Callable[[nnx.State, nnx.State, Any], Any],
    params: nnx.State,
    model_state: nnx.State,
    batch: Any,
    kernels: Kernels = "auto",
) -> Callable[[Any], Any]:
    """Compiles a prediction of a batch by weights that do not change; copies of them lie as its kernels want them.

    For few examples that is what counts: one image of resnet18 took 8.4 ms instead of 14.0.

    Args:
        step: what :func:`make_predict_step` returns.
        params: the weights.
        model_state: the model's other state.
        batch: an example; only shapes and dtypes count.
        kernels: as those of the step. The weights of a plain one, or cuDNN's, lie as they are named.

    >>> import flaxnets, jax.numpy as jnp
    >>> from flaxnets.training.step import make_predict_step
    >>> from flaxnets.training.train_state import Batch
    >>> model = flaxnets.create_model("mlp")
    >>> _, params, model_state = nnx.split(model, nnx.Param, ...)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.ones(4))
    >>> compile_predict_step(make_predict_step(model), params, model_state, batch)(batch).shape
    (4, 10)
    """
    if _lie_as_named(kernels):
        return functools.partial(step, params, model_state)
    function = step.__wrapped__  # type: ignore[attr-defined]
    return hold_physical(lambda held, batch: function(*held, batch), (params, model_state), batch, **jit_options())


def is_fast_in_loops(step: Step, state: TrainState, batch: Any) -> bool:
    """Whether a step is as fast in a loop on the device as it is alone.

    On CPUs XLA has fast gradients for its own convolutions outside of loops alone.

    Args:
        step: what :func:`make_train_step` returns.
        state: an example.
        batch: an example.
    """

    def is_xlas(eqn: Any) -> bool:
        name = eqn.primitive.name
        return name == "conv_general_dilated" or (name == "convolution_nd" and eqn.params["window"].is_fast)

    def has_convolution(jaxpr: Any) -> bool:
        return any(map(is_xlas, jaxpr.eqns)) or any(
            has_convolution(inner) for eqn in jaxpr.eqns for inner in jaxprs_in_params(eqn.params)
        )

    return jax.default_backend() != "cpu" or not has_convolution(jax.make_jaxpr(step.__wrapped__)(state, batch).jaxpr)


def columns(executions: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, list[float]]:
    """Each metric's sums, step by step.

    Args:
        executions: of each, how many steps it took, and its metrics' sums; if several, with an axis of steps.

    >>> columns([(1, {"loss": 2.0}), (2, {"loss": np.array([3.0, 4.0, 0.0])})])
    {'loss': [2.0, 3.0, 4.0]}
    """
    counts, host = [count for count, _ in executions], jax.device_get([metrics for _, metrics in executions])
    return {
        name: [
            value
            for count, metrics in zip(counts, host, strict=True)
            for value in np.ravel(metrics[name])[:count].tolist()
        ]
        for name in host[0]
    }


def total(executions: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, float]:
    """Each metric's sum over all steps; the argument is that of :func:`columns`.

    >>> total([(1, {"loss": 2.0}), (1, {"loss": 3.0})])
    {'loss': 5.0}
    """
    return {name: sum(values) for name, values in columns(executions).items()}
