"""``torch.autograd.Function`` as ``jax.custom_vjp``: a forward computation with a custom gradient."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np


class Context:
    """Values that a function's forward saves for its backward.

    Attributes:
        saved_tensors: the saved arrays.
        needs_input_grad: for each argument, whether it can have a gradient.

    >>> context = Context((True,))
    >>> context.save_for_backward(jnp.ones(2))
    >>> len(context.saved_tensors)
    1
    """

    def __init__(self, needs_input_grad: Sequence[bool]):
        self.needs_input_grad = tuple(needs_input_grad)
        self.saved_tensors: tuple[Any, ...] = ()
        self.non_differentiable: tuple[Any, ...] = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # forward stores what backward reads

        def __setattr__(self, name: str, value: Any) -> None: ...

    def save_for_backward(self, *tensors: Any) -> None:
        """Save arrays for backward."""
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Do nothing: JAX has no forward mode for functions with a custom gradient."""

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Mark outputs as having no gradient."""
        self.non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Do nothing: gradients are zeros where torch has None."""


class Function:
    """Base class of functions with a custom gradient.

    A subclass has the static methods ``forward(ctx, *args)`` and ``backward(ctx, *gradients)``, or ``forward(*args)``
    with ``setup_context(ctx, inputs, output)``. Gradients flow to array arguments, not to arrays in lists or other
    objects.

    See `torch.autograd.Function <https://docs.pytorch.org/docs/stable/autograd.html#function>`_.

    >>> class Double(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...     @staticmethod
    ...     def backward(ctx, gradient):
    ...         return gradient * 3
    >>> Double.apply(jnp.ones(2)).tolist(), jax.grad(lambda x: Double.apply(x).sum())(jnp.ones(2)).tolist()
    ([2.0, 2.0], [3.0, 3.0])
    """

    @staticmethod
    def forward(*args: Any) -> Any:
        """Compute the output; defined by the subclass."""
        raise NotImplementedError("forward: not defined. Expected a static method. Fix: define it in the subclass")

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: Any) -> None:
        """Save values for backward, if forward has no context."""

    @staticmethod
    def backward(ctx: Context, *gradients: Any) -> Any:
        """Compute the gradients of the arguments; defined by the subclass."""
        raise NotImplementedError("backward: not defined. Expected a static method. Fix: define it in the subclass")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call the function.

        Args:
            *args: arrays, and other objects without gradients.
        """
        return _Call(cls, args)()


class _Call:
    """One call of a function.

    Args:
        function: the subclass of :class:`Function`.
        args: the arguments of the call.
    """

    def __init__(self, function: type[Function], args: Sequence[Any]):
        self.function = function
        self.positions = [i for i, value in enumerate(args) if isinstance(value, (jax.Array, np.ndarray))]
        self.arrays = [jnp.asarray(args[i]) for i in self.positions]
        self.args = [None if i in self.positions else _constant(value) for i, value in enumerate(args)]
        self.needs = [i in self.positions and jnp.issubdtype(args[i].dtype, jnp.inexact) for i in range(len(args))]

    def __call__(self) -> Any:
        call = jax.custom_vjp(lambda *arrays: self.run(arrays)[0])
        call.defvjp(self.forward, self.backward)
        outputs = call(*self.arrays)
        outputs = [jax.lax.stop_gradient(o) if i in self.stopped else o for i, o in enumerate(outputs)]
        remaining = iter(outputs)
        filled = [next(remaining) if is_array else rest for is_array, rest in self.rest]
        return tuple(filled) if self.is_tuple else filled[0]

    def run(self, arrays: Sequence[jax.Array]) -> tuple[list[jax.Array], Context]:
        """Run forward; return the array outputs and the context."""
        context, args = Context(self.needs), list(self.args)
        for position, array in zip(self.positions, arrays, strict=True):
            args[position] = array
        if self.function.setup_context is Function.setup_context:
            output = self.function.forward(context, *args)
        else:
            output = self.function.forward(*args)
            self.function.setup_context(context, tuple(args), output)
        self.is_tuple = isinstance(output, tuple)
        outputs = list(output) if isinstance(output, tuple) else [output]
        self.rest = [(True, None) if isinstance(o, jax.Array) else (False, o) for o in outputs]
        array_outputs = [o for o in outputs if isinstance(o, jax.Array)]
        self.stopped = {i for i, o in enumerate(array_outputs) if any(o is each for each in context.non_differentiable)}
        return array_outputs, context

    def forward(self, *arrays: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
        """Run forward; return the array outputs and the arrays of the context."""
        outputs, context = self.run(arrays)
        context.non_differentiable = ()
        leaves, self.structure = jax.tree.flatten(vars(context))
        self.constants = [None if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
        self.is_array = [isinstance(leaf, jax.Array) for leaf in leaves]
        self.dtypes = [output.dtype for output in outputs]
        return outputs, [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    def backward(self, residuals: list[jax.Array], cotangents: list[jax.Array]) -> tuple[Any, ...]:
        """Run backward; return the cotangents of the array arguments."""
        remaining = iter(residuals)
        leaves = [next(remaining) if a else c for a, c in zip(self.is_array, self.constants, strict=True)]
        context = Context(())
        vars(context).update(jax.tree.unflatten(self.structure, leaves))
        arrays = iter([_as_gradient(c, dtype) for c, dtype in zip(cotangents, self.dtypes, strict=True)])
        output_gradients = [next(arrays) if is_array else None for is_array, _ in self.rest]
        gradients = self.function.backward(context, *output_gradients)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return tuple(_fitted(gradients[i], array) for i, array in zip(self.positions, self.arrays, strict=True))


def _constant(value: Any) -> Any:
    """Return an argument without a gradient."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, value)


def _as_gradient(cotangent: Any, dtype: Any) -> jax.Array:
    """Convert a cotangent to torch's convention: conjugate, and zeros for integers."""
    if cotangent.dtype == jax.dtypes.float0:
        return jnp.zeros(cotangent.shape, dtype)
    return jnp.conj(cotangent)


def _fitted(gradient: jax.Array | None, array: jax.Array) -> jax.Array | None:
    """Convert a gradient to the cotangent of an array: sum over broadcast axes."""
    if gradient is None or not jnp.issubdtype(array.dtype, jnp.inexact):
        return None
    if gradient.shape != array.shape:
        extra = gradient.ndim - array.ndim
        axes = [i for i, size in enumerate(gradient.shape) if i < extra or array.shape[i - extra] == 1 != size]
        gradient = gradient.sum(axis=tuple(axes)).reshape(array.shape)
    if jnp.iscomplexobj(gradient) and not jnp.iscomplexobj(array):
        gradient = gradient.real
    return jnp.conj(gradient).astype(array.dtype)
