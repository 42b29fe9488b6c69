"""Convert torch tensors to a Flax variable by named steps. A matching saves the steps as text.

``"rows(0:4) | transpose"`` selects four rows of a torch weight and transposes them to a Flax kernel. All steps are
linear, and nearly all are permutations. So the same steps convert torch's gradients to Flax's shapes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Arrays = list[np.ndarray]
_STEP = re.compile(r"([a-z ]+?)\s*(?:\(([^()]*)\))?")


class Step(NamedTuple):
    """A step of a transform: its function for values, and its function for gradients if the two differ."""

    apply: Callable[[Arrays, str], Arrays]
    gradient: Callable[[Arrays, str], Arrays] | None = None


def _each(function: Callable[[np.ndarray, str], np.ndarray]) -> Step:
    return Step(lambda arrays, argument: [function(array, argument) for array in arrays])


def _joined(function: Callable[[Arrays, str], np.ndarray]) -> Step:
    return Step(lambda arrays, argument: [function(arrays, argument)])


def _integers(argument: str) -> tuple[int, ...]:
    return tuple(int(number) for number in argument.split(",") if number.strip())


def _rows(array: np.ndarray, argument: str) -> np.ndarray:
    start, stop = (int(number) for number in argument.split(":"))
    return array[start:stop]


def _columns(array: np.ndarray, argument: str) -> np.ndarray:
    start, stop = (int(number) for number in argument.split(":"))
    return array[:, start:stop]


def _conv_kernel(array: np.ndarray, argument: str) -> np.ndarray:
    return array.transpose(*range(2, array.ndim), 1, 0)


def _transposed_conv_kernel(array: np.ndarray, argument: str) -> np.ndarray:
    spatial = tuple(range(2, array.ndim))
    return np.flip(array, spatial).transpose(*spatial, 0, 1)


def _gru_bias(arrays: Arrays, argument: str) -> np.ndarray:
    """Combine the two biases of a GRU. Flax's GRU cell has no hidden bias for the candidate gate, the last third."""
    inputs, hidden = arrays
    hidden = hidden.copy()
    hidden[2 * len(hidden) // 3 :] = 0
    return inputs + hidden


def _first(arrays: Arrays, argument: str) -> Arrays:
    return arrays[:1]


# Syntax: "rows(0:4)" selects rows 0 to 3, "axes(0,2,3,1)" permutes the axes, "reshape(2,3)" reshapes.
# "sum", "concat", "stack" and "gru bias" join all tensors; every other step acts on each tensor separately.
TRANSFORMS: Mapping[str, Step] = {
    "same": _each(lambda array, argument: array),
    # In "groups(2) | sum | stack", the steps before "stack" act on groups of two tensors.
    "groups": Step(lambda arrays, argument: arrays),
    "transpose": _each(lambda array, argument: array.T),
    "axes": _each(lambda array, argument: array.transpose(_integers(argument))),
    "reshape": _each(lambda array, argument: array.reshape(_integers(argument))),
    "rows": _each(_rows),
    "columns": _each(_columns),
    "conv kernel": _each(_conv_kernel),
    "transposed conv kernel": _each(_transposed_conv_kernel),
    "concat": _joined(lambda arrays, argument: np.concatenate(arrays, int(argument or 0))),
    "stack": _joined(lambda arrays, argument: np.stack(arrays, int(argument or 0))),
    # The gradient by a sum equals the gradient by each of its terms.
    "sum": Step(lambda arrays, argument: [np.sum(arrays, axis=0, dtype=arrays[0].dtype)], _first),
    "gru bias": Step(lambda arrays, argument: [_gru_bias(arrays, argument)], _first),
}


class Transform:
    """The linear map that a text such as ``"rows(0:4) | transpose"`` describes.

    Raises:
        ValueError: if the text names an unknown step.

    >>> tensor = np.arange(6.0).reshape(3, 2)
    >>> Transform("rows(1:3) | transpose").apply([tensor], (2, 2)).tolist()
    [[2.0, 4.0], [3.0, 5.0]]
    """

    def __init__(self, text: str) -> None:
        self._steps: list[tuple[Step, str]] = []
        for part in text.split("|"):
            match = _STEP.fullmatch(part.strip())
            if match is None or match[1] not in TRANSFORMS:
                raise ValueError(
                    f"unknown transform: {part.strip()!r} in {text!r}. Expected steps of {', '.join(TRANSFORMS)}, "
                    "separated by ' | '. Fix: correct the name."
                )
            self._steps.append((TRANSFORMS[match[1]], match[2] or ""))
        self._text = text

    def __str__(self) -> str:
        return self._text

    def apply(self, tensors: Sequence[np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Return the Flax variable's value.

        Args:
            tensors: torch's tensors, as numpy arrays.
            shape: the Flax variable's shape.

        Raises:
            ValueError: if the result has another shape.
        """
        return self._run(tensors, shape, gradients=False)

    def gradient(self, gradients: Sequence[np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Compute the gradient by the Flax variable from the gradients by torch's tensors.

        If the variable is a sum of tensors, its gradient is the gradient by the first term.

        Args:
            gradients: torch's gradients, as numpy arrays, in the order of the tensors.
            shape: the Flax variable's shape.

        Raises:
            ValueError: if the result has another shape.

        >>> Transform("sum").gradient([np.ones(2), np.ones(2)], (2,)).tolist()
        [1.0, 1.0]
        """
        return self._run(gradients, shape, gradients=True)

    def _run(self, tensors: Sequence[np.ndarray], shape: Sequence[int], *, gradients: bool) -> np.ndarray:
        try:
            arrays = self._results(list(tensors), gradients=gradients)
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"transform {self._text!r} does not fit tensors of the shapes {[array.shape for array in tensors]}: "
                f"{error}"
            ) from error
        if len(arrays) != 1 or arrays[0].shape != tuple(shape):
            shapes = [list(array.shape) for array in arrays]
            raise ValueError(
                f"transform {self._text!r} converts {[list(array.shape) for array in tensors]} to {shapes}. "
                f"Expected {list(shape)}, the shape of the Flax variable."
            )
        return np.ascontiguousarray(arrays[0]).reshape(tuple(shape))

    def _results(self, arrays: Arrays, *, gradients: bool) -> Arrays:
        (_, size), *_ = self._steps
        if not self._text.startswith("groups"):
            return _after(self._steps, arrays, gradients=gradients)
        chunks = [arrays[start : start + int(size)] for start in range(0, len(arrays), int(size))]
        *before, last = self._steps
        return _after(
            [last], [a for chunk in chunks for a in _after(before, chunk, gradients=gradients)], gradients=False
        )


def _after(steps: Sequence[tuple[Step, str]], arrays: Arrays, *, gradients: bool) -> Arrays:
    for step, argument in steps:
        arrays = (step.gradient if gradients and step.gradient else step.apply)(arrays, argument)
    return arrays


def joined(*steps: str) -> str:
    """Return the text of a transform that applies the steps one after another.

    >>> joined("same", "rows(0:4)", "", "transpose")
    'rows(0:4) | transpose'
    """
    parts = [part.strip() for step in steps if step for part in step.split("|")]
    return " | ".join(part for part in parts if part != "same") or "same"


def reshaping(shape: Sequence[int], target: Sequence[int]) -> str:
    """Return the step that reshapes one shape into another.

    >>> reshaping((4, 1, 1), (4,)), reshaping((4,), (4,))
    ('reshape(4)', 'same')
    """
    return "same" if tuple(shape) == tuple(target) else f"reshape({','.join(map(str, target))})"
