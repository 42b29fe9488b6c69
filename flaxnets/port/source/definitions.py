"""The definitions of a written file: the classes, functions and constants that a model needs, with their names."""

import ast
import dataclasses
import linecache
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.errors import Refusal
from flaxnets.port.names import free_name, is_torchs
from flaxnets.port.namespace import Namespace
from flaxnets.port.problems import unwrapped
from flaxnets.port.scope import MISSING, local_names
from flaxnets.port.sites import RecordedFunction
from flaxnets.port.source.annotations import annotation
from flaxnets.port.source.building import SourceRecorder
from flaxnets.port.source.decorating import layers, made_by
from flaxnets.port.source.files import SourceFile, defined_names, imported_from
from flaxnets.port.source.needs import Needs
from flaxnets.port.source.static import StaticTranslator, UnwritableError, literal, torch_text
from flaxnets.port.source.tidying import tidied
from flaxnets.port.source.translator import translate_function
from flaxnets.port.translation import MODULES
from flaxnets.port.wrappers import library_twin

RESERVED = frozenset({*MODULES, "build", "functools", "inspect", "Any", "Callable", "_make"})
Key = tuple[str, str]
STANDARD = {"Any": ("typing", "Any"), "Callable": ("collections.abc", "Callable")}  # imports of generated code


@dataclasses.dataclass
class Definition:
    """One class, function or constant of the written file.

    Attributes:
        key: The module of the original, and its name in the module.
        name: The name in the written file.
        position: The position of the original among the statements of its module.
        value: The original object.
        text: The source.
        brings: The names of definitions that a registry holds.
        refusals: The places of the original that cannot be translated.
    """

    key: Key
    name: str
    position: int
    value: Any
    text: str = ""
    brings: set[str] = dataclasses.field(default_factory=set)
    refusals: list[Refusal] = dataclasses.field(default_factory=list)

    def references(self, late_annotations: bool) -> tuple[set[str], set[str]]:
        """Return the names that must be defined before this definition, and all names that it uses."""
        tree = ast.parse(self.text)
        every = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return set(_early(tree, late_annotations)), every


def _early(node: ast.AST, late: bool) -> Iterator[str]:
    """Yield the names that Python looks up when the definition is executed, before any call."""
    if isinstance(node, ast.Name):
        yield node.id
        return
    for field, value in ast.iter_fields(node):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)) and field == "body":
            continue
        if late and field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _early(child, late)


