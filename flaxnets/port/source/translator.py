"""Translate functions for written source: comments, docstrings and annotations stay, and ``rngs`` is threaded."""

import ast
import builtins
import copy
import enum
import functools
import itertools
import types
from collections.abc import Sequence
from typing import Any, Protocol

from flaxnets.port import expressions as ex
from flaxnets.port import operators
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.closures import Closure
from flaxnets.port.names import is_library, is_operator, is_torchs
from flaxnets.port.scope import MISSING
from flaxnets.port.sites import RecordedFunction, Site
from flaxnets.port.source.needs import Needs, initialiser, twin, utility
from flaxnets.port.source.stored import as_closure, as_method, assigned_targets, held_names, self_path
from flaxnets.port.source.tidying import Simplifier, without_unused
from flaxnets.port.source.unreached import Unreached, stand_in
from flaxnets.port.translation import MODULES, Translator

_READS = {"item": "x.item()", "tolist": "x.tolist()", "numpy": "np.asarray(x)"}
_CALLS_ARGUMENT = (map, itertools.starmap, torch.nn.Module.apply)
_FILLED = {"zeros": "jnp.zeros_like(x)", "ones": "jnp.ones_like(x)"}


class References(Protocol):
    """Where translated source finds definitions and imports."""

    needs: Needs
    recorder: Any
    space: Any

    def reference(self, value: Any, name: str, module: str) -> str:
        """The name that an object of the user's has in the written file."""
        ...

    def use_module(self, name: str, module: types.ModuleType) -> None:
        """Note that the written file imports a library under a name."""
        ...

    def use_helper(self, name: str) -> str:
        """Note that the written file has one of the helpers; returns its name."""
        ...

    def is_annotation(self, value: Any) -> bool:
        """Whether the written file can name an object of the user's in an annotation."""
        ...

    def draws(self, function: Any) -> bool:
        """Whether a function draws random numbers when the model is called."""
        ...


