"""Operations that are opaque to autodiff, and linear in an operand whose transposes are given."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Compute = Callable[..., jax.Array]
Library = Literal["xla", "onednn"]
Result = Literal["output", "input", "weight"]


def primitive(name: str, compute: Compute, on_cpu: Compute | None = None) -> Primitive:
    """Returns a primitive that computes as ``compute`` does, or on CPUs as ``on_cpu``; mapped over, as ``compute``.

    Derivatives are for the caller to add, with :mod:`jax.interpreters.ad`. A primitive, unlike ``jax.custom_vjp``, has
    them in forward mode and of any order, too.
    """
    new = Primitive(name)

    def abstract(*operands: Any, **params: Any) -> Any:
        # With the axes of a mesh that an array is divided along, or varies along within ``jax.shard_map``.
        placed = {"sharding", "manual_axis_type"}
        shapes = [
            jax.ShapeDtypeStruct(x.shape, x.dtype, **{what: getattr(x, what) for what in placed}) for x in operands
        ]
        return jax.make_jaxpr(functools.partial(compute, **params))(*shapes).out_avals[0]

    def batched(operands: Any, dims: Any, **params: Any) -> tuple[jax.Array, int]:
        return jax.vmap(lambda *arrays: compute(*arrays, **params), in_axes=tuple(dims))(*operands), 0

    @functools.cache
    def compiled(**params: Any) -> Compute:
        return jax.jit(functools.partial(new.bind, **params))

    def evaluate(*operands: Any, **params: Any) -> jax.Array:
        # The compiled form would then call itself.
        without_jit = jax.config.jax_disable_jit  # type: ignore[attr-defined]
        return compute(*operands, **params) if without_jit else compiled(**params)(*operands)

    new.def_impl(evaluate)
    new.def_abstract_eval(abstract)
    batching.primitive_batchers[new] = batched
    mlir.register_lowering(new, mlir.lower_fun(compute, multiple_results=False))
    if on_cpu is not None:
        mlir.register_lowering(new, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu")
    return new


def batch_in_front(new: Primitive) -> None:
    """Lets a primitive whose parameters count axes from the end map itself, so that its derivatives remain its own."""

    def batched(operands: Any, dims: Any, **params: Any) -> tuple[jax.Array, int]:
        size = next(x.shape[dim] for x, dim in zip(operands, dims, strict=True) if dim is not None)
        moved = [
            jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
            for x, dim in zip(operands, dims, strict=True)
        ]
        return new.bind(*moved, **params), 0

    batching.primitive_batchers[new] = batched


def transposes_to(forward: Primitive, back: Primitive) -> None:
    """Sets derivatives of a primitive that is linear in its first operand, and has the same parameters as ``back``."""

    def transpose(ct: Any, x: Any, places: jax.Array, **params: Any) -> tuple[Any, None]:
        return (ad.Zero(x.aval.to_ct_aval()) if type(ct) is ad.Zero else back.bind(ct, places, **params)), None

    ad.defjvp(forward, lambda t, x, places, **params: forward.bind(t, places, **params), None)
    ad.primitive_transposes[forward] = transpose


def trilinear(name: str, compute: Compute, on_cpu: Compute, batched: Callable[..., Any] | None = None) -> Primitive:
    """Returns a primitive of two operands, whose parameter ``result`` says which of three arrays it gives.

    They are a map's output, and the gradients of its input and of its weight. Operands are input and weight; the
    output's gradient and the weight; the input and the output's gradient. Each of the three is linear in both, and its
    transposes are the two others. ``batched`` is a rule of :mod:`jax.interpreters.batching`, if there is a better one.
    """
    new = primitive(name, compute, on_cpu)
    if batched is not None:
        batching.primitive_batchers[new] = batched

    def left(ct: jax.Array, a: jax.Array, b: jax.Array, *, result: Result, **params: Any) -> jax.Array:
        if result == "weight":
            return new.bind(b, ct, result="input", **params)
        return new.bind(ct, b, result="input" if result == "output" else "output", **params)

    def right(ct: jax.Array, a: jax.Array, b: jax.Array, *, result: Result, **params: Any) -> jax.Array:
        if result == "weight":
            return new.bind(a, ct, result="output", **params)
        operands = (a, ct) if result == "output" else (ct, a)
        return new.bind(*operands, result="weight", **params)

    ad.defbilinear(new, left, right)
    return new


def _lower_in_order(context: Any, x: Any, **params: Any) -> Any:
    # XLA cannot shard the layout constraint, and jax.export refuses it.
    parameters = getattr(context.module_context, "lowering_parameters", None)
    if jax.device_count() > 1 or getattr(parameters, "for_export", True):
        return [x]
    constrain = mlir.lower_fun(
        lambda x: with_layout_constraint(x, Layout(tuple(range(x.ndim)))), multiple_results=False
    )
    return constrain(context, x, **params)


_in_order = primitive("in_order", lambda x: x)
mlir.register_lowering(_in_order, _lower_in_order, platform="cpu")
ad.deflinear2(_in_order, lambda ct, x: [_in_order.bind(ct)])


def in_order(x: jax.Array) -> jax.Array:
    """Return ``x``; XLA on CPUs stores the result in row-major order, also if ``x`` is a transposed array.

    The same holds for the derivative. No effect in programs of ``jax.export``, and with several devices.
    """
    return _in_order.bind(x)


def _call_of_its_own(x: jax.Array) -> jax.Array:
    # XLA may keep a transposed array in its old layout, and loops over the array then stride through memory.
    x = in_order(x)
    with set_xla_metadata(inlineable="false"):
        return jax.jit(lambda x: x)(x)


_materialized = primitive("materialized", lambda x: x, _call_of_its_own)
ad.deflinear2(_materialized, lambda ct, x: [_materialized.bind(ct)])


def materialized(x: jax.Array) -> jax.Array:
    """Returns ``x``, which XLA on CPUs then computes once, and not again within each computation that takes it.

    Unlike ``lax.optimization_barrier``, which XLA removes before it decides what to fuse, this is a call of a function
    that does nothing and must not be inlined. The same holds for its derivative.
    """
    return _materialized.bind(x)


@jax.custom_jvp
def with_materialized_gradient(x: jax.Array) -> jax.Array:
    """Returns ``x``; its derivative is computed once."""
    return x


with_materialized_gradient.defjvp(lambda primals, tangents: (primals[0], materialized(tangents[0])))
