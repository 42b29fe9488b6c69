"""Import, build and call the models of ``flaxnets parity`` and ``flaxnets port``, and draw their inputs."""

import ast
import dataclasses
import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flaxnets._suggestions import suggest
from flaxnets.cli.common import UsageError

if TYPE_CHECKING:
    import torch

_DTYPES = ("float32", "float64", "int64", "int32", "bool", "complex64")


def find_target(module_name: str, name: str) -> Any:
    """Import a class or function; the current folder is searched, too.

    Raises:
        UsageError: if the module cannot be imported, or has no such class or function.

    >>> find_target("collections", "Counter").__name__
    'Counter'
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.split(".")[: len(error.name.split("."))] == error.name.split("."):
            raise UsageError(f"there is no module {error.name}, searched from {os.getcwd()}") from error
        raise UsageError(f"{module_name} cannot be imported: {error}") from error
    except Exception as error:
        raise UsageError(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    target: Any = getattr(module, name, None)
    if not callable(target):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise UsageError(f"{module_name} has no class or function {name!r}; {hint}")
    return target


@dataclasses.dataclass(frozen=True)
class Target:
    """A class or function that builds a model, with the arguments of the call.

    Attributes:
        text: the text of the command line, for errors.
        function: the class or function.
        args: the positional arguments.
        kwargs: the keyword arguments.
    """

    text: str
    function: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, more: Mapping[str, Any] | None = None, *, fix: str = "") -> Any:
        """Call the class or function, and return the model.

        Args:
            more: further keyword arguments.
            fix: the end of the error message if the call fails, such as ``". Fix: --args"``.

        Raises:
            UsageError: if the call fails.
        """
        try:
            return self.function(*self.args, **self.kwargs, **(more or {}))
        except Exception as error:
            text = " ".join(str(error).split())
            raise UsageError(f"{self.text} cannot be built: {type(error).__name__}: {text}{fix}") from error


def parse_target(text: str) -> Target:
    """Parse a text such as ``mypkg.net:Net(depth=18)``, and import its class or function.

    Args:
        text: ``MODULE:NAME``, or ``MODULE:NAME(ARGUMENTS)`` with Python literals as arguments.

    Raises:
        UsageError: for a text of another format, and if :func:`find_target` raises it.

    >>> parse_target("collections:Counter(a=2)").build()
    Counter({'a': 2})
    """
    module_name, colon, call = text.partition(":")
    try:
        tree = ast.parse(call.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        tree = None
    arguments = tree if isinstance(tree, ast.Call) else ast.Call(tree or ast.Constant(None), [], [])
    if not (colon and module_name and isinstance(arguments.func, ast.Name)):
        raise UsageError(
            f"{text!r} names no model. Expected MODULE:NAME or MODULE:NAME(ARGUMENTS), as in mypkg.net:Net(depth=18)"
        )
    values: dict[str | int, Any] = {}
    for key, node in [*enumerate(arguments.args), *((each.arg or "**", each.value) for each in arguments.keywords)]:
        try:
            values[key] = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise UsageError(
                f"{text!r} has the argument {ast.unparse(node)!r}. Expected numbers, strings, True, False, None, or "
                "lists and dicts of these. Fix: write a function without arguments that builds the model, and name it"
            ) from error
    if "**" in values:
        raise UsageError(f"{text!r} unpacks a dict. Expected keyword arguments. Fix: NAME(depth=18)")
    args = tuple(value for key, value in values.items() if isinstance(key, int))
    kwargs = {key: value for key, value in values.items() if isinstance(key, str)}
    return Target(text, find_target(module_name, arguments.func.id), args, kwargs)


@dataclasses.dataclass(frozen=True)
class Input:
    """The shape and the dtype of one argument of a model, from ``--input``.

    Attributes:
        shape: the shape of the tensor.
        dtype: the name of the dtype.
        high: the exclusive upper bound of integers.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    high: int = 2

    @property
    def source(self) -> str:
        """The Python expression that draws a random tensor of this shape and dtype."""
        if self.dtype in ("int64", "int32"):
            return f"torch.randint(0, {self.high}, {self.shape}, dtype=torch.{self.dtype})"
        return (
            f"torch.rand({self.shape}) < 0.5"
            if self.dtype == "bool"
            else f"torch.randn({self.shape}, dtype=torch.{self.dtype})"
        )

    def draw(self, seed: int) -> "torch.Tensor":
        """Return a random tensor of this shape and dtype."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        if self.dtype in ("int64", "int32"):
            return torch.randint(0, self.high, self.shape, generator=generator, dtype=getattr(torch, self.dtype))
        if self.dtype == "bool":
            return torch.rand(self.shape, generator=generator) < 0.5
        return torch.randn(self.shape, generator=generator, dtype=getattr(torch, self.dtype))


def parse_input(text: str) -> Input:
    """Parse an input such as ``2,16:int64:1000``: a shape, and optionally a dtype and an exclusive upper bound.

    Raises:
        UsageError: for a text of another format.

    >>> parse_input("2,16:int64:1000")
    Input(shape=(2, 16), dtype='int64', high=1000)
    """
    shape, *rest = text.split(":")
    dtype, high = (*rest, "2")[:2] if rest else ("float32", "2")
    try:
        sizes = tuple(int(size) for size in shape.split(",")) if shape else ()
    except ValueError:
        sizes = (-1,)
    if any(size < 0 for size in sizes) or not high.isdecimal() or int(high) < 1 or len(rest) > 2:
        raise UsageError(
            f"--input {text!r} is not a shape. Expected sizes with commas, as in 2,3,224,224 or 2,16:int64:1000"
        )
    if dtype not in _DTYPES:
        raise UsageError(f"--input {text!r} has an unknown dtype {dtype!r}; {suggest(dtype, list(_DTYPES))}")
    return Input(sizes, dtype, int(high))


def build_torch(target: Target, fix: str = "") -> "torch.nn.Module":
    """Build a PyTorch model.

    Args:
        target: the class or function.
        fix: the end of the error message if the call fails, such as ``". Fix: --args"``.

    Raises:
        UsageError: if the call fails, or does not return a ``torch.nn.Module``.
    """
    import torch

    model = target.build(fix=fix)
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"{target.text} returns an object of type {type(model).__name__}. Expected a torch.nn.Module. "
            "Fix: name a class of models, or a function that returns a model"
        )
    return model


def call_torch(model: "torch.nn.Module", examples: Sequence["torch.Tensor"], words: Sequence[str]) -> Any:
    """Call a PyTorch model in eval mode, and return the outputs.

    Args:
        model: the model.
        examples: the arguments.
        words: the values of ``--input``, for errors.

    Raises:
        UsageError: if the call fails.
    """
    import torch

    try:
        with torch.no_grad():
            return model.eval()(*examples)
    except Exception as error:
        text = " ".join(str(error).split())
        raise UsageError(
            f"--input {' '.join(words)}: the model cannot be called: {type(error).__name__}: {text}"
        ) from error


def read_weights(path: str, model: "torch.nn.Module") -> dict[str, "torch.Tensor"]:
    """Read the weights of a PyTorch model, load them into the model, and return them.

    Args:
        path: a file of ``torch.save`` or of safetensors.
        model: the model. The file must have its names and shapes.

    Raises:
        UsageError: if the file cannot be read, or has other names or shapes.
    """
    import torch

    from flaxnets import weights as files

    try:
        weights = {
            name: value if isinstance(value, torch.Tensor) else torch.tensor(value)
            for name, value in files.read_weights(path).items()
        }
    except (files.WeightsError, OSError) as error:
        raise UsageError(f"--weights {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UsageError(f"--weights {path}: {' '.join(str(error).split())}") from error
    return weights