class SourceTranslator(Translator):
    """Rewrites the tree of one function for a file that is read."""

    namespace: Any

    def __init__(
        self,
        recorded: RecordedFunction,
        function: types.FunctionType,
        references: References,
        module_class: type | None,
        builds: bool,
    ):
        super().__init__(recorded, function, references, module_class)  # type: ignore[arg-type]
        self.references, self.builds = references, builds
        self.home = function.__globals__.get("__name__", "")
        self.takes_rngs = builds and references.needs.recorded(recorded)
        self.draws = not builds and self.draws
        self._comments: list[Any] = []
        self.unmet = Unreached(self)
        parameters = {name for name in self.scope.locals if name in function.__code__.co_varnames[: _count(function)]}
        self._renamed = self.scope.locals & RESERVED - parameters
        self.methods: list[Any] = []  # functions that the constructor stores, as methods of the class
        if builds:
            self.variable_names |= self._parameter_names()

    def _parameter_names(self) -> set[str]:
        """Local names that stood for parameters."""
        names: set[str] = set()

        class Uses(cst.CSTVisitor):
            def visit_Attribute(visitor, node: Any) -> None:
                if isinstance(node.value, cst.Name) and self.site("attribute", node).parameters:
                    names.add(node.value.value)

            def visit_Call(visitor, node: Any) -> None:
                parameters = self.site("call", node).parameters
                for position, argument in enumerate(node.args):
                    key = argument.keyword.value if argument.keyword else position
                    if isinstance(argument.value, cst.Name) and key in parameters:
                        names.add(argument.value.value)

        self.root.visit(Uses())
        return names

    # Names.

    def _is_word(self, node: cst.Name) -> bool:
        """Whether a name is an attribute's or a keyword's."""
        parent = self.reads.parent(node)
        is_attribute = isinstance(parent, cst.Attribute) and parent.attr is node
        return is_attribute or (isinstance(parent, cst.Arg) and parent.keyword is node)

    def value(self, value: Any, original: Any, updated: Any) -> Any:
        if value is torch.nn.Buffer:
            return ex.parse("nn.Buffer")
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and is_torchs(value) and twin(value) is None:
            public = public_subclasses(value)
            if public:
                return ex.parse(f"({', '.join(f'nn.{each.__name__}' for each in public)})")
        if path := utility(value):
            return ex.parse(path)
        if initialiser(value) or getattr(torch.nn.init, "calculate_gain", None) is value:
            return ex.parse(f"nn.init.{value.__name__.removesuffix('_')}")
        return super().value(value, original, updated)

    def reference(self, value: Any, original: Any) -> Any:
        if isinstance(original, cst.Attribute):
            base = self.scope.static(original.value)
            home, text = getattr(base, "__name__", self.home), original.attr.value
        else:
            home, text = self.home, original.value
        if isinstance(original, cst.Name) and text in self.scope.imported:
            home = getattr(value, "__module__", home)
        return cst.Name(self.references.reference(value, text, home))

    def _static_attribute(self, value: Any, original: Any, updated: Any) -> Any:
        base = self.scope.static(original.value)
        if isinstance(base, type) and not is_torchs(base):
            return updated
        root: Any = original
        while isinstance(root, cst.Attribute):
            root = root.value
        module = self.scope.lookup(root.value)
        if isinstance(module, types.ModuleType) and is_library(module):
            self.references.use_module(root.value, module)
            return updated
        return self.value(value, original, updated)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> Any:
        if original_node.value in self._renamed and not self._is_word(original_node):
            return updated_node.with_changes(value=f"{original_node.value}_")
        if self.builds and original_node.value in self.variable_names and id(original_node) not in self._plain_names:
            return self._variable(original_node, updated_node)
        return super().leave_Name(original_node, updated_node)

    # Annotations.

    def visit_Annotation(self, node: cst.Annotation) -> bool:
        return False

    def leave_Annotation(self, original_node: cst.Annotation, updated_node: cst.Annotation) -> Any:
        new = annotation(original_node.annotation, self.scope.static, self._annotated)
        return updated_node if new is None else updated_node.with_changes(annotation=new)

    def _annotated(self, value: Any, node: Any) -> Any:
        if not self.references.is_annotation(value):
            return None
        return self.reference(value, node)

    def leave_Param(self, original_node: cst.Param, updated_node: cst.Param) -> Any:
        return updated_node.with_changes(annotation=self._kept(original_node.annotation, updated_node.annotation))

    def _kept(self, original: Any, updated: Any) -> Any:
        """The annotation, if all its names mean something in the written file."""
        if original is None or annotation(original.annotation, self.scope.static, self._annotated) is None:
            return None
        return updated

    def leave_AnnAssign(self, original_node: Any, updated_node: Any) -> Any:
        if self._kept(original_node.annotation, updated_node.annotation) is not None:
            return updated_node
        if updated_node.value is None:
            return cst.RemoveFromParent()
        return cst.Assign([cst.AssignTarget(updated_node.target)], updated_node.value)

    # Definitions.

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        updated_node = updated_node.with_changes(returns=self._kept(original_node.returns, updated_node.returns))
        if original_node is not self.root:
            return updated_node
        name = updated_node.name
        if name.value == "forward" and self.module_class is not None:
            name = cst.Name("__call__")
        decorators = [d for d in updated_node.decorators if self._stays(d)]
        updated_node = updated_node.with_changes(name=name, decorators=decorators)
        if self.takes_rngs or (self.draws and self.module_class is None):
            kind = "nnx.Rngs" if self.takes_rngs else "nnx.RngStream"
            updated_node = updated_node.with_changes(params=with_rngs(updated_node.params, kind))
        if self.builds and self.module_class is not None and name.value == "__init__":
            updated_node = self._with_stream(updated_node)
        return updated_node

    def _with_stream(self, node: Any) -> Any:
        if not self.references.needs.keeps_stream(self.module_class):  # type: ignore[arg-type]
            return node
        line = cst.parse_statement("self.rngs = rngs.dropout.fork()\n")
        return node.with_changes(body=node.body.with_changes(body=[*node.body.body, line]))

    def _stays(self, decorator: Any) -> bool:
        node = decorator.decorator
        path = ex.code(node)
        if path in ("property", "staticmethod", "classmethod") or path.endswith((".setter", ".getter", ".deleter")):
            return True
        value = self.scope.static(node.func if isinstance(node, cst.Call) else node)
        return value in (functools.lru_cache, functools.cache, functools.cached_property)

    # Statements.

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        left = super().leave_SimpleStatementLine(original_node, updated_node)
        if left is cst.RemoveFromParent():
            self._comments += [line for line in updated_node.leading_lines if line.comment]
            return left
        if not self._comments:
            return left
        comments, self._comments = self._comments, []
        if isinstance(left, cst.FlattenSentinel):
            first, *rest = left
            return cst.FlattenSentinel([first.with_changes(leading_lines=[*comments, *first.leading_lines]), *rest])
        return left.with_changes(leading_lines=[*comments, *left.leading_lines])

    # Functions that the constructor stores.

    def visit_Lambda(self, node: Any) -> bool:
        if self._is_stored(node):
            self.builds = False  # what it does happens when the model is called
        return True

    def leave_Lambda(self, original_node: Any, updated_node: Any) -> Any:
        if self._is_stored(original_node):
            self.builds = True
        return updated_node

    def _is_stored(self, node: Any) -> bool:
        parent = self.reads.parent(node)
        is_attribute = isinstance(parent, cst.Assign) and isinstance(parent.targets[0].target, cst.Attribute)
        return is_attribute and self.recorded.source.name == "__init__" and self.module_class is not None

    def leave_Assign(self, original_node: Any, updated_node: Any) -> Any:
        updated_node = super().leave_Assign(original_node, updated_node)
        if isinstance(original_node.value, cst.Lambda) and self._is_stored(original_node.value):
            held = held_names(original_node.value, self.scope.locals)
            paths = {name: self_path(self.root, name) for name in held}
            target = original_node.targets[0].target
            if ex.code(target.value) == "self" and None not in paths.values() and self._is_stored_once(target):
                self.methods.append(as_method(updated_node.value, target.attr.value, paths))
                self.statements[id(original_node)] = []
            elif held:
                closure = self.references.reference(Closure, "Closure", Closure.__module__)
                return updated_node.with_changes(value=as_closure(closure, updated_node.value, sorted(held)))
        return updated_node

    def _is_stored_once(self, target: Any) -> bool:
        text = ex.code(target)
        return sum(ex.code(each) == text for each in assigned_targets(self.root)) == 1

    # Code that did not run.

    def is_unreached(self, what: str, node: Any) -> bool:
        try:
            site = self.recorded.sites.get((what, self.tree.span(node)))
        except KeyError:
            return False
        if site is None or site.hits or self._is_in_unreached_block(node):
            return False
        return not (self.builds and self.unmet.is_static_expression(node))

    def follows_unreached(self, statements: Sequence[Any]) -> bool:
        return self.unmet.is_static(cst.IndentedBlock(statements))

    def not_recorded(self, statements: Sequence[Any]) -> Any:
        return stand_in(statements)

    def visit_IndentedBlock(self, node: Any) -> bool:
        return super().visit_IndentedBlock(node) or self.unmet.is_static(node)

    visit_SimpleStatementSuite = visit_IndentedBlock

    def _leave_block(self, original_node: Any, updated_node: Any) -> Any:
        is_definition = isinstance(self.reads.parent(original_node), (cst.FunctionDef, cst.ClassDef))
        if is_definition or self._ran(original_node):
            return super()._leave_block(original_node, updated_node)
        if not self.unmet.is_static(original_node):
            return cst.IndentedBlock([self.not_recorded([original_node])])
        if isinstance(original_node, cst.SimpleStatementSuite):
            return updated_node.with_changes(body=self.small_statements(original_node))
        return updated_node

    leave_IndentedBlock = leave_SimpleStatementSuite = _leave_block

    # Variables.

    def _read_variable(self, site: Site, original: Any, updated: Any) -> Any:
        if self.builds:
            return self._variable(original, updated)
        return super()._read_variable(site, original, updated)

    def _variable(self, original: Any, updated: Any) -> Any:
        """A parameter or buffer that is read while the model is built: itself, unless it is computed with."""
        parent = self.reads.parent(original)
        if isinstance(parent, cst.Attribute):
            call = self.reads.parent(parent)
            is_method = isinstance(call, cst.Call) and call.func is parent
            own = ("requires_grad", "requires_grad_", "data", "shape", "dtype", "ndim")
            return updated if parent.attr.value in own or not is_method else ex.subscript(updated, "...")
        if isinstance(parent, (cst.BinaryOperation, cst.UnaryOperation)) and not isinstance(
            getattr(parent, "operator", None), cst.Not
        ):
            return ex.subscript(updated, "...")
        if isinstance(parent, cst.Subscript) and parent.value is original:
            return ex.subscript(updated, "...")
        if isinstance(parent, cst.Arg):
            call = self.reads.parent(parent)
            callee = self.scope.static(call.func) if isinstance(call, cst.Call) else MISSING
            if callee is torch.nn.Parameter or (callee is not MISSING and is_operator(callee)):
                return updated if initialiser(callee) or utility(callee) else ex.subscript(updated, "...")
        return updated

    def _data(self, original: Any, updated: Any) -> Any:
        if not self.builds:
            return super()._data(original, updated)
        base = updated.value
        is_variable = "variable" in self.site("attribute", original.value).results
        if isinstance(original.value, cst.Name) and original.value.value in self.variable_names:
            is_variable = True
        return ex.subscript(base, "...") if is_variable else base

    def target_text(self, root: Any) -> str:
        is_name = isinstance(root, cst.Name) and root.value in self.variable_names
        return f"{root.value}[...]" if is_name else super().target_text(root)

    def rebound(self, site: Site, original: Any, result: Any) -> Any:
        if self.builds and site.mutated <= site.parameters and not self._plain_aliases(site, original):
            callees = [self.references.space.recorded(getattr(c, "__func__", c)) for c in site.callees]
            if not site.mutated or (callees and None not in callees):
                return result  # variables change in place here, too
        return super().rebound(site, original, result)

    def _plain_aliases(self, site: Site, original: Any) -> list[str]:
        """The names of what was changed that are no variables, and are read later."""
        names = [name for name in site.aliases() if "." not in name and name not in self.variable_names]
        return [name for name in names if self.reads.is_live(name, original)]

    def store(self, site: Site, target: Any, value: Any, original: Any, method: str = "") -> list[Any]:
        if self.builds:
            target = self._without_data(target)
            is_variable = self.target_text(self.base(target)).endswith("[...]")
            if is_variable and not self._plain_aliases(site, original):
                return self._assign(target, value, original, method)
        return super().store(site, target, value, original, method)

    def _without_gradient_of_change(self, base: Any, read: Any, whole: Any) -> Any:
        return whole if self.builds else super()._without_gradient_of_change(base, read, whole)

    def _without_data(self, target: Any) -> Any:
        """What ``x.data`` is of."""
        while isinstance(target, cst.Attribute) and target.attr.value == "data" and self.is_tensor(target):
            target = target.value
        return target

    def _assign(self, target: Any, value: Any, original: Any, method: str) -> list[Any]:
        if self.builds and isinstance(target, cst.Subscript):
            base = self._without_data(target.value)
            if base is not target.value and self.base(base) is base:
                text = self.target_text(base)
                index = self._translated(target).slice
                read = ex.parse(text) if text.endswith("[...]") else self._translated(base)
                return [cst.Assign([cst.AssignTarget(ex.parse(text))], self._at(read, index, value, method, original))]
        return super()._assign(target, value, original, method)

    def _store_attribute(self, site: Site, target: Any, original: Any, updated: Any) -> list[Any]:
        if self.builds and target.attr.value == "requires_grad":
            return [updated]
        return super()._store_attribute(site, target, original, updated)

    # Calls.

    def key(self, training: str | None) -> str:
        return "rngs.params()" if self.builds else super().key(training)

    def operator(self, name: str, arguments: Sequence[Any], original: Any, updated: Any, site: Site) -> Any:
        passed_on = pass_through(name) if any(a.star == "*" for a in arguments) else None
        if passed_on is not None:
            return updated.with_changes(func=ex.parse(passed_on), args=list(arguments))
        new = super().operator(name, arguments, original, updated, site)
        if name == "torch.rand" and self.builds and "complex" in ex.code(new):
            return new.with_changes(func=ex.parse("nn.init.uniform"))  # draws both parts
        return new

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        function = original_node.func
        if isinstance(function, cst.Name) and function.value == "super":
            return updated_node.with_changes(args=[])
        if not self.builds:
            return super().leave_Call(original_node, updated_node)
        site = self.site("call", original_node)
        if site.callees and all(self._is_nothing(callee, site) for callee in site.callees):
            return cst.Name("None")
        special = self._building_call(site, original_node, updated_node)
        return super().leave_Call(original_node, updated_node) if special is None else special

    def _is_nothing(self, callee: Any, site: Site) -> bool:
        """Whether a call does nothing for a Flax model: the base's constructor, a log, a choice of no weights."""
        if _is_empty_constructor(callee):
            return True
        recorded = self.references.space.recorded(callee)
        inner = [c for (what, _), s in recorded.sites.items() if what == "call" for c in s.callees] if recorded else []
        if any(getattr(c, "__name__", "") == "_log_api_usage_once" and is_torchs(c) for c in inner):
            return True
        return site.results == {"none"} and isinstance(getattr(callee, "__self__", None), enum.EnumMeta)

    def _registered(self, original: Any, updated: Any) -> bool:
        """Whether ``self.register_buffer("name", value)`` became an assignment of a Buffer."""
        arguments = list(updated.args)
        is_statement = (
            isinstance(self.reads.parent(original), cst.Expr) and ex.code(original.func) == "self.register_buffer"
        )
        names = [a.keyword.value if a.keyword else None for a in arguments]
        if not is_statement or len(arguments) < 2 or names[:2] != [None, None] or {*names[2:]} - {None, "persistent"}:
            return False
        name, value = arguments[0].value, arguments[1].value
        literal = name.raw_value if isinstance(name, cst.SimpleString) else ""
        if not literal.isidentifier() or self.site("call", original).kinds.get(1) != "Tensor":
            return False
        persistent = [keyword("persistent", a.value) for a in arguments[2:]]
        call = cst.Call(ex.parse("nn.Buffer"), [cst.Arg(value), *persistent])
        assignment = cst.Assign([cst.AssignTarget(ex.parse(f"self.{literal}"))], call)
        self.statements[id(self.reads.parent(original))] = [assignment]
        return True

    def _building_call(self, site: Site, original: Any, updated: Any) -> Any:
        if self._registered(original, updated):
            return updated
        callee = self.scope.static(original.func)
        if initialiser(callee):
            value = self._initialised(initialiser(callee), original, updated)
            if site.hits:
                return self.rebound(site, original, value)
            target = ex.parse(f"{ex.code(_bare(updated.args[0].value))}[...]")
            self.statements[id(self.reads.parent(original))] = [cst.Assign([cst.AssignTarget(target)], value)]
            return updated
        if callee is torch.nn.init.calculate_gain:
            return updated.with_changes(func=ex.parse("nn.init.calculate_gain"))
        if callee in (torch.Tensor, torch.FloatTensor) and "Tensor" not in site.kinds.values():
            numbers = site.kinds and set(site.kinds.values()) == {"int"}
            sizes = cst.Tuple([cst.Element(a.value) for a in updated.args])
            template = "jnp.empty(size, jnp.float32)" if numbers else "jnp.array(x, jnp.float32)"
            return ex.fill(template, {"size": ex.parenthesized(sizes), "x": updated.args[0].value})
        if callee is copy.deepcopy and set(site.arguments) == {("module",)}:
            return updated.with_changes(func=ex.parse("nnx.clone"))
        if path := utility(callee):
            return self._with_rngs([callee], updated.with_changes(func=ex.parse(path)))
        if isinstance(original.func, cst.Attribute) and self.is_tensor(original.func):
            name = original.func.attr.value
            if name in _READS:
                return ex.fill(_READS[name], {"x": updated.func.value})
            if name == "requires_grad_":
                return updated
        return None

    def _initialised(self, name: str | None, original: Any, updated: Any) -> Any:
        """``nn.init.f_(x, ...)`` as an expression for the new value."""
        arguments = {a.keyword.value: a for a in updated.args if a.keyword}
        positional = [a for a in updated.args if not a.keyword]
        tensor = (arguments.pop("tensor", None) or positional.pop(0)).value
        arguments.pop("generator", None)
        site = self.site("call", original)
        is_parameter = not site.hits or bool(site.parameters & {0, "tensor"})
        value = ex.subscript(_bare(tensor), "...") if is_parameter else tensor
        if name in _FILLED:
            return ex.fill(_FILLED[name], {"x": value})
        names = INITIALISER_ARGUMENTS.get(str(name), ())
        values = {
            **dict(zip(names, (a.value for a in positional), strict=False)),
            **{k: a.value for k, a in arguments.items()},
        }
        if name == "constant":
            return ex.fill("jnp.full_like(x, v)", {"x": value, "v": values["val"]})
        key = "rngs.params()" if self.references.needs.of(self.scope.static(original.func)) else "None"
        call = ex.fill(f"nn.init.{name}({key}, x.shape, x.dtype)", {"x": _bare(tensor)})
        return call.with_changes(args=[*call.args, *[keyword(k, v) for k, v in values.items()]])

    def _other_call(self, site: Site, callee: Any, original: Any, updated: Any) -> Any:
        if not self.builds:
            return super()._other_call(site, callee, original, updated)
        if callee in (getattr, setattr):
            return updated
        callees = site.callees or ([callee] if callee is not MISSING else self.unmet.callees(original))
        updated = self._with_passed(site, callees, updated)
        return self._with_rngs(callees, updated)

    def _with_passed(self, site: Site, callees: Sequence[Any], updated: Any) -> Any:
        """Functions that are passed to ``apply`` or ``map`` get ``rngs`` by a partial."""
        if not any(getattr(c, "__func__", c) in _CALLS_ARGUMENT for c in callees):
            return updated
        arguments = list(updated.args)
        for key, value in site.passed.items():
            if isinstance(key, int) and self.references.needs.of(value):
                self.references.use_module("functools", functools)
                bound = ex.fill("functools.partial(f, rngs=rngs)", {"f": arguments[key].value})
                arguments[key] = arguments[key].with_changes(value=bound)
        return updated.with_changes(args=arguments)

    def _with_rngs(self, callees: Sequence[Any], updated: Any) -> Any:
        needs = [self.references.needs.of(callee) for callee in callees]
        if not any(needs):
            return updated
        added = appended(updated, keyword("rngs", cst.Name("rngs")))
        if all(needs):
            return added
        helper = cst.Name(self.references.use_helper("_make"))
        return added.with_changes(func=helper, args=[cst.Arg(updated.func, comma=_COMMA), *added.args])

    def check_test(self, test: Any) -> None:
        if not self.builds:
            super().check_test(test)


