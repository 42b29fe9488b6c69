"""Start sums of arrays with an array instead of a number, so that the variable has one type."""

from collections.abc import Iterator
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst


def begins_sum(translator: Any, assign: Any) -> bool:
    """Return whether ``total = 0`` starts a sum of tensors that is used as a tensor.

    Returns False if Python tests the variable, compares it or uses it as an index: then it is used as a number.

    Args:
        translator: The translator of the function.
        assign: The assignment.
    """
    target = assign.targets[0].target
    if len(assign.targets) != 1 or not isinstance(target, cst.Name):
        return False
    if not isinstance(assign.value, (cst.Integer, cst.Float)):
        return False
    name, reads = target.value, translator.reads
    others = [value for value in _values(translator.root, name) if value is not assign.value]
    if not others or not all(_results(translator, value) == {"tensor"} for value in others):
        return False
    uses = [(reads.parent(node), node) for node in _all(translator.root, cst.Name) if node.value == name]
    if any(isinstance(parent, (cst.Comparison, cst.ComparisonTarget, cst.Index, cst.If)) for parent, _ in uses):
        return False
    is_annotated = getattr(translator.root, "returns", None) is not None
    return any(
        (isinstance(parent, cst.Arg) and parent.value is node)
        or (isinstance(parent, cst.Attribute) and parent.value is node)
        or (isinstance(parent, cst.Return) and is_annotated)
        for parent, node in uses
    )


def as_array(number: Any) -> Any:
    """Return the expression of a weakly typed array, which takes the dtype of the summands as the number does."""
    return ex.fill("jnp.asarray(n)", {"n": number})


def _values(root: Any, name: str) -> Iterator[Any]:
    """Yield the values that a local name is bound to."""
    for node in _all(root, (cst.Assign, cst.AugAssign, cst.AnnAssign, cst.For, cst.CompFor, cst.NamedExpr)):
        targets = [each.target for each in node.targets] if isinstance(node, cst.Assign) else [node.target]
        for target in targets:
            if isinstance(target, cst.Name) and target.value == name:
                yield node if isinstance(node, cst.AugAssign) else getattr(node, "value", node)
            elif any(isinstance(e.value, cst.Name) and e.value.value == name for e in getattr(target, "elements", ())):
                yield node


def _results(translator: Any, node: Any) -> set[str]:
    return translator.site("operator", node).results | translator.site("call", node).results


def _all(node: Any, kinds: Any) -> Iterator[Any]:
    if isinstance(node, kinds):
        yield node
    for child in node.children:
        yield from _all(child, kinds)
