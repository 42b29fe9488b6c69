"""Axis orders of inputs and outputs: a Flax model may use (N, H, W, C) where torch uses (N, C, H, W)."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from flaxnets.parity.measures import relative_error
from flaxnets.parity.run import Call, Constant, call_flax, mapped_call
from flaxnets.parity.trees import named_modules

Order = tuple[int, ...]

# The largest number of combinations of axis orders to try.
_LIMIT = 24
_NAMES = {2: "N C", 3: "N C L", 4: "N C H W", 5: "N C D H W"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """The axis orders of a Flax module's inputs and outputs, relative to torch's.

    Attributes:
        inputs: one order for each array of the arguments: ``(0, 2, 3, 1)`` transposes NCHW to NHWC.
        outputs: one order for each array of the output.
    """

    inputs: tuple[Order, ...] = ()
    outputs: tuple[Order, ...] = ()

    def to_flax(self, call: Call) -> Call:
        """Return the call with its arrays in Flax's axis order."""
        return with_orders(call, self.inputs)

    def describe(self) -> tuple[str, ...]:
        """Return a sentence for each array whose axis order in Flax differs from torch's.

        >>> Layout(inputs=((0, 2, 3, 1),), outputs=((0, 1),)).describe()
        ('Input 0: (N, C, H, W) in torch is (N, H, W, C) in Flax.',)
        """
        return tuple(
            f"{what} {i}: ({', '.join(names)}) in torch is ({', '.join(names[axis] for axis in order)}) in Flax."
            for what, orders in (("Input", self.inputs), ("Output", self.outputs))
            for i, order in enumerate(orders)
            if order != tuple(range(len(order)))
            for names in [_NAMES.get(len(order), " ".join(map(str, range(len(order))))).split()]
        )


def orders(ndim: int) -> list[Order]:
    """Return the axis orders that Flax models use: torch's order, channels last, and the first two axes swapped.

    Swapping the first two axes exchanges batch and time.

    >>> orders(4)
    [(0, 1, 2, 3), (0, 2, 3, 1), (1, 0, 2, 3)]
    """
    identity = tuple(range(ndim))
    others = [(0, *range(2, ndim), 1)] if ndim > 2 else []
    others += [(1, 0, *range(2, ndim))] if ndim > 1 else []
    return [identity, *others]


def to_torch(array: np.ndarray, order: Order) -> np.ndarray:
    """Transpose a Flax array to torch's axis order.

    >>> to_torch(np.zeros((2, 8, 9, 3)), (0, 2, 3, 1)).shape
    (2, 3, 8, 9)
    """
    return np.transpose(array, np.argsort(order))


def fitting_orders(torch_shape: Sequence[int], flax_shape: Sequence[int]) -> list[Order]:
    """Return the axis orders that transpose an array of torch's shape to Flax's shape.

    >>> fitting_orders((2, 3, 8, 9), (2, 8, 9, 3))
    [(0, 2, 3, 1)]
    """
    if len(torch_shape) != len(flax_shape):
        return []
    return [o for o in orders(len(torch_shape)) if tuple(torch_shape[axis] for axis in o) == tuple(flax_shape)]


def closest_order(torch_array: np.ndarray, flax_array: np.ndarray) -> tuple[Order | None, float]:
    """Return the axis order in which a Flax array is closest to a torch array, and the relative error in this order.

    >>> closest_order(np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T)
    ((1, 0), 0.0)
    """
    errors = [
        (relative_error(torch_array, to_torch(flax_array, order)), order)
        for order in fitting_orders(torch_array.shape, flax_array.shape)
    ]
    error, order = min(errors, key=lambda pair: (np.isnan(pair[0]), pair[0]), default=(float("inf"), None))
    return order, error


def with_orders(call: Call, input_orders: Sequence[Order]) -> Call:
    """Transpose the n-th array of a call to the n-th axis order."""
    remaining = iter(input_orders)

    def reorder(leaf: Any) -> Any:
        if isinstance(leaf, Constant):
            return Constant(np.transpose(leaf.array, next(remaining)))
        return np.transpose(leaf, next(remaining)) if isinstance(leaf, np.ndarray) else leaf

    return mapped_call(call, reorder)


def is_channels_last(flax_module: nnx.Module) -> bool:
    """Return whether the module contains a Flax convolution, whose channels are the last axis.

    >>> is_channels_last(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)))
    True
    """
    return any(isinstance(each, (nnx.Conv, nnx.ConvTranspose)) for each in named_modules(flax_module).values())


def suggest_inputs(flax_module: nnx.Module, call: Call, output_shapes: Sequence[Sequence[int]]) -> list[Layout]:
    """Return the input layouts in which the Flax module runs, starting with layouts that produce torch's output shapes.

    Args:
        flax_module: any NNX module.
        call: a call in torch's axis order.
        output_shapes: the shapes that torch returns.

    Returns:
        Layouts without ``outputs``, the most likely layout first.

    Raises:
        ValueError: if the module runs in no layout, with the error of the most likely layout.
    """
    arrays = [leaf.array if isinstance(leaf, Constant) else leaf for leaf in jax.tree.leaves((call.args, call.kwargs))]
    shapes = [leaf.shape for leaf in arrays if isinstance(leaf, np.ndarray)]
    choices = [_preferred(shape, is_channels_last(flax_module)) for shape in shapes]
    fitting, running, errors = [], [], []
    for combination in itertools.islice(itertools.product(*choices), _LIMIT):
        layout = Layout(tuple(combination))
        try:
            returned = _shapes(flax_module, layout.to_flax(call))
        except Exception as error:  # Another axis order may fit.
            errors.append(error)
            continue
        pairs = list(zip(output_shapes, returned, strict=False))
        fits = len(returned) == len(output_shapes) and all(itertools.starmap(fitting_orders, pairs))
        (fitting if fits else running).append(layout)
    if not fitting and not running:
        described = ", ".join(str(tuple(shape)) for shape in shapes)
        cause = " ".join(str(errors[0]).split())
        raise ValueError(
            f"{type(flax_module).__name__} cannot be called on inputs of the shapes {described} in any axis order: "
            f"{type(errors[0]).__name__}: {cause}"
        ) from errors[0]
    return [*fitting, *running]


def _preferred(shape: Sequence[int], channels_last: bool) -> list[Order]:
    choices = orders(len(shape))
    if channels_last and len(shape) > 2:
        return [choices[1], choices[0], *choices[2:]]
    return choices


def _shapes(flax_module: nnx.Module, call: Call) -> list[tuple[int, ...]]:
    graphdef, state = nnx.split(flax_module)
    outputs = jax.eval_shape(lambda state: call_flax(nnx.merge(graphdef, state, copy=True), call), state)
    return [tuple(leaf.shape) for leaf in jax.tree.leaves(outputs) if hasattr(leaf, "shape")]
