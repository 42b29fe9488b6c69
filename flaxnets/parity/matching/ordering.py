"""Find the order in which the modules of each side are called, and the modules that are called on the same values."""

import contextlib
import copy
import dataclasses
import functools
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from unittest import mock

import jax
import numpy as np
from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.layouts import suggest_inputs
from flaxnets.parity.matching.layers import FlaxLayer
from flaxnets.parity.matching.linen import recorded_linen
from flaxnets.parity.matching.torch_layers import TorchLayer
from flaxnets.parity.run import Call, Constant, call_flax, mapped_call
from flaxnets.parity.trees import join, named_modules

L = TypeVar("L", TorchLayer, FlaxLayer)


@dataclasses.dataclass(frozen=True)
class Order:
    """The first calls of the modules of one side.

    Attributes:
        starts: for each called module, the position of its first call.
        inputs: for each called module, a checksum of the input arrays of its first call; recorded for torch only.
        shapes: the shapes of the whole model's outputs.
        linen: Linen modules inside the Flax module, by the paths of their variables.
    """

    starts: Mapping[str, int]
    inputs: Mapping[str, int]
    shapes: tuple[tuple[int, ...], ...] = ()
    linen: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def sorted(self, layers: Sequence[L]) -> list[L]:
        """Sort layers by their first calls; a layer without a call has the position of the module that contains it.

        >>> Order({}, {}).sorted([])
        []
        """

        def key(layer: TorchLayer | FlaxLayer) -> tuple[int, int, int]:
            start = self.starts.get(self.called(layer.name), 0)
            if isinstance(layer, TorchLayer) or layer.stack is None:
                return start, -1, start
            # All layers of a stack run in one call of the stacked module.
            return self.starts.get(self.called(layer.stack), 0), layer.targets[0].index or 0, start

        return sorted(layers, key=key)

    def called(self, name: str) -> str:
        """Return the innermost called module among the module itself and the modules that contain it."""
        while name and name not in self.starts:
            name = name.rpartition(".")[0]
        return name


def torch_order(module: Any, call: Call) -> Order:
    """Call a copy of the torch module in evaluation mode and return the order of its modules.

    >>> order = torch_order(torch.nn.Sequential(torch.nn.ReLU()), Call((np.ones(2),), {}, False, "float32"))
    >>> order.starts
    {'': 0, '0': 1}
    """
    module = copy.deepcopy(module).eval()
    starts: dict[str, int] = {}
    inputs: dict[str, int] = {}

    def noting(name: str) -> Callable[..., None]:
        def hook(child: Any, args: tuple, kwargs: dict) -> None:
            if name not in starts:
                starts[name] = len(starts)
                inputs[name] = _checksum((args, kwargs))

        return hook

    for name, child in module.named_modules():
        child.register_forward_pre_hook(noting(name), with_kwargs=True, prepend=True)
    outputs = call_torch(module, call)
    return Order(starts, inputs, tuple(tuple(array.shape) for array in outputs))


def call_torch(module: Any, call: Call) -> list[np.ndarray]:
    """Call a torch module in its current mode and dtype, without gradients, and return its output arrays.

    >>> call_torch(torch.nn.ReLU(), Call((np.array([-1.0, 2.0]),), {}, False, "float32"))[0].tolist()
    [0.0, 2.0]
    """
    tensors = itertools.chain(module.parameters(), module.buffers())
    floating = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), getattr(torch, call.dtype))

    def to_tensor(leaf: Any) -> Any:
        array = leaf.array if isinstance(leaf, Constant) else leaf
        if not isinstance(array, np.ndarray):
            return array
        tensor = torch.from_numpy(array.copy())
        return tensor.to(floating) if tensor.is_floating_point() else tensor

    call = mapped_call(call, to_tensor)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = module(*call.args, **call.kwargs)
    return [leaf.resolve_conj().numpy() for leaf in jax.tree.leaves(outputs) if isinstance(leaf, torch.Tensor)]


def _checksum(tree: Any) -> int:
    result = 0
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, torch.Tensor):
            result = zlib.crc32(np.ascontiguousarray(leaf.detach().resolve_conj().numpy()).tobytes(), result)
    return result


def flax_order(module: nnx.Module, call: Call, output_shapes: Sequence[Sequence[int]]) -> Order:
    """Trace the Flax module in evaluation mode, without computing values, and return the order of its modules.

    Args:
        module: any NNX module.
        call: a call in torch's axis order.
        output_shapes: the shapes that torch returns.

    Raises:
        ValueError: if the module cannot be called on the inputs in any axis order.

    >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> list(flax_order(model, Call((np.ones((1, 2)),), {}, False, "float32"), [(1, 3)]).starts)
    ['', 'layers.0']
    """
    call = suggest_inputs(module, call, output_shapes)[0].to_flax(call)
    graphdef, state = nnx.split(module)
    recorder = _Recorder()

    def run(state: Any) -> Any:
        model = nnx.merge(graphdef, state, copy=True)
        model.eval()
        recorder.modules = named_modules(model)
        with recorder.recording():
            return jax.tree.leaves(call_flax(model, call))

    jax.eval_shape(run, state)
    return Order(recorder.starts, {}, linen=recorder.linen)


class _Recorder:
    def __init__(self) -> None:
        self.starts: dict[str, int] = {}
        self.linen: dict[str, Any] = {}
        self.modules: Mapping[str, nnx.Module] = {}
        self._known: list[tuple[str, nnx.Module]] = []
        self._running: list[str] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        self._known = list(self.modules.items())
        classes = {type(child) for child in self.modules.values()}
        with _wrapped_calls(classes, self._around), recorded_linen(self._innermost, self._note_linen):
            yield

    def _innermost(self) -> str | None:
        return self._running[-1] if self._running else None

    def _note_linen(self, name: str, child: Any) -> None:
        self.starts.setdefault(name, len(self.starts))
        self.linen[name] = child

    @contextlib.contextmanager
    def _around(self, child: Any) -> Iterator[None]:
        name = self._name(child)
        if name is None:
            yield
            return
        self.starts.setdefault(name, len(self.starts))
        self._running.append(name)
        try:
            yield
        finally:
            self._running.pop()

    def _name(self, child: Any) -> str | None:
        """Return the path of a module. Transformations such as nnx.scan copy modules: a copy is found by its type."""
        for name, module in self._known:
            if module is child:
                return name
        prefix = join(self._running[-1], "") if self._running else ""
        alike = [name for name, module in self.modules.items() if type(module) is type(child)]
        within = [name for name in alike if name.startswith(prefix)]
        name = next((name for name in within if name not in self.starts), within[0] if within else None)
        if name is not None:
            self._known += [(join(name, path).rstrip("."), each) for path, each in named_modules(child).items()]
        return name


@contextlib.contextmanager
def _wrapped_calls(
    classes: set[type], around: Callable[[Any], contextlib.AbstractContextManager[None]]
) -> Iterator[None]:
    """Return a context that replaces ``__call__`` of the classes, so that each call runs within ``around(module)``."""

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)  # mode_arguments() reads the signature of __call__.
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            with around(self):
                return original(self, *args, **kwargs)

        return call

    with contextlib.ExitStack() as stack:
        for cls in classes:
            if callable(getattr(cls, "__call__", None)):  # noqa: B004, the class's own method is wrapped
                stack.enter_context(mock.patch.object(cls, "__call__", wrapped(cls.__call__)))
        yield
