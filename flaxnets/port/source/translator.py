"""Translate functions for written source: keep comments, docstrings and annotations, and pass ``rngs``."""

import enum
import functools
import types
from collections.abc import Sequence
from typing import Any, Protocol

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.closures import Closure
from flaxnets.port.names import is_library, is_operator, is_torchs
from flaxnets.port.scope import MISSING
from flaxnets.port.sites import RecordedFunction, Site
from flaxnets.port.source.annotations import annotation
from flaxnets.port.source.calls import COMMA, BuildingCalls, keyword, pass_through
from flaxnets.port.source.constants import Constants, in_numpy
from flaxnets.port.source.needs import Needs, initialiser, twin, utility
from flaxnets.port.source.stored import as_closure, as_method, assigned_targets, held_names, read_names, self_path
from flaxnets.port.source.sums import as_array, begins_sum
from flaxnets.port.source.tidying import Simplifier, without_unused
from flaxnets.port.source.unreached import Unreached, stand_in
from flaxnets.port.translation import MODULES, Translator


class References(Protocol):
    """The definitions and imports of the written file."""

    needs: Needs
    recorder: Any
    space: Any

    def reference(self, value: Any, name: str, module: str) -> str:
        """Return the name of a user's object in the written file."""
        ...

    def use_module(self, name: str, module: types.ModuleType) -> None:
        """Record that the written file imports a library under a name."""
        ...

    def use_helper(self, name: str) -> str:
        """Record that the written file contains a helper function, and return its name."""
        ...

    def is_annotation(self, value: Any) -> bool:
        """Whether an annotation of the written file can name an object."""
        ...

    def draws(self, function: Any) -> bool:
        """Whether a function draws random numbers when the model is called."""
        ...

    def decorator(self, function: types.FunctionType, node: Any) -> Any:
        """Return a decorator as the written file has it; None if the written file drops the decorator."""
        ...

    def takes_rngs(self, function: Any) -> bool:
        """Whether a function has a parameter ``rngs`` when the model is called."""
        ...


