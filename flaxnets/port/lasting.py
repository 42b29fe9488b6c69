"""Track objects that outlive a call: detect changes, and later calls that depend on the changes."""

import collections
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flaxnets.port._torch import torch
from flaxnets.port.names import is_torchs
from flaxnets.port.plain_classes import LIBRARIES, NAMESPACES
from flaxnets.port.problems import CARRIED, OUTLIVES, Problem
from flaxnets.port.sites import Site, is_registered

_CONTAINERS = (list, dict, set, collections.deque)
_REPLACES_MODULE = Problem(
    "This replaces a module, or makes one in forward.", "make all modules in __init__, and choose among them by name."
)
_NEW_PARAMETER = Problem("This makes a parameter in forward.", "make it in __init__.")
_NEW_BUFFER = Problem("This registers a buffer in forward.", "register it in __init__.")


class Lasting:
    """Track objects that exist before a run of the model and that the run reads or changes.

    Args:
        model: The model.
    """

    def __init__(self, model: torch.nn.Module):
        self.model = model
        self.objects: dict[int, Any] = {}  # containers and plain objects that exist before the run
        self.tensors: dict[Any, torch.Tensor] = {}  # tensors that are not registered, by storage
        self.used: set[int] = set()  # ids of the objects that the model reads
        self._read: set[tuple[int, str]] = set()
        self._stored: dict[tuple[int, str], Site] = {}
        self._carried: list[Site] = []
        self._memos: list[Site] = []
        self._tables: dict[int, tuple[dict[Any, Any], dict[Any, Any]]] = {}  # caches, with their items before the run
        self._filled: tuple[Any] | None = None  # the outputs of a run with caches that an earlier run filled
        for module in model.modules():
            for value in vars(module).values():
                self._walk(value, 0)
            for base in type(module).__mro__:
                for value in () if is_torchs(base) else vars(base).values():
                    if isinstance(value, _CONTAINERS):
                        self._walk(value, 0)

    def reach(self, function: types.FunctionType) -> None:
        """Track the objects in a function's globals, closure and defaults."""
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        names = [function.__globals__.get(name) for name in function.__code__.co_names]
        for value in [*cells, *names, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]:
            self._walk(value, 0)

    def _walk(self, value: Any, depth: int) -> None:
        if isinstance(value, torch.Tensor):
            if value.layout is torch.strided and not isinstance(value, torch.nn.Parameter):
                self.tensors[value.untyped_storage()._cdata] = value
            return
        if depth > 4 or id(value) in self.objects:
            return
        if isinstance(value, _CONTAINERS):
            self.objects[id(value)] = value
            for item in [*(value.values() if isinstance(value, dict) else value)]:
                self._walk(item, depth + 1)
        elif is_plain_object(value):
            self.objects[id(value)] = value
            for item in [*vars(value).values()]:
                self._walk(item, depth + 1)

    # Events of a run.

    def begin(self) -> None:
        """Note that a run begins."""
        self._read.clear()
        self._stored.clear()
        self._carried.clear()
        self._structure = dict(self._slots())
        for buffer in self.model.buffers():
            if buffer.layout is torch.strided:
                self.tensors.pop(buffer.untyped_storage()._cdata, None)

    def read(self, owner: Any, name: str, value: Any) -> None:
        """Note that an attribute is read."""
        if isinstance(owner, torch.nn.Module) and (id(owner), name) not in self._stored:
            self._read.add((id(owner), name))
        self.use(value)

    def use(self, value: Any) -> None:
        """Note that a container is read."""
        if id(value) in self.objects:
            self.used.add(id(value))

    def store(self, owner: Any, name: str, site: Site, reads: bool = False) -> None:
        """Note that an attribute is set. With ``reads``, the new value is computed from the old value."""
        if not isinstance(owner, torch.nn.Module):
            self.change(owner, site)
            return
        if (reads or (id(owner), name) in self._read) and not is_registered(owner, name):
            self._carried.append(site)
        self._stored[id(owner), name] = site

    def change(self, value: Any, site: Site) -> None:
        """Note that an object changes."""
        if id(value) in self.objects:
            site.problems.add(OUTLIVES)

    def remember(self, value: Any, site: Site) -> bool:
        """Return whether a dict may be a cache (it existed before the run), and note that the site stores into it."""
        if type(value) is not dict or id(value) not in self.objects:
            return False
        self._tables.setdefault(id(value), (value, dict(value)))
        self._memos.append(site)
        site.is_memo = True
        return True

    def empty_memos(self) -> None:
        """Restore the items that caches had before the run."""
        for table, items in self._tables.values():
            table.clear()
            table.update(items)

    def compare_memos(self, run: Callable[[], Any]) -> None:
        """Compare outputs for other inputs with full and with empty caches; refuse the caches if the outputs differ.

        The first call runs with full caches, the second call with empty caches.
        """
        if not self._memos:
            return
        sites = list(self._memos)
        try:
            outputs = run()
        except Exception:  # the model does not accept these inputs
            outputs = None
        if self._filled is None:
            self._filled = (outputs,)
            return
        if outputs is None or not _same(self._filled[0], outputs):
            for site in sites:
                site.problems.add(OUTLIVES)
        self._memos, self._filled = [], None

    def change_tensor(self, storage: Any, site: Site) -> None:
        """Note that a tensor changes in place."""
        if storage in self.tensors:
            self._carried.append(site)

    def _slots(self) -> Iterator[tuple[tuple[int, str], tuple[Any, Problem]]]:
        for module in self.model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for name, child in module._modules.items():
                yield (id(module), name), (child, _REPLACES_MODULE)
            for name, parameter in module._parameters.items():
                yield (id(module), name), (parameter, _NEW_PARAMETER)
            for name in module._buffers:
                yield (id(module), name), (None, _NEW_BUFFER)

    def finish(self, again: Callable[[], Any], outputs: Any) -> None:
        """Note that a run ended. The run is repeated if its result may depend on an earlier run.

        Args:
            again: Calls the model with the same registered values and random numbers as before.
            outputs: The outputs of the run.
        """
        for key, (value, problem) in self._slots():
            before = self._structure.get(key)
            # Assigning to a parameter that exists only changes its value.
            is_value = before is not None and None not in (before[0], value) and problem is _NEW_PARAMETER
            if (before is None or before[0] is not value) and key in self._stored and not is_value:
                self._stored[key].problems.add(problem)
        carried = list(self._carried)
        if not carried:
            return
        if not _same(outputs, again()):
            for site in carried:
                site.problems.add(CARRIED)


def is_plain_object(value: Any) -> bool:
    """Whether a value is an instance of a user's class and has attributes."""
    kind = type(value)
    if isinstance(value, (type, types.ModuleType, types.FunctionType, torch.nn.Module, np.ndarray)):
        return False
    return hasattr(value, "__dict__") and (kind.__module__.split(".")[0] not in LIBRARIES or kind in NAMESPACES)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.shape == second.shape and _equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(v, second[k]) for k, v in first.items())
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    if is_plain_object(first):
        return _same(vars(first), vars(second))
    return type(first) is type(second) and (not isinstance(first, (bool, int, float, str)) or first == second)


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    first, second = first.detach(), second.detach()
    return bool(((first == second) | (first.isnan() & second.isnan())).all())
