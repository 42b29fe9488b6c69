"""Tests of the annotations in written files, which prevent a type checker from inferring too narrow types."""

import pytest

from flaxnets.port.source.hints import hinted

PARAMETERS = {
    # The parameter, the rest of the file, and the expected parameter.
    "a class": ("act=nn.ReLU", "", "act: Callable[..., Any] = nn.ReLU"),
    "a function": ("act=F.relu", "", "act: Callable[..., Any] = F.relu"),
    "a partial": (
        "norm=partial(nn.LayerNorm, eps=1e-6)",
        "",
        "norm: Callable[..., Any] = partial(nn.LayerNorm, eps=1e-6)",
    ),
    "a lambda": ("act=lambda x: x", "", "act: Callable[..., Any] = lambda x: x"),
    "a class of the file": ("block=A", "class A(nn.Module): pass", "block: Callable[..., Any] = A"),
    "a module as the annotation of a class": ("act: nn.Module = nn.GELU", "", "act: Callable[..., Any] = nn.GELU"),
    "None that nothing tests": ("act: A | None = nn.ReLU", "", "act: Callable[..., Any] = nn.ReLU"),
    "None in a variable": ("x: jax.Array", "A = f(y)\n    y = None", "x: Any"),
    "None for a number": ("width: int = None", "", "width: Any = None"),
    "None among the types": ("width: int | None = None", "", "width: int | None = None"),
    "an optional": ("width: Optional[int] = None", "", "width: Optional[int] = None"),
    "a whole number for a float": ("rate: float = 0", "", "rate: float = 0"),
    "a fraction for an int": ("rate: int = 0.5", "", "rate: float = 0.5"),
    "a float in a call": ("ratio=4", "A = f(ratio=0.5)", "ratio: float = 4"),
    "an int in a call": ("ratio=4.0", "A = f(ratio=2)", "ratio=4.0"),
    "a tuple in a call": ("stride=1", "A = f((2, 1))", "stride: Any = 1"),
    "the same in a call": ("stride=1", "A = f(2)", "stride=1"),
    "None in a call": ("stride=1", "A = f(None)", "stride: Any = 1"),
    "a list with two kinds": ("plan=[8, 'M']", "", "plan: Any = [8, 'M']"),
    "a dtype": ("dtype=jnp.float32", "", "dtype=jnp.float32"),
    "nothing to say": ("width=4, *, bias=True", "", "width=4, *, bias=True"),
}


@pytest.mark.parametrize(("parameter", "rest", "expected"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameters(parameter, rest, expected):
    call = f"def g():\n    {rest}\n" if rest.startswith("A = f") else f"{rest}\n"
    text = f"def f({parameter}):\n    return 1\n{call}"
    assert hinted(text) == text.replace(parameter, expected)


@pytest.mark.parametrize("check", ["if width is None: width = 3", "width = width or 3", "assert width is not None"])
def test_none_stays_among_the_types_of_a_parameter_that_is_tested(check):
    assert "width: int | None = None" in hinted(f"def f(width: int = None):\n    {check}\n    return width\n")


def test_a_parameter_that_is_inspected_is_not_only_called():
    assert "block: Any = A" in hinted("class A: pass\ndef f(block=A):\n    return block.expansion\n")
    assert "kind: Any = A" in hinted("class A: pass\ndef f(kind=A):\n    return issubclass(kind, A)\n")


CONTAINERS = {
    "layers of other classes": ("a = [nn.ReLU()]\na.append(nn.GELU())", "a: list[nn.Module] = "),
    "layers that are unknown": ("a = [nn.ReLU()]\na += [b]", "a: list[nn.Module] = "),
    "the same class": ("a = [nn.ReLU()]\na.append(nn.ReLU())", "a = "),
    "numbers and others": ("a = [1]\na.insert(0, b)", "a: list[Any] = "),
    "an empty list": ("a = []\na.append(1)", "a = "),
    "a list that becomes a module": ("a = [nn.ReLU()]\na.append(nn.GELU())\na = nn.Sequential(*a)", "a = "),
    "two kinds": ("a = [64, 'M']", "a: list[Any] = "),
    "unpacked": ("a = dict(bias=False)\nb = f(**a)", "a: dict[str, Any] = "),
    "a new item": ("a = {'x': nn.ReLU()}\na['y'] = 1", "a: dict[str, Any] = "),
    "numbers as keys": ("a = {1: nn.ReLU()}\na[2] = 1", "a: dict[Any, Any] = "),
    "only read": ("a = {'x': 1}\nb = a['x']", "a = "),
}


@pytest.mark.parametrize(("body", "start"), CONTAINERS.values(), ids=CONTAINERS)
def test_containers(body, start):
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    assert hinted(f"def f(b):\n{lines}    return a\n").splitlines()[1].startswith(f"    {start}")


NETWORK = """class Net(nn.Module):
    def __init__(self, rate=None, fancy=True):
        self.rate = rate
        self.act = nn.ReLU() if fancy else None

    def __call__(self, x):
        {use}
        return x
"""


@pytest.mark.parametrize(
    ("use", "start"),
    [
        ("x = self.act(x)", "self.act: Any = "),
        ("x = self.act(x) if self.act is not None else x", "self.act = "),
        ("x = self.act(x) if self.act else x", "self.act = "),
        ("x = f(x, self.rate)", "rate: Any = None"),
        ("x = x * self.rate", "rate: Any = None"),
        ("x = x if self.rate is None else x * self.rate", "rate=None"),
    ],
)
def test_attributes_that_can_be_none(use, start):
    assert start in hinted(NETWORK.format(use=use))


MIXINS = {
    "what only a subclass has": ("    def f(self):\n        return self.base\n", "class Mixin:\n    base: Any\n\n"),
    "a docstring": (
        '    """Text."""\n\n    def f(self):\n        return self.base\n',
        '    """Text."""\n\n    base: Any\n',
    ),
    "its own attribute": (
        "    base = 1\n\n    def f(self):\n        return self.base\n",
        "class Mixin:\n    base = 1\n",
    ),
}


@pytest.mark.parametrize(("body", "expected"), MIXINS.values(), ids=MIXINS)
def test_mixins_declare_what_they_read(body, expected):
    assert expected in hinted(f"class Mixin:\n{body}")


def test_lines_with_other_letters_and_nested_functions():
    inner = "    def g(y=F.relu):\n        return f('é', größe=(1, 2))\n"
    text = f"def f(x, größe=1, act=nn.ReLU):  # ä\n{inner}    return g\n"
    expected = text.replace("größe=1", "größe: Any = 1").replace("act=nn", "act: Callable[..., Any] = nn")
    assert hinted(text) == expected.replace("y=F", "y: Callable[..., Any] = F")