RESERVED = frozenset({*MODULES, "rngs"})


def _count(function: types.FunctionType) -> int:
    code = function.__code__
    return code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)


_COMMA = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))

# Their arguments after the tensor, in torch's order.
INITIALISER_ARGUMENTS = {
    "normal": ("mean", "std"), "uniform": ("a", "b"), "trunc_normal": ("mean", "std", "a", "b"), "constant": ("val",),
    "orthogonal": ("gain",), "sparse": ("sparsity", "std"), "dirac": ("groups",), "xavier_normal": ("gain",),
    "xavier_uniform": ("gain",), "kaiming_normal": ("a", "mode", "nonlinearity"),
    "kaiming_uniform": ("a", "mode", "nonlinearity"),
}  # fmt: skip


def pass_through(name: str) -> str | None:
    """The function that takes the arguments of one of torch's as they are."""
    for row in operators.find(name):
        template = row.plain
        if (
            isinstance(template, ast.Call)
            and [ast.unparse(a) for a in template.args] == ["..."]
            and not template.keywords
        ):
            return ast.unparse(template.func)
    return None


def public_subclasses(kind: type) -> list[type]:
    """The public classes of ``torch.nn`` that a private base stands for."""
    if kind is torch.nn.Module:
        return []
    known = [v for n, v in vars(torch.nn).items() if isinstance(v, type) and issubclass(v, kind) and v.__name__ == n]
    return [each for each in known if twin(each) is not None]