class SourceTranslator(BuildingCalls, Translator):
    """Rewrite the tree of one function for a readable file."""

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
        self.methods: list[Any] = []  # methods made from the functions that the constructor stores
        self.constants = Constants(self) if builds else ()
        if builds:
            self.variable_names |= self._parameter_names()

    def _parameter_names(self) -> set[str]:
        """Return the local names that referred to parameters."""
        names: set[str] = set()
        site = self.site

        class Uses(cst.CSTVisitor):
            def visit_Attribute(self, node: Any) -> None:
                if isinstance(node.value, cst.Name) and site("attribute", node).parameters:
                    names.add(node.value.value)

            def visit_Call(self, node: Any) -> None:
                parameters = site("call", node).parameters
                for position, argument in enumerate(node.args):
                    key = argument.keyword.value if argument.keyword else position
                    if isinstance(argument.value, cst.Name) and key in parameters:
                        names.add(argument.value.value)

        self.root.visit(Uses())
        return names

    # Names.

    def _is_word(self, node: cst.Name) -> bool:
        """Whether a name is the name of an attribute or of a keyword argument."""
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
        base = self.scope.static(node.value) if isinstance(node, cst.Attribute) else None
        if isinstance(base, type):  # the class defines the object
            return node.with_changes(value=self.reference(base, node.value))
        return self.reference(value, node) if self.references.is_annotation(value) else None

    def leave_Param(self, original_node: cst.Param, updated_node: cst.Param) -> Any:
        if self.builds and original_node.annotation and original_node.name.value in self.variable_names:
            annotated = original_node.annotation.with_changes(annotation=ex.parse("nnx.Variable"))
            return updated_node.with_changes(annotation=annotated)
        return updated_node.with_changes(annotation=self._kept(original_node.annotation, updated_node.annotation))

    def _kept(self, original: Any, updated: Any) -> Any:
        """Return the annotation if all its names exist in the written file, else None."""
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

    def leave_ClassDef(self, original_node: Any, updated_node: Any) -> Any:
        bases = [self.scope.static(argument.value) for argument in original_node.bases]
        if any(isinstance(base, type) and issubclass(base, torch.nn.Module) for base in bases):
            cause = f"The class {original_node.name.value} of modules is defined inside of a function."
            self.refuse(original_node.name, cause, "define it at the top of the file; from_torch follows it as it is.")
        return updated_node

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        updated_node = updated_node.with_changes(returns=self._kept(original_node.returns, updated_node.returns))
        if original_node is not self.root:
            return updated_node
        name = updated_node.name
        if name.value == "forward" and self.module_class is not None:
            name = cst.Name("__call__")
        decorators = [new for d in updated_node.decorators if (new := self._decorator(d)) is not None]
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

    def _decorator(self, decorator: Any) -> Any:
        if not self._stays(decorator):
            return self.references.decorator(self.scope.function, decorator)
        node = decorator.decorator.func if isinstance(decorator.decorator, cst.Call) else decorator.decorator
        value = self.scope.static(node)
        if value is functools.cached_property and self.recorded.touches_tensors():
            return decorator.with_changes(decorator=cst.Name("property"))  # a compiled program keeps no tensors
        if isinstance(value, types.FunctionType) or value is functools.cached_property:  # of functools
            is_path = isinstance(node, cst.Attribute)
            self._static_attribute(value, node, node) if is_path else self.reference(value, node)
        return decorator

    def _stays(self, decorator: Any) -> bool:
        node = decorator.decorator
        path = ex.code(node)
        if path in ("property", "staticmethod", "classmethod") or path.endswith((".setter", ".getter", ".deleter")):
            return True
        value = self.scope.static(node.func if isinstance(node, cst.Call) else node)
        if value in (functools.lru_cache, functools.cache):
            return not self.recorded.touches_tensors()  # a compiled program computes tensors in each call
        return value is functools.cached_property

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
            self.builds = False  # the lambda runs when the model is called
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
        if not self.builds and begins_sum(self, original_node):
            return updated_node.with_changes(value=as_array(updated_node.value))
        if isinstance(original_node.value, cst.Lambda) and self._is_stored(original_node.value):
            names = held_names(original_node.value, self.scope.locals)
            paths = {name: self_path(self.root, name) for name in names}
            target = original_node.targets[0].target
            if ex.code(target.value) == "self" and None not in paths.values() and self._is_stored_once(target):
                self.methods.append(as_method(updated_node.value, target.attr.value, paths))
                self.statements[id(original_node)] = []
            elif names:
                closure = self.references.reference(Closure, "Closure", Closure.__module__)
                return updated_node.with_changes(value=as_closure(closure, updated_node.value, sorted(names)))
        target = original_node.targets[0].target
        is_own = self.builds and isinstance(target, cst.Attribute) and ex.code(target.value) == "self"
        if is_own and self.references.recorder.holds_state(self.module_class, target.attr.value):
            return updated_node.with_changes(value=ex.fill("nnx.data(x)", {"x": updated_node.value}))
        return updated_node

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        left = super().on_leave(original_node, updated_node)
        if original_node in self.constants:
            return in_numpy(left)
        if self.builds and self._is_stored_function(original_node):
            closure = self.references.reference(Closure, "Closure", Closure.__module__)
            return as_closure(closure, left, sorted(read_names(original_node, self.scope.locals), key=_self_first))
        return left

    def _is_stored_function(self, node: Any) -> bool:
        """Whether an attribute stores an expression that is a bound method, or a partial of parameters or modules."""
        if isinstance(node, cst.Attribute):
            site = self.site("attribute", node)
            if site.receivers != {"module"} or site.results != {"method"}:
                return False
        elif isinstance(node, cst.Call) and self.scope.static(node.func) is functools.partial:
            site = self.site("call", node)
            if not site.parameters and not any("module" in kinds for kinds in site.arguments):
                return False
        else:
            return False
        parent = self.reads.parent(node)
        while isinstance(parent, (cst.Element, cst.DictElement, cst.List, cst.Tuple, cst.Dict)):
            parent = self.reads.parent(parent)
        return isinstance(parent, cst.Assign) and isinstance(parent.targets[0].target, cst.Attribute)

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
        if what == "attribute" and self._is_option(node):
            return False
        return not (self.builds and self.unmet.is_static_expression(node))

    def _is_option(self, node: Any) -> bool:
        """Whether an expression reads an attribute of the module that is a number, a text or an enum member."""
        kind = self.module_class
        if kind is None or ex.code(node.value) != "self":
            return False
        owners = [vars(m) for m in self.references.recorder.model.modules() if isinstance(m, kind)]
        values = [owner.get(node.attr.value, MISSING) for owner in owners]
        return bool(values) and all(isinstance(each, (bool, int, float, str, enum.Enum)) for each in values)

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
        """Translate the read of a parameter or buffer in a constructor: ``x[...]`` in computations, else ``x``."""
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

    def rebound(self, site: Site, original: Any, result: Any) -> Any:
        if self.builds and site.mutated <= site.parameters and not self._plain_aliases(site, original):
            callees = [self.references.space.recorded(getattr(c, "__func__", c)) for c in site.callees]
            if not site.mutated or (callees and None not in callees):
                return result  # a variable of Flax also changes in place
        return super().rebound(site, original, result)

    def _plain_aliases(self, site: Site, original: Any) -> list[str]:
        """Return the names of the changed tensor that are not variables and are read later."""
        names = [name for name in site.aliases() if "." not in name and name not in self.variable_names]
        return [name for name in names if self.reads.is_live(name, original)]

    def store(self, site: Site, target: Any, value: Any, original: Any, method: str = "") -> list[Any]:
        if self.builds:
            target = self.without_cut(target)
            if "computed" in self.site("attribute", self.base(target)).results:
                return []  # torch computes the weight of weight_norm again before each use
            is_variable = self.target_text(self.base(target)).endswith("[...]")
            if is_variable and not self._plain_aliases(site, original):
                return self._assign(target, value, original, method)
        return super().store(site, target, value, original, method)

    # Constructors are not differentiated.

    def _stops_gradients(self, node: Any) -> bool:
        return not self.builds and super()._stops_gradients(node)

    def _is_without_gradients(self, decorator: Any) -> bool:
        return not self.builds and super()._is_without_gradients(decorator)

    def is_cut(self, target: Any) -> bool:
        return not self.builds and super().is_cut(target)

    def base(self, target: Any) -> Any:
        return super().base(self.without_cut(target) if self.builds else target)

    def _assign(self, target: Any, value: Any, original: Any, method: str) -> list[Any]:
        if self.builds and isinstance(target, cst.Subscript):
            base = self.without_cut(target.value)
            if base is not target.value and self.base(base) is base:
                text = self.target_text(base)
                index = self._translated(target).slice
                read = ex.parse(text) if text.endswith("[...]") else self._translated(base)
                return [cst.Assign([cst.AssignTarget(ex.parse(text))], self._at(read, index, value, method, original))]
        return super()._assign(target, value, original, method)

    def _store_attribute(self, site: Site, target: Any, original: Any, updated: Any) -> list[Any]:
        is_variable = "variable" in self.site("attribute", target.value).results
        is_name = isinstance(target.value, cst.Name) and target.value.value in self.variable_names
        if self.builds and target.attr.value == "requires_grad":
            return [updated]
        if self.builds and (is_variable or is_name) and not hasattr(torch.Tensor, target.attr.value):
            note = ex.method(updated.targets[0].target.value, "set_metadata")
            return [cst.Expr(note.with_changes(args=[keyword(target.attr.value, updated.value)]))]
        return super()._store_attribute(site, target, original, updated)

    # Calls.

    def key(self, training: str | None) -> str:
        return "rngs.params()" if self.builds else super().key(training)

    def operator(self, name: str, arguments: Sequence[Any], original: Any, updated: Any, site: Site) -> Any:
        passed_on = pass_through(name) if any(a.star == "*" for a in arguments) else None
        if passed_on is not None:
            return updated.with_changes(func=ex.parse(passed_on), args=list(arguments))
        new = super().operator(name, arguments, original, updated, site)
        if name in ("torch.randn", "torch.rand") and site.kinds == {0: "int"} and isinstance(new, cst.Call):
            return _with_tuple(new)
        if name == "torch.rand" and self.builds and "complex" in ex.code(new):
            return new.with_changes(func=ex.parse("nn.init.uniform"))  # draws the real and the imaginary part
        return new

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        function = original_node.func
        if isinstance(function, cst.Name) and function.value == "super":
            return updated_node.with_changes(args=[])
        if not self.builds:
            return super().leave_Call(original_node, updated_node)
        site = self.site("call", original_node)
        if site.callees and all(self.is_nothing(callee, site) for callee in site.callees):
            return cst.Name("None")
        special = self.building_call(site, original_node, updated_node)
        return super().leave_Call(original_node, updated_node) if special is None else special

    def check_test(self, test: Any) -> None:
        if not self.builds:
            super().check_test(test)