class Definitions:
    """Collect and name the definitions that a model needs. Implements the protocol :class:`References`."""

    def __init__(self, recorder: SourceRecorder):
        self.recorder = recorder
        self.space = Namespace(recorder)
        self.needs = Needs(recorder, self.space)
        self.refusals: list[Refusal] = []
        self.modules: dict[str, types.ModuleType] = {}
        self.imports: dict[str, Key] = {}  # name in the written file: (module, name in the module)
        self.helpers: set[str] = set()
        self.found: dict[Key, Definition] = {}
        self.methods: list[Any] = []  # methods made from the functions that the last translated constructor stored
        self.at_import: set[int] = set()  # ids of functions that the written file calls at import time
        self._kept_decorators: dict[int, dict[str, Any]] = {}
        self._waiting: list[Definition] = []
        self._files: dict[str, SourceFile | None] = {}

    # The interface for translators.

    def use_module(self, name: str, module: types.ModuleType) -> None:
        """Record that the written file imports a library under a name."""
        if name not in MODULES:
            self.modules[name] = module

    def use_helper(self, name: str) -> str:
        """Record that the written file contains a helper function, and return its name."""
        self.helpers.add(name)
        return name

    def is_annotation(self, value: Any) -> bool:
        """Whether an annotation of the written file can name an object: it ran, or a library defines it."""
        is_users = isinstance(value, type) and self._is_users(value.__module__)
        return not is_users or value in self.recorder.classes or issubclass(value, torch.nn.Module)

    def draws(self, function: Any) -> bool:
        """Whether a function draws random numbers when the model is called."""
        return self.space.draws(function)

    def recorded(self, function: Any) -> RecordedFunction | None:
        """Return the record of a function; None if the function did not run."""
        return self.space.recorded(function)

    takes_rngs = draws

    def has_random_functions(self) -> bool:
        """Whether a function of the user draws random numbers when the model is called."""
        every = [f for recorded in self.recorder.recorded.values() if self.recorder.ran_in_call(recorded)
                 for f in recorded.functions]  # fmt: skip
        return any(self.draws(f) for f in every)

    def literal(self, value: Any) -> str:
        """Return an expression that creates an equal object."""
        return literal(value, self)

    def reference(self, value: Any, name: str, module: str) -> str:
        """Return the name of an object in the written file, and add its definition or import."""
        value = unwrapped(value)
        home = self._home(value, name, module)
        if home is None:
            return self._import(value, name, module)
        if home not in self.found:
            file = self.file(home[0])
            position = file.statements[home[1]][0] if file and home[1] in file.statements else 0
            definition = Definition(home, self.free_name(home[1].partition(" ")[0]), position, value)
            self.found[home] = definition
            self._waiting.append(definition)
        return self.found[home].name

    def free_name(self, hint: str) -> str:
        """Return an unused name of the written file."""
        return free_name(hint, {*RESERVED, *self.imports, *self.modules, *(d.name for d in self.found.values())})

    def file(self, module: str) -> SourceFile | None:
        """Return the source file of a loaded module; None if it has none."""
        if module not in self._files:
            try:
                self._files[module] = SourceFile(sys.modules[module]) if module in sys.modules else None
            except (OSError, TypeError, cst.ParserSyntaxError):
                self._files[module] = None
        return self._files[module]

    def _is_users(self, module: str) -> bool:
        path = getattr(sys.modules.get(module), "__file__", None)
        return path is not None and self.recorder.is_user_file(path) and self.file(module) is not None

    def _home(self, value: Any, name: str, module: str) -> Key | None:
        """Return the module and name where the user defines an object; None if a library defines it."""
        if isinstance(value, (type, types.FunctionType)):
            home, path = value.__module__, value.__qualname__
            if self._is_users(home):
                if unwrapped(getattr(sys.modules[home], path, MISSING)) is value:
                    return home, path
                if "<locals>" in path:
                    return home, f"{value.__name__} {id(value)}"
        while self._is_users(module):
            file = self.file(module)
            assert file is not None
            _, statement = file.statements.get(name, (0, None))
            source = imported_from(statement, name, file.module)
            if source is None:
                return module, name
            if not self._is_users(source[0]):
                return None
            module, name = source
        return None

    def _import(self, value: Any, name: str, module: str) -> str:
        """Import an object of a library in the same way as the user's file, and return its name."""
        source: Key = getattr(value, "__module__", module) or module, getattr(value, "__name__", name)
        while self._is_users(module):
            file = self.file(module)
            assert file is not None
            imported = imported_from(file.statements.get(name, (0, None))[1], name, file.module)
            if imported is None:
                break
            source = module, name = imported
        source = ("collections.abc", "Callable") if source == ("typing", "Callable") else source
        library = library_twin(value) if isinstance(value, type) else None
        source = (library.__module__, library.__name__) if library else source
        for bound, known in [*STANDARD.items(), *self.imports.items()]:
            if known == source:
                return bound
        if source[0].split(".")[0] in ("torch", "torchvision"):
            raise UnwritableError(f"{source[0]}.{source[1]} of torch has no counterpart")
        bound = self.free_name(name)
        self.imports[bound] = source
        return bound

    # Making the definitions.

    def complete(self) -> None:
        """Write all needed definitions, including those that other definitions need."""
        while self._waiting:
            definition, known = self._waiting.pop(0), len(self.refusals)
            try:
                definition.text = tidied(self._text(definition)).strip("\n") + "\n"
            except UnwritableError as error:
                self._refuse(definition, str(error))
                definition.text = f"{definition.name} = None\n"
            definition.refusals = self.refusals[known:]
            del self.refusals[known:]

    def _refuse(self, definition: Definition, cause: str) -> None:
        module, name = definition.key
        path = getattr(sys.modules.get(module), "__file__", module)
        self.refusals.append(Refusal(path, 0, name, f"{cause}.", "write it with supported operations."))

    def _text(self, definition: Definition) -> str:
        value, file = definition.value, self.file(definition.key[0])
        assert file is not None
        _, statement = file.statements.get(definition.key[1], (0, None))
        if isinstance(value, type) and isinstance(statement, cst.ClassDef):
            return ClassWriter(self, file, value, definition.name).text(statement)
        if isinstance(value, types.FunctionType):
            return self._function(value, definition.name, file, statement)
        if self._is_users(type(value).__module__):
            definition.brings = self._registered(value)
        return self._constant(value, definition.name, file, statement)

    def _function(self, value: Any, name: str, file: SourceFile, statement: Any) -> str:
        raw = self.undecorated(value, statement, file)
        recorded = self.space.recorded(raw)
        comments = _comments(statement) if isinstance(statement, cst.FunctionDef) else []
        if recorded is None or not self._ran(recorded):
            if id(value) in self.at_import and isinstance(statement, cst.FunctionDef):
                new: Any = statement.visit(StaticTranslator(file, self, local_names(raw)))
                return ex.code(new.with_changes(name=cst.Name(name), leading_lines=comments))
            return _not_recorded_function(name)
        node = self.translated(recorded, raw, None)
        if isinstance(node, cst.Lambda):
            node = lambda_function(node)
        return ex.code(node.with_changes(name=cst.Name(name), leading_lines=comments))

    def undecorated(self, value: Any, statement: Any, file: SourceFile) -> Any:
        """Return the function inside its decorators, and store the user's decorators that the written file keeps.

        A decorator of a function that only builds the model is dropped if it passes arguments and result on unchanged.
        """
        is_definition = isinstance(statement, cst.FunctionDef)
        *wrappers, raw = layers(value, statement.name.value if is_definition else "")
        recorded = self.space.recorded(raw)
        in_call = recorded is None or self.recorder.ran_in_call(recorded)
        user_wrappers = [w for w in wrappers if isinstance(w, types.FunctionType) and self.recorder.is_user_code(w)]
        rest = [w for w in user_wrappers if in_call or not self.recorder.passing.passes_on(w)]
        kept_decorators = {}
        for decorator in statement.decorators if is_definition and rest else ():
            node = decorator.decorator
            maker = file.static(node.func if isinstance(node, cst.Call) else node)
            made_wrappers = [w for w in rest if made_by(maker, w)]
            if made_wrappers:
                rest = [w for w in rest if w not in made_wrappers]
                self.at_import.add(id(maker))
                kept_decorators[ex.code(node)] = decorator.visit(StaticTranslator(file, self))
        self._kept_decorators[id(raw)] = kept_decorators
        if rest and recorded is not None and self._ran(recorded):
            path, line = raw.__code__.co_filename, raw.__code__.co_firstlineno
            cause = (
                f"{raw.__qualname__} is replaced by {rest[0].__code__.co_qualname}, which no decorator above it made."
            )
            fix = "decorate the function itself, or use flaxnets.from_torch, which supports this."
            self.refusals.append(Refusal(path, line, linecache.getline(path, line).strip(), cause, fix))
        return raw

    def decorator(self, function: types.FunctionType, node: Any) -> Any:
        """Return a decorator as the written file has it; None if the written file drops the decorator."""
        file = self.file(function.__module__)
        if file is not None and self.registers(node, file):
            return node.visit(StaticTranslator(file, self))
        return self._kept_decorators.get(id(function), {}).get(ex.code(node.decorator))

    def registers(self, decorator: Any, file: SourceFile) -> bool:
        """Whether a decorator is a method of a user's object, such as a registry."""
        node = decorator.decorator
        node = node.func if isinstance(node, cst.Call) else node
        owner = file.static(node.value) if isinstance(node, cst.Attribute) else MISSING
        return owner is not MISSING and not isinstance(owner, type) and self._is_users(type(owner).__module__)

    def _registered(self, value: Any) -> set[str]:
        """Return the names of the registry's classes and functions that ran."""
        tables = [value, *getattr(value, "__dict__", {}).values()]
        held = [each for table in tables if isinstance(table, Mapping) for each in table.values()]
        ran = [each for each in held if isinstance(each, type) and each in self.recorder.classes]
        for each in held:
            recorded = self.space.recorded(each) if isinstance(each, types.FunctionType) else None
            ran += [each] if recorded is not None and self._ran(recorded) else []
        return {self.reference(each, each.__name__, each.__module__) for each in ran}

    def _ran(self, recorded: RecordedFunction) -> bool:
        return self.recorder.ran_in_build(recorded) or self.recorder.ran_in_call(recorded)

    def recorded_functions(self, file: SourceFile, node: Any) -> list[RecordedFunction]:
        """Return the records of functions that ran and have the source of a lambda or inner function of a file."""
        path, text = getattr(file.module, "__file__", None), _plain_code(node)
        name = node.name.value if isinstance(node, cst.FunctionDef) else "<lambda>"
        every = (r for r in self.recorder.recorded.values() if r.source.path == path and r.source.name == name)
        return [r for r in every if r.functions and _plain_code(r.source.tree.node) == text and self._ran(r)]

    def translated(self, recorded: RecordedFunction, function: types.FunctionType, kind: type | None) -> Any:
        """Return the translated tree of a recorded function."""
        builds = not self.recorder.ran_in_call(recorded)
        node, translator = translate_function(recorded, function, self, kind, builds)  # type: ignore[arg-type]
        self.refusals += translator.refusals
        self.methods = translator.methods
        return node

    def _constant(self, value: Any, name: str, file: SourceFile, statement: Any) -> str:
        small = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
        if (
            isinstance(small, (cst.Assign, cst.AnnAssign))
            and small.value is not None
            and _is_unchanged(small.value, value)
        ):
            new: Any = small.value.visit(StaticTranslator(file, self))
            assigned = cst.Assign([cst.AssignTarget(cst.Name(name))], new)
            line = cst.SimpleStatementLine([assigned], _comments(statement), statement.trailing_whitespace)
            return ex.code(ex.with_parentheses(line))
        return f"{name} = {literal(value, self)}"


