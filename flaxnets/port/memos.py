"""Translate caches in dicts: a compiled program computes the values in each call. A part of the translator."""

import ast
from collections.abc import Iterator
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port.names import free_name

Lookup = tuple[str, str]  # the texts of a key and of a dict


def lookups(function: ast.AST) -> Iterator[Lookup]:
    """Yield the keys and dicts that a function looks up before it stores a value.

    >>> list(lookups(ast.parse("if (n, 2) not in self.cache: pass")))
    [('(n, 2)', 'self.cache')]
    >>> list(lookups(ast.parse("table = self.cache.get(n)")))
    [('n', 'self.cache')]
    """
    for node in ast.walk(function):
        match node:
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[table]):
                yield texts(key, table)
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[key, *_]):
                yield texts(key, table)
            case ast.Try(handlers=[ast.ExceptHandler(type=ast.Name(id="KeyError"))]):
                for each in ast.walk(ast.Module(node.body, [])):
                    if isinstance(each, ast.Subscript):
                        yield texts(each.slice, each.value)


def memo_names(source: str) -> set[str]:
    """Return the names of the dicts that are caches: a function looks up a key and stores a value under the same key.

    >>> source = "def f(n):\\n if n not in TABLES: TABLES[n] = n\\n return NAMES[n]"
    >>> memo_names(source)
    {'TABLES'}
    >>> memo_names("def register(name, cls): NAMES[name] = cls")
    set()
    """
    names = set[str]()
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            stores = [each for each in ast.walk(function) if isinstance(each, ast.Subscript)]
            stored = {texts(each.slice, each.value) for each in stores if isinstance(each.ctx, ast.Store)}
            names.update(table.rpartition(".")[2] for _, table in stored.intersection(lookups(function)))
    return names


def texts(key: ast.expr, table: ast.expr) -> Lookup:
    """Return a key and a dict as text."""
    return ast.unparse(key), ast.unparse(table)


class Memos:
    """Translate stores into caches, and branches that fill caches. A part of the translator."""

    # Attributes and methods that the translator defines.
    site: Any
    scope: Any
    memos: dict[str, str]  # local names by the texts of the dicts
    _translated: Any

    def store_memo(self, target: Any, value: Any) -> Any:
        """Return the assignment of a new dict to a local name. The dict exists during one call only."""
        table = target.value
        local = self.memos.setdefault(ex.code(table), free_name("cache", self.scope.locals))
        key = self._translated(target.slice[0].slice.value)
        filled = ex.fill("{**d, k: v}", {"d": self._translated(table), "k": key, "v": value})
        return cst.Assign([cst.AssignTarget(cst.Name(local))], filled)

    def store_memos(self, original: Any, updated: Any) -> list[Any] | None:
        """Return the statements for ``name = self.cache[key] = value``; None for other assignments."""
        targets = [each.target for each in original.targets]
        stores = [each for each in targets if isinstance(each, cst.Subscript) and self.site("store", each).is_memo]
        name = next((each for each in targets if isinstance(each, cst.Name)), None)
        if not stores or name is None:
            return None
        rest = [new for new, old in zip(updated.targets, targets, strict=True) if old not in stores]
        return [updated.with_changes(targets=rest), *(self.store_memo(each, name) for each in stores)]

    def fills_memo(self, node: Any) -> bool:
        """Whether an ``if`` computes a value that is missing in the dict."""
        if not isinstance(node.test, cst.Comparison) or node.orelse is not None or not self._has_memo_store(node.body):
            return False
        first = node.test.comparisons[0]
        if isinstance(first.operator, cst.NotIn):
            return ex.code(first.comparator) in self.memos
        return isinstance(first.operator, cst.Is) and ex.code(first.comparator) == "None"

    def tries_memo(self, node: Any) -> bool:
        """Whether a ``try`` looks up a value, and its handler of KeyError computes the value."""
        if len(node.handlers) != 1 or node.orelse is not None or node.finalbody is not None:
            return False
        handler, lines = node.handlers[0], node.body.body
        is_lookup = len(lines) == 1 and not isinstance(lines[0], cst.BaseCompoundStatement)
        is_key_error = handler.type is not None and self.scope.static(handler.type) is KeyError
        return is_lookup and is_key_error and self._has_memo_store(handler.body)

    def _has_memo_store(self, block: Any) -> bool:
        stores = (self.site("store", node) for node in _subscripts(block))
        return any(site.is_memo for site in stores)


def _subscripts(node: Any) -> Iterator[Any]:
    if isinstance(node, cst.Subscript):
        yield node
    for child in node.children:
        yield from _subscripts(child)
