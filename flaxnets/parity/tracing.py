"""Record the calls of all submodules of a torch or Flax module, in order of completion."""

import contextlib
import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import jax
import numpy as np
from flax import nnx
from jax.core import Tracer

from flaxnets.parity._torch import torch
from flaxnets.parity.trees import named_modules


@dataclasses.dataclass(frozen=True, eq=False)
class ModuleCall:
    """One call of one module.

    Attributes:
        name: dotted path of the module; ``""`` is the whole model.
        module: the module.
        index: number of earlier calls of the same module.
        args: positional arguments; arrays are numpy arrays.
        kwargs: keyword arguments.
        outputs: the arrays of the output.
        start: start of the call, on a counter that all calls of the run share.
        end: end of the call, on the same counter.
    """

    name: str
    module: Any
    index: int
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: list[np.ndarray]
    start: int
    end: int

    def inputs(self) -> list[np.ndarray]:
        """Return the arrays among the arguments."""
        return [leaf for leaf in jax.tree.leaves((self.args, dict(self.kwargs))) if isinstance(leaf, np.ndarray)]

    def contains(self, other: "ModuleCall") -> bool:
        """Return whether another call of the same run ran inside this call."""
        return self.start < other.start and other.end < self.end


class _Recorder:
    def __init__(self) -> None:
        self.calls: list[ModuleCall] = []
        self._clock = itertools.count()
        self._counts: Counter[str] = Counter()

    def tick(self) -> int:
        return next(self._clock)

    def add(self, name: str, module: Any, inputs: tuple[Any, Any], output: Any, start: int) -> None:
        index = self._counts[name]
        self._counts[name] += 1
        args, kwargs = inputs
        self.calls.append(
            ModuleCall(name, module, index, args, kwargs, _arrays_of(output), start, self.tick())
        )  # fmt: skip


def _arrays_of(output: Any) -> list[np.ndarray]:
    leaves = jax.tree.leaves(_copied(output))
    return [np.asarray(leaf) for leaf in leaves if isinstance(leaf, (np.ndarray, np.generic, int, float, complex))]


def _copied(tree: Any) -> Any:
    """Return the tree with tensors and JAX arrays converted to numpy arrays."""

    def copy(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return np.array(leaf.detach().resolve_conj().resolve_neg().numpy())
        if isinstance(leaf, nnx.Variable):
            leaf = leaf.get_value()
        if isinstance(leaf, jax.Array) and not jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return np.asarray(leaf)
        return leaf

    return jax.tree.map(copy, tree, is_leaf=lambda leaf: isinstance(leaf, (nnx.Module, nnx.Variable, nnx.Rngs)))


@contextlib.contextmanager
def recorded_torch(module: torch.nn.Module) -> Iterator[list[ModuleCall]]:
    """Return a context that appends each call of a submodule of the torch module to its list.

    >>> with recorded_torch(torch.nn.Sequential(torch.nn.ReLU())) as calls:
    ...     pass
    >>> calls
    []
    """
    recorder, handles = _Recorder(), []
    running: list[tuple[Any, int]] = []

    def begins(child: Any, args: tuple, kwargs: dict) -> None:
        running.append((_copied((args, kwargs)), recorder.tick()))

    for name, child in module.named_modules():

        def ends(child: Any, args: tuple, kwargs: dict, output: Any, name: str = name) -> None:
            inputs, start = running.pop()
            recorder.add(name, child, inputs, output, start)

        handles.append(child.register_forward_pre_hook(begins, with_kwargs=True, prepend=True))
        handles.append(child.register_forward_hook(ends, with_kwargs=True))
    try:
        yield recorder.calls
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def recorded_flax(module: nnx.Module) -> Iterator[list[ModuleCall]]:
    """Return a context that appends each call of a submodule of the Flax module to its list.

    Calls inside ``jax.jit``, ``nnx.scan`` and other transformations are not recorded, because their values are unknown.

    >>> import jax.numpy as jnp
    >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
    >>> with recorded_flax(model) as calls:
    ...     output = model(jnp.ones((1, 2)))
    >>> [call.name for call in calls]
    ['layers.0', '']
    """
    recorder = _Recorder()
    names = {id(child): name for name, child in named_modules(module).items()}
    active: list[int] = []

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)  # mode_arguments() reads the signature of __call__.
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            name = names.get(id(self))
            # ``super().__call__`` is part of the call that is being recorded.
            if name is None or (active and active[-1] == id(self)) or _is_traced((args, kwargs)):
                return original(self, *args, **kwargs)
            active.append(id(self))
            start, inputs = recorder.tick(), _copied((args, kwargs))
            try:
                output = original(self, *args, **kwargs)
            finally:
                active.pop()
            if not _is_traced(output):
                recorder.add(name, self, inputs, output, start)
            return output

        return call

    with contextlib.ExitStack() as stack:
        for cls in dict.fromkeys(type(child) for child in named_modules(module).values()):
            if "__call__" in dir(cls):
                stack.enter_context(mock.patch.object(cls, "__call__", wrapped(cls.__call__)))
        yield recorder.calls


def _is_traced(tree: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
