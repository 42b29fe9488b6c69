"""JAX primitives with explicit derivatives and separate lowerings for CPUs."""

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
    """Create a primitive from a function, with another lowering for CPUs. ``jax.vmap`` maps ``compute``.

    The caller adds derivatives with :mod:`jax.interpreters.ad`. Unlike ``jax.custom_vjp``, a primitive can have
    forward-mode derivatives and derivatives of any order.
    """
    new = Primitive(name)

    def abstract(*operands: Any, **params: Any) -> Any:
        # The types include the sharding, and the axes that an array varies along within ``jax.shard_map``.
        attributes = ("sharding", "manual_axis_type")
        shapes = [
            jax.ShapeDtypeStruct(x.shape, x.dtype, **{name: getattr(x, name) for name in attributes}) for x in operands
        ]
        return jax.make_jaxpr(functools.partial(compute, **params))(*shapes).out_avals[0]

    def batched(operands: Any, dims: Any, **params: Any) -> tuple[jax.Array, int]:
        return jax.vmap(lambda *arrays: compute(*arrays, **params), in_axes=tuple(dims))(*operands), 0

    @functools.cache
    def compiled(**params: Any) -> Compute:
        return jax.jit(functools.partial(new.bind, **params))

    def evaluate(*operands: Any, **params: Any) -> jax.Array:
        # With disabled jit, the compiled function would call itself.
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
    """Batch a primitive by itself, which keeps its derivatives. Its parameters must count axes from the end."""

    def batched(operands: Any, dims: Any, **params: Any) -> tuple[jax.Array, int]:
        size = next(x.shape[dim] for x, dim in zip(operands, dims, strict=True) if dim is not None)
        moved = [
            jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
            for x, dim in zip(operands, dims, strict=True)
        ]
        return new.bind(*moved, **params), 0

    batching.primitive_batchers[new] = batched


def transposes_to(forward: Primitive, back: Primitive) -> None:
    """Set ``back`` as the transpose of a primitive that is linear in its first operand, with the same parameters."""

    def transpose(ct: Any, x: Any, indices: jax.Array, **params: Any) -> tuple[Any, None]:
        return (ad.Zero(x.aval.to_ct_aval()) if type(ct) is ad.Zero else back.bind(ct, indices, **params)), None

    ad.defjvp(forward, lambda t, x, indices, **params: forward.bind(t, indices, **params), None)
    ad.primitive_transposes[forward] = transpose


def trilinear(name: str, compute: Compute, on_cpu: Compute, batched: Callable[..., Any] | None = None) -> Primitive:
    """Create a primitive for a bilinear map and both of its gradients. The parameter ``result`` selects one of them.

    ========== ===================== ===================
    result     first operand         second operand
    ========== ===================== ===================
    output     input                 weight
    input      gradient of output    weight
    weight     input                 gradient of output
    ========== ===================== ===================

    Each result is linear in both operands, and its transposes are the two other results. ``batched`` is a rule of
    :mod:`jax.interpreters.batching` that replaces the default.
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
    """Return ``x``, stored in row-major order on CPUs, also if ``x`` is a transposed array.

    The derivative is stored in row-major order, too. No effect in programs of ``jax.export``, and on several devices.
    """
    return _in_order.bind(x)


def _separate_call(x: jax.Array) -> jax.Array:
    # XLA may keep a transposed array in its old layout, and loops over the array then stride through memory.
    x = in_order(x)
    with set_xla_metadata(inlineable="false"):
        return jax.jit(lambda x: x)(x)


_materialized = primitive("materialized", lambda x: x, _separate_call)
ad.deflinear2(_materialized, lambda ct, x: [_materialized.bind(ct)])


def materialized(x: jax.Array) -> jax.Array:
    """Return ``x``, computed once on CPUs. Otherwise, XLA may compute ``x`` again in every consumer.

    XLA removes ``lax.optimization_barrier`` before fusion. This function is an identity call that XLA must not inline.
    The derivative is computed once, too.
    """
    return _materialized.bind(x)


@jax.custom_jvp
def with_materialized_gradient(x: jax.Array) -> jax.Array:
    """Return ``x``, whose derivative is computed once; see :func:`materialized`."""
    return x


with_materialized_gradient.defjvp(lambda primals, tangents: (primals[0], materialized(tangents[0])))
