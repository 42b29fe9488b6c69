"""Find the names that share a tensor's memory, and update them after a change in place."""

from collections.abc import Iterator
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.names import qualified_name
from flaxnets.port.scope import MISSING
from flaxnets.port.sites import Site

# Methods and functions whose result can share memory with their argument.
_VIEWS = {
    "view", "transpose", "permute", "t", "unsqueeze", "squeeze", "narrow", "select", "diagonal", "flatten", "reshape",
    "unfold", "swapaxes", "swapdims", "movedim", "moveaxis", "expand", "view_as", "detach", "unflatten", "expand_as",
    "contiguous", "ravel", "adjoint",
}  # fmt: skip
_VIEW_ATTRIBUTES = {"T", "mT", "data"}
_CUTS = {"detach", "data"}  # autograd does not record changes made through these views


class Aliasing:
    """Translate names that share memory. A part of the translator."""

    # Attributes and methods that the translator defines.
    root: Any
    tree: Any
    scope: Any
    site: Any
    reads: Any
    is_tensor: Any
    variable_names: set[str]

    # Views.

    def base(self, target: Any) -> Any:
        """Return the base of a view: the expression whose memory it shares. Returns any other expression unchanged."""
        while (inner := self._viewed(target)) is not None:
            target = inner
        return target

    def is_cut(self, target: Any) -> bool:
        """Return whether an expression is a view without gradients."""
        while (inner := self._viewed(target)) is not None:
            name = target.func if isinstance(target, cst.Call) else target
            if isinstance(name, cst.Attribute) and name.attr.value in _CUTS:
                return True
            target = inner
        return False

    def without_cut(self, target: Any) -> Any:
        """Return the tensor ``x`` of ``x.data`` or ``x.detach()``; any other expression unchanged."""
        while True:
            node = target.func if isinstance(target, cst.Call) else target
            if not isinstance(node, cst.Attribute) or not self.is_tensor(node):
                return target
            if node.attr.value != ("detach" if node is not target else "data"):
                return target
            target = node.value

    def _viewed(self, target: Any) -> Any:
        """Return the operand that an expression is directly a view of, or None."""
        if isinstance(target, cst.Subscript):
            site = self.site("subscript", target)
            site = site if site.hits else self.site("store", target)
            return target.value if "tensor" in site.receivers else None
        if isinstance(target, cst.Call):
            callee = self.scope.static(target.func)
            if callee in (torch.as_tensor, torch.asarray) and self.site("call", target).returned == {0}:
                return target.args[0].value
            if callee is not MISSING:
                is_view = qualified_name(callee).rpartition(".")[2] in _VIEWS and target.args
                return target.args[0].value if is_view else None
            function: Any = target.func
            is_method = isinstance(function, cst.Attribute) and function.attr.value in _VIEWS
            return function.value if is_method else None
        is_attribute = isinstance(target, cst.Attribute) and target.attr.value in _VIEW_ATTRIBUTES
        return target.value if is_attribute and self.is_tensor(target) else None

    # Relations.

    def relations(self, site: Site, original: Any) -> dict[str, str]:
        """Return the names and paths that refer to the changed memory and are read later, or earlier in the statement.

        Each value is the relation to the changed tensor (:data:`flaxnets.port.sites.Bindings`).
        """
        return {
            name: how
            for name, how in site.aliases().items()
            if "." in name or self.reads.is_live(name, original) or self.reads.read_before(name, original)
        }

    def owner(self, root: Any) -> str:
        """Return the name or path under which a site's relations list an assignable expression."""
        if isinstance(root, cst.Subscript):
            return self.owner(root.value)
        if self.is_part(root):
            return self.owner(self.base(root.value))
        return root.value if isinstance(root, cst.Name) else self.target_text(root)

    def is_part(self, node: Any) -> bool:
        """Whether an expression is the real or imaginary part of a tensor."""
        return isinstance(node, cst.Attribute) and node.attr.value in ("real", "imag") and self.is_tensor(node)

    def target_text(self, root: Any) -> str:
        """Return the text of an expression as the target of an assignment."""
        text = ex.code(root)
        if isinstance(root, cst.Name) and text in self.variable_names:
            return f"{text}[...]"
        if isinstance(root, cst.Attribute):
            results = self.site("attribute", root).results | self.site("store", root).results
            return f"{text}[...]" if "variable" in results else text
        return text

    def derived(self, names: dict[str, str], root: Any, is_whole: bool, original: Any) -> list[tuple[str, Any]] | None:
        """Return the assignments that update all names after a change of ``root``, in order.

        A pair is a name with its new value. The value is None if the name is the base of a changed view. Returns None
        if a name cannot be updated.

        Args:
            names: The names, each with its relation to the changed tensor.
            root: The expression that already has its new value.
            is_whole: Whether the changed tensor is ``root`` itself, and not a view of it.
            original: The node of the change.
        """
        groups = {name: how.removeprefix("is ") if how.startswith("is ") else name for name, how in names.items()}
        known: dict[str, str] = {self.owner(root): self.target_text(root)}
        pending = dict(names)
        assignments: list[tuple[str, Any]] = []
        while pending:
            for name, how in sorted(pending.items()):
                value = self._value(name, how, known, groups, original)
                if how == "same" and is_whole:
                    value = ex.parse(self.target_text(root))
                if value is None and self.changed_view(name, known, original) is None:
                    continue
                assignments.append((name, value))
                known[name] = name
                del pending[name]
                break
            else:
                return None
        return assignments

    def _value(self, name: str, how: str, known: dict[str, str], groups: dict[str, str], original: Any) -> Any:
        """Return an expression from the user's code that gives a name its new value; None if there is none."""
        if how in ("varying", "inside", "inside twice"):
            return None
        twins = {groups.get(name, name), *(other for other, group in groups.items() if group == groups.get(name, name))}
        for twin in sorted(twins - {name}):
            if twin in known:
                return ex.parse(known[twin])
        for each in sorted({name, *twins}):
            definition = self.definition(each, original)
            if definition is not None and self.owner(self.base(definition)) in known:
                return definition
        return None

    def changed_view(self, name: str, known: Any, original: Any) -> tuple[str, Any] | None:
        """Return an updated name that is a view of ``name``, with its definition; None if there is none."""
        for each in known:
            definition = self.definition(each, original)
            if definition is not None and self.owner(self.base(definition)) == name:
                return each, definition
        return None

    # Definitions.

    def definition(self, name: str, original: Any) -> Any:
        """Return the view expression that defines a name at ``original``.

        Returns None if a name in the expression was assigned again since then.
        """
        before = [b for b in self._bindings() if b[0] == name and b[2] < self.tree.span(original)[:2]]
        if not before:
            return None
        _, value, place, statement = max(before, key=lambda binding: binding[2])
        if value is None or self.base(value) is value or not self._surrounds(statement, original):
            return None
        inside = _names(value)
        text = ex.code(self.base(value))
        later = [b for b in self._bindings() if b[2] > place and (b[0] in inside or b[0] == text)]
        return None if later else value

    def _surrounds(self, statement: Any, original: Any) -> bool:
        """Whether a statement always runs before ``original``: its block encloses ``original``."""
        block = self.reads.parent(statement)
        return block is self.root or any(each is block for each in self.reads.enclosing(original, cst.BaseSuite))

    def _bindings(self) -> list[tuple[str, Any, tuple[int, int], Any]]:
        """Yield all assignments to names and attributes: name, value or None, position, statement."""
        if not hasattr(self, "_all_bindings"):
            self._all_bindings = [b for node in nodes(self.root) for b in self._bound(node)]
        return self._all_bindings

    def _bound(self, node: Any) -> Iterator[tuple[str, Any, tuple[int, int], Any]]:
        place = self.tree.span(node)[:2] if isinstance(node, _BINDING) else (0, 0)
        line = self.reads.parent(node)
        if isinstance(node, cst.Assign):
            for target in node.targets:
                yield from ((name, value, place, line) for name, value in _pairs(target.target, node.value))
        elif isinstance(node, cst.AnnAssign) and node.value is not None:
            yield ex.code(node.target), node.value, place, line
        elif isinstance(node, (cst.For, cst.CompFor, cst.NamedExpr)):
            yield from ((name, None, place, line) for name, _ in _pairs(node.target, None))
        elif isinstance(node, cst.AugAssign):
            sites = self.site("operator", node), self.site("store", node.target)
            if not any(site.changes for site in sites):
                yield ex.code(node.target), None, place, line


_BINDING = (cst.Assign, cst.AnnAssign, cst.For, cst.CompFor, cst.NamedExpr, cst.AugAssign)


def nodes(root: Any) -> Iterator[Any]:
    """Yield a node and all its descendants."""
    yield root
    for child in root.children:
        yield from nodes(child)


def _pairs(target: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names of a target with their value nodes; None if the source has no expression for the value."""
    if not isinstance(target, (cst.Tuple, cst.List)):
        yield ex.code(target), value
        return
    values = [e.value for e in value.elements] if isinstance(value, (cst.Tuple, cst.List)) else []
    is_plain = len(values) == len(target.elements) and not any(
        isinstance(e, cst.StarredElement) for e in [*target.elements, *value.elements]
    )
    for i, element in enumerate(target.elements):
        yield from _pairs(element.value, values[i] if is_plain else None)


def _names(node: Any) -> set[str]:
    return {each.value for each in nodes(node) if isinstance(each, cst.Name)}