def _plain_code(node: Any) -> str:
    """Return the text of a function without its decorators and the lines above."""
    return ex.code(node.with_changes(leading_lines=[], decorators=[]) if isinstance(node, cst.FunctionDef) else node)


def _is_unchanged(node: Any, value: Any) -> bool:
    """Whether an expression still describes the object: no elements were added after its definition."""
    if isinstance(node, (cst.Dict, cst.List, cst.Set, cst.Tuple)) and isinstance(value, (dict, list, set, tuple)):
        is_spread = any(isinstance(e, (cst.StarredElement, cst.StarredDictElement)) for e in node.elements)
        return is_spread or len(node.elements) == len(value)
    return True


def _comments(statement: Any) -> list[Any]:
    """Return the comment lines directly above a statement."""
    lines = []
    for line in reversed(statement.leading_lines):
        if line.comment is None:
            break
        lines.insert(0, line)
    return lines


def _not_recorded_function(name: str) -> str:
    return (
        f"def {name}(*args: Any, **kwargs: Any) -> Any:\n"
        f'    """Stands for a function that the recorded model does not call."""\n'
        f'    raise NotImplementedError("{name} was not recorded")\n'
    )


def lambda_function(node: Any) -> Any:
    """Return a function definition with the parameters and the body of a lambda."""
    function: Any = cst.parse_statement("def function():\n    return 0\n")
    line = function.body.body[0].with_changes(body=[cst.Return(node.body)])
    body = function.body.with_changes(body=[line])
    return function.with_changes(params=node.params, body=body)