RESERVED = frozenset({*MODULES, "rngs"})


def _with_tuple(call: Any) -> Any:
    """Replace an integer size of a random draw by a tuple."""
    size = call.args[1] if len(call.args) > 1 else None
    if size is None or isinstance(size.value, cst.Tuple):
        return call
    shape = ex.parenthesized(cst.Tuple([cst.Element(size.value, comma=cst.Comma())]))
    return call.with_changes(args=[call.args[0], size.with_changes(value=shape), *call.args[2:]])


def _self_first(name: str) -> tuple[bool, str]:
    return name != "self", name


def _count(function: types.FunctionType) -> int:
    code = function.__code__
    return code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)


def public_subclasses(kind: type) -> list[type]:
    """Return the public subclasses in ``torch.nn`` of a private base class."""
    if kind is torch.nn.Module:
        return []
    known = [v for n, v in vars(torch.nn).items() if isinstance(v, type) and issubclass(v, kind) and v.__name__ == n]
    return [each for each in known if twin(each) is not None]


def with_rngs(params: Any, kind: str) -> Any:
    """Add the keyword parameter ``rngs`` to the parameters."""
    added: Any = cst.Param(cst.Name("rngs"), cst.Annotation(ex.parse(kind)))
    if not isinstance(params.star_arg, cst.MaybeSentinel) or params.kwonly_params:
        star = params.star_arg
    else:
        star = cst.ParamStar()
    positional = [p.with_changes(comma=cst.MaybeSentinel.DEFAULT) for p in params.params]
    others = [p.with_changes(comma=cst.MaybeSentinel.DEFAULT) for p in params.kwonly_params]
    if isinstance(star, (cst.ParamStar, cst.Param)):
        star = star.with_changes(comma=COMMA if isinstance(star, cst.ParamStar) else cst.MaybeSentinel.DEFAULT)
    return params.with_changes(params=positional, star_arg=star, kwonly_params=[*others, added])


def translate_function(
    recorded: RecordedFunction,
    function: types.FunctionType,
    references: References,
    module_class: type | None,
    builds: bool,
) -> tuple[Any, SourceTranslator]:
    """Translate a function that ran, and return its tree and its translator."""
    translator = SourceTranslator(recorded, function, references, module_class, builds)
    node: Any = recorded.source.tree.node.visit(translator)
    translator.check_names(node)
    node = without_unused(node.visit(Simplifier()), recorded.source.tree.node, translator.memos.values())
    return ex.with_parentheses(node), translator
