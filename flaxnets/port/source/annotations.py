"""Translate annotations from torch to JAX."""

import builtins
import types
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.names import is_torchs
from flaxnets.port.scope import MISSING
from flaxnets.port.source.needs import twin


def annotation(node: Any, static: Any, refer: Any) -> Any:
    """Translate an annotation to JAX. Returns None if a name in it has no counterpart in the written file."""
    if isinstance(node, cst.SimpleString):
        try:
            inner = annotation(cst.parse_expression(node.raw_value), static, refer)
        except cst.ParserSyntaxError:
            return None
        return None if inner is None else cst.SimpleString(repr(ex.code(inner)).replace("'", '"'))
    translator = _Annotation(static, refer)
    new = node.visit(translator)
    return None if translator.failed else new


class _Annotation(cst.CSTTransformer):
    def __init__(self, static: Any, refer: Any):
        super().__init__()
        self.static, self.refer, self.failed = static, refer, False

    def visit_Attribute(self, node: Any) -> bool:
        return False

    def visit_SimpleString(self, node: Any) -> bool:
        return False

    def leave_Name(self, original_node: Any, updated_node: Any) -> Any:
        return self._translated(original_node, updated_node)

    def leave_Attribute(self, original_node: Any, updated_node: Any) -> Any:
        return self._translated(original_node, updated_node)

    def _translated(self, original: Any, updated: Any) -> Any:
        value = self.static(original)
        if value is torch.Tensor or value is torch.nn.Parameter:
            return ex.parse("jax.Array")
        if value is torch.Size:
            return ex.parse("tuple[int, ...]")
        if isinstance(value, type) and is_torchs(value):
            ours = twin(value) if issubclass(value, torch.nn.Module) else None
            if ours is not None:
                return ex.parse(f"nn.{ours.__name__}")
        if value is MISSING or is_torchs(value) or isinstance(value, types.ModuleType):
            self.failed = True
            return updated
        if value is None or getattr(builtins, ex.code(original), MISSING) is value:
            return updated
        name = self.refer(value, original)
        self.failed |= name is None
        return updated if name is None else name