class ClassWriter:
    """Write one class of the user: its statements in their original order.

    Args:
        definitions: The definitions of the written file.
        file: The source file that defines the class.
        kind: The class.
        name: The name in the written file.
    """

    def __init__(self, definitions: Definitions, file: SourceFile, kind: type, name: str):
        self.definitions, self.file, self.kind, self.name = definitions, file, kind, name
        self.is_module = issubclass(kind, torch.nn.Module)
        self.left_out: list[str] = []

    def text(self, statement: Any) -> str:
        """Return the source of the class."""
        body = [new for each in self._body(statement) for new in self._statement(each)]
        self._refuse_attached(statement)
        methods = [each for each in body if isinstance(each, cst.FunctionDef)]
        if self.left_out and not methods and self.is_module and not self._is_used():
            return self._stand_in(statement, body)
        body += self._constructor(body)
        if not body:
            body = [cst.parse_statement("pass")]
        block = cst.IndentedBlock(body, footer=self._footer())
        new = statement.with_changes(
            name=cst.Name(self.name), body=block, leading_lines=_comments(statement), bases=self._bases(statement),
            keywords=[] if self.is_module else statement.keywords, lpar=cst.MaybeSentinel.DEFAULT,
            rpar=cst.MaybeSentinel.DEFAULT, decorators=self._decorators(statement),
        )  # fmt: skip
        return ex.code(new)

    def _refuse_attached(self, statement: Any) -> None:
        """Refuse functions that ran and were assigned to the class after its definition."""
        defined = {name for each in self._body(statement) for name in defined_names(each)}
        for name, value in vars(self.kind).items():
            recorded = self.definitions.space.recorded(value) if isinstance(value, types.FunctionType) else None
            if name not in defined and recorded is not None and self.definitions._ran(recorded):
                path, line = value.__code__.co_filename, value.__code__.co_firstlineno
                cause = f"{self.kind.__qualname__}.{name} was assigned to the class after its definition."
                refusal = Refusal(path, line, linecache.getline(path, line).strip(), cause, "define it in the class.")
                self.definitions.refusals.append(refusal)

    def _is_used(self) -> bool:
        """Whether the model contains an instance of the class or of a subclass."""
        defines = any(name in self.left_out for name in ("__init__", "forward"))
        return not defines or self._is_mixin()

    def _is_mixin(self) -> bool:
        """Whether classes of modules inherit from the class."""
        return any(isinstance(m, self.kind) for m in self.definitions.recorder.model.modules())

    def _stand_in(self, statement: Any, body: list[Any]) -> str:
        """Return a placeholder for a class that the model names but does not use."""
        attributes = [each for each in body if not _is_docstring(each)]
        text = (
            f"class {self.name}:\n"
            '    """Stands for a class that the recorded model does not use."""\n\n'
            "    def __init__(self, *args: Any, **kwargs: Any):\n"
            f'        raise NotImplementedError("{self.name} was not recorded")\n'
        )
        tree: Any = cst.parse_statement(text)
        first, *rest = tree.body.body
        new = tree.with_changes(
            body=tree.body.with_changes(body=[first, *attributes, *rest]), bases=self._bases(statement)
        )
        return ex.code(new)

    def _body(self, statement: Any) -> list[Any]:
        body = statement.body.body
        if isinstance(statement.body, cst.SimpleStatementSuite):
            return [cst.SimpleStatementLine([small]) for small in body if not isinstance(small, cst.Pass)]
        last = {each.name.value: each for each in body if isinstance(each, cst.FunctionDef)}
        # Keep only the last definition of overloads. (Getter and setter of a property are not overloads.)
        return [each for each in body if not _is_overload(each) or last[each.name.value] is each]

    def _footer(self) -> list[Any]:
        if not self.left_out:
            return []
        names = list(dict.fromkeys(self.left_out))
        comment = f"# Left out, since the recorded model does not call them: {', '.join(names)}."
        blank = cst.EmptyLine(indent=False)
        return [blank, *(cst.EmptyLine(comment=cst.Comment(line)) for line in _wrapped(comment, 115))]

    def _bases(self, statement: Any) -> list[Any]:
        bases = []
        for argument in statement.bases:
            node = argument.value.value if isinstance(argument.value, cst.Subscript) else argument.value
            value = self.file.static(node)
            if value is object:
                continue
            if value in (Generic, Protocol):
                new = annotation(argument.value, self.file.static, self._refer)
                bases += [] if new is None else [cst.Arg(new)]
                continue
            known = torch_text(value)
            text = known or self.definitions.reference(
                value, ex.code(node).rpartition(".")[2], self.file.module.__name__
            )
            bases.append(cst.Arg(ex.parse(text)))
        return bases

    def _decorators(self, statement: Any) -> list[Any]:
        kept = [d for d in statement.decorators if not self.is_module or self.definitions.registers(d, self.file)]
        translator = StaticTranslator(self.file, self.definitions)
        return [each.visit(translator) for each in kept]

    def _statement(self, statement: Any) -> list[Any]:
        if isinstance(statement, cst.FunctionDef):
            return self._method(statement)
        if _is_docstring(statement):
            return [statement]
        if isinstance(statement, cst.SimpleStatementLine):
            return self._attributes(statement)
        if isinstance(statement, cst.ClassDef):
            self.left_out.append(statement.name.value)
            return []
        raise UnwritableError(f"{self.kind.__qualname__} has a statement between its methods that is not supported")

    def _attributes(self, line: Any) -> list[Any]:
        """Return the statement of class attributes, without attributes for torch."""
        attributes = []
        for small in line.body:
            targets = (
                [t.target for t in small.targets] if isinstance(small, cst.Assign) else [getattr(small, "target", None)]
            )
            names = [t.value for t in targets if isinstance(t, cst.Name)]
            if {"__constants__", "__annotations__", "dump_patches", "__jit_unused_properties__"} & set(names):
                continue
            attributes += self._attribute(small)
        if not attributes:
            return []
        return [line.with_changes(body=attributes)]

    def _attribute(self, small: Any) -> list[Any]:
        translator = StaticTranslator(self.file, self.definitions, frozenset(vars(self.kind)))
        if isinstance(small, cst.AnnAssign):
            new = annotation(small.annotation.annotation, self.file.static, self._refer)
            value = small.value and small.value.visit(translator)
            if new is not None:
                return [small.with_changes(annotation=small.annotation.with_changes(annotation=new), value=value)]
            assigned: Any = value
            return [] if value is None else [cst.Assign([cst.AssignTarget(small.target)], assigned)]
        if isinstance(small, cst.Assign):
            name = small.targets[0].target
            function = vars(self.kind).get(name.value) if isinstance(name, cst.Name) else None
            if isinstance(small.value, cst.Lambda) or (
                isinstance(function, types.FunctionType) and is_torchs(function)
            ):
                raise UnwritableError(f"{self.kind.__qualname__}.{ex.code(name)} is an assigned function")
            return [small.with_changes(value=small.value.visit(translator))]
        return [small]

    def _refer(self, value: Any, node: Any) -> Any:
        if not self.definitions.is_annotation(value):
            return None
        base = self.file.static(node.value) if isinstance(node, cst.Attribute) else self.file.module
        if isinstance(base, type):
            return node  # an attribute that a class defines
        name = ex.code(node).rpartition(".")[2]
        return cst.Name(self.definitions.reference(value, name, base.__name__))

    def _method(self, statement: Any) -> list[Any]:
        name = statement.name.value
        raw = self._raw(statement)
        recorded = self.definitions.space.recorded(raw) if raw is not None else None
        ran = recorded is not None and self.definitions._ran(recorded)
        if raw is None or recorded is None or not ran:
            if not self.is_module and not self._is_mixin() and not self._names_torch(statement):
                return [statement.visit(StaticTranslator(self.file, self.definitions, _locals(statement)))]
            if name == "__init__" and self.is_module and self._is_used() and not self._names_torch(statement):
                new = statement.visit(StaticTranslator(self.file, self.definitions, _locals(statement)))
                return [_without_super(new)]  # the constructor ran at import, before the recording
            if _is_abstract(statement):
                new = statement.visit(_Annotated(self.file.static, self._refer))
                new = new.visit(StaticTranslator(self.file, self.definitions, _locals(statement)))
                return [new.with_changes(name=cst.Name("__call__")) if name == "forward" else new]
            self.left_out.append(name)
            return []
        is_static = isinstance(vars(self.kind).get(name), staticmethod)
        node = self.definitions.translated(recorded, raw, self.kind if self.is_module and not is_static else None)
        if _is_empty(node) and name == "__init__" and len(node.params.params) == 1 and not node.params.kwonly_params:
            return []
        blank = cst.EmptyLine(indent=False)
        stored = [ex.with_parentheses(each).with_changes(leading_lines=[blank]) for each in self.definitions.methods]
        return [node.with_changes(leading_lines=statement.leading_lines), *stored]

    def _names_torch(self, statement: Any) -> bool:
        names = {node.value for node in _all_names(statement)}
        return any(is_torchs(vars(self.file.module).get(name)) for name in names)

    def _raw(self, statement: Any) -> Any:
        """Return the function object of a method's definition."""
        value = vars(self.kind).get(statement.name.value)
        if isinstance(value, property):
            is_setter = any(ex.code(d.decorator).endswith(".setter") for d in statement.decorators)
            value = value.fset if is_setter else value.fget
        value = getattr(value, "__func__", value)
        value = unwrapped(getattr(value, "func", value))  # of a cached property
        return self.definitions.undecorated(value, statement, self.file) if callable(value) else None

    def _constructor(self, body: list[Any]) -> list[Any]:
        """Return a constructor that creates the random stream, if the class needs one and has no constructor."""
        has = any(isinstance(each, cst.FunctionDef) and each.name.value == "__init__" for each in body)
        if has or not self.definitions.needs.keeps_stream(self.kind):
            return []
        parent = next(c for c in self.kind.__mro__[1:] if "__init__" in vars(c))
        passes = ", rngs=rngs" if self.definitions.needs.of_constructor(parent, self.kind) else ""
        text = (
            f"def __init__(self, *args: Any, rngs: nnx.Rngs, **kwargs: Any):\n"
            f"    super().__init__(*args, **kwargs{passes})\n    self.rngs = rngs.dropout.fork()\n"
        )
        return [cst.parse_statement(text).with_changes(leading_lines=[cst.EmptyLine(indent=False)])]