def keyword(name: str, value: Any) -> Any:
    """An argument ``name=value``."""
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    return cst.Arg(value, keyword=cst.Name(name), equal=equal)


def appended(call: Any, argument: Any) -> Any:
    """The call with one more argument, laid out as the others."""
    arguments = list(call.args)
    if not arguments:
        return call.with_changes(args=[argument])
    last, between = arguments[-1], _COMMA
    if len(arguments) > 1 and isinstance(arguments[-2].comma, cst.Comma):
        between = arguments[-2].comma
    elif isinstance(call.whitespace_before_args, cst.ParenthesizedWhitespace):
        between = cst.Comma(whitespace_after=call.whitespace_before_args)
    arguments[-1] = last.with_changes(comma=between, whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(
        args=[*arguments, argument.with_changes(comma=last.comma, whitespace_after_arg=last.whitespace_after_arg)]
    )


def with_rngs(params: Any, kind: str) -> Any:
    """The parameters, and ``rngs`` as a keyword."""
    added: Any = cst.Param(cst.Name("rngs"), cst.Annotation(ex.parse(kind)))
    if not isinstance(params.star_arg, cst.MaybeSentinel) or params.kwonly_params:
        star = params.star_arg
    else:
        star = cst.ParamStar()
    positional = [p.with_changes(comma=cst.MaybeSentinel.DEFAULT) for p in params.params]
    others = [p.with_changes(comma=cst.MaybeSentinel.DEFAULT) for p in params.kwonly_params]
    if isinstance(star, (cst.ParamStar, cst.Param)):
        star = star.with_changes(comma=_COMMA if isinstance(star, cst.ParamStar) else cst.MaybeSentinel.DEFAULT)
    return params.with_changes(params=positional, star_arg=star, kwonly_params=[*others, added])


def annotation(node: Any, static: Any, refer: Any) -> Any:
    """An annotation in terms of JAX; None if a name in it means nothing there."""
    if isinstance(node, cst.SimpleString):
        try:
            inner = annotation(cst.parse_expression(node.raw_value), static, refer)
        except cst.ParserSyntaxError:
            return None
        return None if inner is None else cst.SimpleString(repr(ex.code(inner)).replace("'", '"'))
    translated = _Annotation(static, refer)
    new = node.visit(translated)
    return None if translated.failed else new


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


def _bare(tensor: Any) -> Any:
    return tensor.value if isinstance(tensor, cst.Subscript) and ex.code(tensor).endswith("[...]") else tensor


def _is_empty_constructor(callee: Any) -> bool:
    function = getattr(callee, "__func__", callee)
    is_objects = type(callee).__name__ == "method-wrapper" and callee.__name__ == "__init__"
    return is_objects or function is torch.nn.Module.__init__


def translate_function(
    recorded: RecordedFunction,
    function: types.FunctionType,
    references: References,
    module_class: type | None,
    builds: bool,
) -> tuple[Any, SourceTranslator]:
    """The translated tree of a function that ran, and its translator."""
    translator = SourceTranslator(recorded, function, references, module_class, builds)
    node: Any = recorded.source.tree.node.visit(translator)
    translator.check_names(node)
    node = without_unused(node.visit(Simplifier()), recorded.source.tree.node)
    return ex.with_parentheses(node), translator
