"""Find the names of a running function that share memory with a changed tensor."""

import types
from collections.abc import Iterator
from typing import Any

from flaxnets.port._torch import torch


def storage(tensor: torch.Tensor) -> Any:
    """Return the identity of a tensor's memory; None for sparse tensors and other layouts without a storage."""
    try:
        return tensor.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):
        return None


def bindings(frame: types.FrameType | None, tensor: torch.Tensor) -> set[tuple[str, str]]:
    """Return names and paths that refer to a tensor or share its memory; see :mod:`flaxnets.port.sites`."""
    relations: set[tuple[str, str]] = set()
    while frame is not None:
        relations |= set(_bindings(frame, tensor))
        # Before Python 3.12 a comprehension runs in its own frame.
        is_inner = frame.f_code.co_name in ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>")
        frame = frame.f_back if is_inner else None
    return relations


def _bindings(frame: types.FrameType, tensor: torch.Tensor) -> Iterator[tuple[str, str]]:
    memory = storage(tensor)
    views: dict[int, str] = {}

    def relation(name: str, value: Any) -> str | None:
        if not isinstance(value, torch.Tensor) or memory is None or storage(value) != memory:
            return None
        if value is tensor:
            return "same"
        first = views.setdefault(id(value), name)
        return "view" if first == name else f"is {first}"

    for name, value in sorted(frame.f_locals.items()):
        if (how := relation(name, value)) is not None:
            yield name, how
        elif isinstance(value, torch.nn.Module):
            for table, end in ((value._parameters, "[...]"), (value._buffers, "[...]"), (vars(value), "")):
                for attribute, tensor_of_module in table.items():
                    path = f"{name}.{attribute}{end}"  # the target of an assignment in the port
                    if (how := relation(path, tensor_of_module)) is not None:
                        yield path, how
        elif isinstance(value, (list, tuple, dict)):
            items = value.values() if isinstance(value, dict) else value
            count = sum(relation(name, item) is not None for item in items)
            if count:
                yield name, "inside" if count == 1 else "inside twice"