class _Annotated(cst.CSTTransformer):
    """Translate annotations, and remove annotations that the written file cannot name."""

    def __init__(self, static: Any, refer: Any):
        super().__init__()
        self._static, self._refer = static, refer

    def _new(self, node: Any) -> Any:
        if node is None or (new := annotation(node.annotation, self._static, self._refer)) is None:
            return None
        return node.with_changes(annotation=new)

    def leave_Param(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(annotation=self._new(original_node.annotation))

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(returns=self._new(original_node.returns))


def _all_names(node: Any) -> Iterator[Any]:
    if isinstance(node, cst.Name):
        yield node
    for child in node.children:
        yield from _all_names(child)


def _locals(statement: Any) -> frozenset[str]:
    names = {p.name.value for p in [*statement.params.params, *statement.params.kwonly_params]}
    return frozenset(names | {"self", "cls"})


def _is_overload(statement: Any) -> bool:
    """Return whether a statement is a definition for type checkers: of ``typing`` or of ``torch.jit``."""
    decorators = statement.decorators if isinstance(statement, cst.FunctionDef) else ()
    return any(ex.code(each.decorator).rpartition(".")[2] in ("overload", "_overload_method") for each in decorators)


def _is_docstring(statement: Any) -> bool:
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return False
    small = statement.body[0]
    return isinstance(small, cst.Expr) and isinstance(small.value, (cst.SimpleString, cst.ConcatenatedString))


def _is_abstract(statement: Any) -> bool:
    """Whether the body of a method is only a docstring, ``pass`` or ``raise NotImplementedError``."""
    lines = [line.body if isinstance(line, cst.SimpleStatementLine) else [line] for line in statement.body.body]
    parts = [ex.code(small).partition("(")[0] for line in lines for small in line if not isinstance(small, cst.Expr)]
    marks = [ex.code(each.decorator).rpartition(".")[2] for each in statement.decorators]
    if set(parts) - {"raise NotImplementedError", "pass"}:
        return False
    return ("abstractmethod" in marks and set(marks) <= {"abstractmethod", "property"}) or (not marks and bool(parts))


def _without_super(constructor: Any) -> Any:
    """Return the constructor without the call of ``super().__init__``."""
    lines = [line for line in constructor.body.body if not ex.code(line).strip().startswith("super(")]
    return constructor.with_changes(body=constructor.body.with_changes(body=lines))


def _is_empty(node: Any) -> bool:
    lines = [line.body if isinstance(line, cst.SimpleStatementLine) else [line] for line in node.body.body]
    return all(isinstance(small, cst.Pass) for line in lines for small in line)


def _wrapped(text: str, width: int) -> list[str]:
    lines, current = [], ""
    for word in text.split(" "):
        if current and len(current) + 1 + len(word) > width:
            lines.append(current)
            current = "#"
        current = f"{current} {word}" if current else word
    return [*lines, current]
