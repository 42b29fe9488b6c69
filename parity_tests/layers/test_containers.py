"""Tests of containers as Python collections: operations have the same names, order and errors as in torch."""

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxnets import nn

TORCH = SimpleNamespace(
    **{name: getattr(torch.nn, name) for name in ("Sequential", "ModuleList", "ModuleDict", "Container")},
    **{name: getattr(torch.nn, name) for name in ("ParameterList", "ParameterDict", "ReLU", "Sigmoid", "Flatten")},
    linear=lambda: torch.nn.Linear(2, 2),
    array=lambda size: torch.zeros(size),
    param=lambda size: torch.nn.Parameter(torch.zeros(size)),
)
FLAX = SimpleNamespace(
    **{name: getattr(nn, name) for name in ("Sequential", "ModuleList", "ModuleDict", "Container")},
    **{name: getattr(nn, name) for name in ("ParameterList", "ParameterDict", "ReLU", "Sigmoid", "Flatten")},
    linear=lambda: nn.Linear(2, 2, rngs=nnx.Rngs(0)),
    array=jnp.zeros,
    param=lambda size: nnx.Param(jnp.zeros(size)),
)


def shown(value: Any) -> Any:
    """Return the names, types and shapes to compare."""
    if isinstance(value, (torch.nn.Module, nnx.Module)):
        children = [(name, shown(child)) for name, child in value.named_children()]
        keys = [(name, tuple(array.shape)) for name, array in value.state_dict().items()]
        items = [shown(item) for item in value] if type(value).__name__ == "ParameterList" else []
        pairs = [(k, shown(v)) for k, v in value.items()] if type(value).__name__ == "ParameterDict" else []
        return type(value).__name__, children, keys, items, pairs
    if isinstance(value, (torch.Tensor, nnx.Variable)):
        return tuple(value.shape)
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    if isinstance(value, type({}.keys()) | type({}.values()) | type({}.items())):
        return [shown(item) for item in list(value)]
    return value


def three(nn):
    return [nn.linear(), nn.ReLU(), nn.Sigmoid()]


def sequential(nn):
    return nn.Sequential(*three(nn))


def named(nn):
    return nn.Sequential(OrderedDict(zip(("b", "a", "c"), three(nn), strict=True)))


def module_list(nn):
    return nn.ModuleList(three(nn))


def module_dict(nn):
    return nn.ModuleDict(dict(zip(("b", "a", "c"), three(nn), strict=True)))


def parameter_list(nn):
    return nn.ParameterList([nn.array(1), nn.param(2), 3, "text", None])


def parameter_dict(nn):
    return nn.ParameterDict(OrderedDict(b=nn.array(1), a=nn.param(2), c=3))


def deleted(container, index):
    del container[index]
    return container


def assigned(container, index, value):
    container[index] = value
    return container


def after(container, *results):
    return container, results


def added(container, other):
    container += other
    return container


def united(container, other):
    container |= other
    return container


def repeated(container, times):
    container *= times
    return container


def twelve(nn):
    return nn.ModuleList(nn.linear() for _ in range(12))


OPERATIONS = {
    "sequential": [
        (sequential, lambda c, nn: c),
        (named, lambda c, nn: c),
        (sequential, lambda c, nn: c[0]),
        (sequential, lambda c, nn: c[-1]),
        (sequential, lambda c, nn: c[1:]),
        (sequential, lambda c, nn: c[::-1]),
        (named, lambda c, nn: c[:2]),
        (named, lambda c, nn: c[-1]),
        (sequential, lambda c, nn: len(c)),
        (sequential, lambda c, nn: list(c)),
        (sequential, lambda c, nn: assigned(c, 1, nn.Flatten())),
        (named, lambda c, nn: assigned(c, -1, nn.Flatten())),
        (sequential, lambda c, nn: deleted(c, 0)),
        (sequential, lambda c, nn: deleted(c, -1)),
        (sequential, lambda c, nn: deleted(c, slice(0, 2))),
        (sequential, lambda c, nn: deleted(c, slice(None, None, 2))),
        (named, lambda c, nn: deleted(c, 1)),
        (sequential, lambda c, nn: after(c, c.pop(1))),
        (sequential, lambda c, nn: after(c, c.pop(slice(1, 3)))),
        (sequential, lambda c, nn: c.append(nn.Flatten())),
        (named, lambda c, nn: c.append(nn.Flatten())),
        (sequential, lambda c, nn: c.insert(0, nn.Flatten())),
        (sequential, lambda c, nn: c.insert(-1, nn.Flatten())),
        (sequential, lambda c, nn: c.insert(3, nn.Flatten())),
        (named, lambda c, nn: c.insert(3, nn.Flatten())),
        (sequential, lambda c, nn: c.extend([nn.Flatten(), nn.linear()])),
        (sequential, lambda c, nn: c + named(nn)),
        (named, lambda c, nn: c + sequential(nn)),
        (sequential, lambda c, nn: added(c, sequential(nn))),
        (named, lambda c, nn: added(c, sequential(nn))),
        (sequential, lambda c, nn: c * 2),
        (named, lambda c, nn: 3 * c),
        (sequential, lambda c, nn: repeated(c, 3)),
        (named, lambda c, nn: repeated(c, 1)),
    ],
    "module list": [
        (module_list, lambda c, nn: c),
        (module_list, lambda c, nn: c[-1]),
        (module_list, lambda c, nn: c[1:]),
        (module_list, lambda c, nn: list(c)),
        (module_list, lambda c, nn: assigned(c, -2, nn.Flatten())),
        (module_list, lambda c, nn: deleted(c, 1)),
        (module_list, lambda c, nn: deleted(c, slice(1, None))),
        (module_list, lambda c, nn: after(c, c.pop(-1))),
        (module_list, lambda c, nn: after(c, c.pop(slice(0, 2)))),
        (module_list, lambda c, nn: after(c, c.insert(0, nn.Flatten()))),
        (module_list, lambda c, nn: after(c, c.insert(3, nn.Flatten()))),
        (module_list, lambda c, nn: c.append(nn.Flatten())),
        (module_list, lambda c, nn: c.extend([nn.Flatten(), nn.linear()])),
        (module_list, lambda c, nn: c + [nn.Flatten()]),  # noqa: RUF005
        (module_list, lambda c, nn: c + module_list(nn)),
        (module_list, lambda c, nn: added(c, [nn.linear()])),
        (lambda nn: nn.ModuleList(), lambda c, nn: len(c)),
        (twelve, lambda c, nn: deleted(c, 10)),
        (twelve, lambda c, nn: after(c, c.insert(1, nn.ReLU()))),
    ],
    "module dict": [
        (module_dict, lambda c, nn: c),
        (module_dict, lambda c, nn: c["a"]),
        (module_dict, lambda c, nn: (list(c), len(c), "a" in c, "z" in c)),
        (module_dict, lambda c, nn: [c.keys(), c.values(), c.items()]),
        (module_dict, lambda c, nn: assigned(c, "b", nn.Flatten())),
        (module_dict, lambda c, nn: assigned(c, "z", nn.Flatten())),
        (module_dict, lambda c, nn: deleted(c, "a")),
        (module_dict, lambda c, nn: after(c, c.pop("b"))),
        (module_dict, lambda c, nn: after(c, c.clear())),
        (module_dict, lambda c, nn: after(c, c.update({"z": nn.Flatten(), "a": nn.linear()}))),
        (module_dict, lambda c, nn: after(c, c.update([("z", nn.Flatten()), ["a", nn.linear()]]))),
        (module_dict, lambda c, nn: after(c, c.update(module_dict(nn)))),
        (lambda nn: nn.ModuleDict([("b", nn.ReLU()), ("a", nn.linear())]), lambda c, nn: c),
        (lambda nn: nn.ModuleDict(), lambda c, nn: len(c)),
    ],
    "parameter list": [
        (parameter_list, lambda c, nn: c),
        (parameter_list, lambda c, nn: [c[0], c[-4], c[2]]),
        (parameter_list, lambda c, nn: c[1:]),
        (parameter_list, lambda c, nn: c[::-2]),
        (parameter_list, lambda c, nn: len(c)),
        (parameter_list, lambda c, nn: c.append(nn.array(5))),
        (parameter_list, lambda c, nn: c.append("more")),
        (parameter_list, lambda c, nn: c.extend([nn.array(5), nn.param(6)])),
        (parameter_list, lambda c, nn: added(c, [nn.array(5)])),
        (parameter_list, lambda c, nn: assigned(c, 0, nn.array(5))),
        (parameter_list, lambda c, nn: assigned(c, -3, nn.array(5))),
        (parameter_list, lambda c, nn: assigned(c, 4, nn.array(5))),
        (lambda nn: nn.ParameterList(nn.array(i) for i in range(12)), lambda c, nn: c),
    ],
    "parameter dict": [
        (parameter_dict, lambda c, nn: c),
        (lambda nn: nn.ParameterDict({"b": nn.array(1), "a": nn.array(2)}), lambda c, nn: c),
        (lambda nn: nn.ParameterDict([("b", nn.array(1)), ("a", nn.array(2))]), lambda c, nn: c),
        (lambda nn: nn.ParameterDict(parameter_dict(nn)), lambda c, nn: c),
        (parameter_dict, lambda c, nn: [c["b"], c["c"]]),
        (parameter_dict, lambda c, nn: (list(c), len(c), "a" in c, "z" in c, list(reversed(c)))),
        (parameter_dict, lambda c, nn: [list(c.keys()), list(c.values()), list(c.items())]),
        (parameter_dict, lambda c, nn: assigned(c, "b", nn.array(5))),
        (parameter_dict, lambda c, nn: assigned(c, "c", nn.array(5))),
        (parameter_dict, lambda c, nn: assigned(c, "z", nn.array(5))),
        (parameter_dict, lambda c, nn: deleted(c, "a")),
        (parameter_dict, lambda c, nn: deleted(c, "c")),
        (parameter_dict, lambda c, nn: after(c, c.pop("b"))),
        (parameter_dict, lambda c, nn: after(c, c.popitem())),
        (parameter_dict, lambda c, nn: after(c, c.clear())),
        (parameter_dict, lambda c, nn: [c.get("a"), c.get("z"), c.get("z", 7)]),
        (parameter_dict, lambda c, nn: after(c, c.setdefault("a", 3), c.setdefault("z", nn.array(4)))),
        (parameter_dict, lambda c, nn: after(c, c.setdefault("z"))),
        (parameter_dict, lambda c, nn: after(c, c.update({"z": nn.array(5), "d": nn.array(6), "a": nn.array(7)}))),
        (parameter_dict, lambda c, nn: after(c, deleted(c.copy(), "a"))),
        (parameter_dict, lambda c, nn: c.fromkeys(["x", "y"], 3)),
        (parameter_dict, lambda c, nn: c.fromkeys(["x", "y"])),
        (parameter_dict, lambda c, nn: c | nn.ParameterDict({"z": nn.array(5), "a": nn.array(6)})),
        (parameter_dict, lambda c, nn: after(c, united(c, nn.ParameterDict({"z": nn.array(5), "b": nn.array(6)})))),
    ],
    "container": [(lambda nn: nn.Container(b=nn.linear(), a=nn.ReLU()), lambda c, nn: c)],
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "operation"),
    [row for rows in OPERATIONS.values() for row in rows],
    ids=[f"{kind} {i}" for kind, rows in OPERATIONS.items() for i, _ in enumerate(rows)],
)
def test_operations_give_what_torchs_give(make, operation):
    expected = shown(operation(make(TORCH), TORCH))
    assert shown(operation(make(FLAX), FLAX)) == expected
    merged = nnx.merge(*nnx.split(make(FLAX)))  # NNX sorts attributes by name, which must not change the order
    assert shown(operation(merged, FLAX)) == expected


REFUSED = [
    (sequential, lambda c, nn: c[3], "got the index 3"),
    (sequential, lambda c, nn: c[1.0], "float"),
    (sequential, lambda c, nn: deleted(c, 3), "got the index 3"),
    (sequential, lambda c, nn: c.pop(-4), "got the index -4"),
    (sequential, lambda c, nn: assigned(c, 0, 3), "got int"),
    (sequential, lambda c, nn: c.append(3), "got int"),
    (sequential, lambda c, nn: c.insert(0, 3), "got int"),
    (sequential, lambda c, nn: c.insert(5, nn.ReLU()), "got the index 5"),
    (sequential, lambda c, nn: c.insert(-4, nn.ReLU()), "got the index -4"),
    (named, lambda c, nn: c.insert(0, nn.ReLU()), r"got the names \['b', 'a', 'c'\]"),
    (sequential, lambda c, nn: c + [nn.ReLU()], "got list"),  # noqa: RUF005
    (sequential, lambda c, nn: added(c, [nn.ReLU()]), "got list"),
    (sequential, lambda c, nn: c * 0, "got 0"),
    (sequential, lambda c, nn: c * 1.5, "got 1.5"),
    (sequential, lambda c, nn: repeated(c, -1), "got -1"),
    (sequential, lambda c, nn: repeated(c, "a"), "got 'a'"),
    (named, lambda c, nn: repeated(c, 2), r"got the names \['b', 'a', 'c'\]"),
    (sequential, lambda c, nn: c.extend(3), "got int"),
    (module_list, lambda c, nn: c[3], "got the index 3"),
    (module_list, lambda c, nn: c["a"], "str"),
    (module_list, lambda c, nn: deleted(c, -4), "got the index -4"),
    (module_list, lambda c, nn: assigned(c, 5, nn.ReLU()), "got the index 5"),
    (module_list, lambda c, nn: assigned(c, 0, 3), "got int"),
    (module_list, lambda c, nn: c.insert(-1, nn.ReLU()), "got -1"),
    (module_list, lambda c, nn: c.extend(3), "got int"),
    (module_list, lambda c, nn: c(1), "ModuleList cannot be called"),
    (module_dict, lambda c, nn: c["z"], "no module 'z'"),
    (module_dict, lambda c, nn: c.pop("z"), "no module 'z'"),
    (module_dict, lambda c, nn: deleted(c, "z"), "no module 'z'"),
    (module_dict, lambda c, nn: assigned(c, "keys", nn.ReLU()), "already has an attribute 'keys'"),
    (module_dict, lambda c, nn: assigned(c, "a.b", nn.ReLU()), "a.b"),
    (module_dict, lambda c, nn: assigned(c, "", nn.ReLU()), "must not be empty or contain a dot"),
    (module_dict, lambda c, nn: assigned(c, 3, nn.ReLU()), "got 3"),
    (module_dict, lambda c, nn: assigned(c, "a", 3), "got int"),
    (module_dict, lambda c, nn: c(1), "ModuleDict cannot be called"),
    (parameter_list, lambda c, nn: c[5], "got the index 5"),
    (parameter_list, lambda c, nn: c["a"], "str"),
    (parameter_list, lambda c, nn: assigned(c, -6, nn.array(1)), "got the index -6"),
    (parameter_list, lambda c, nn: c.extend(nn.array(2)), "got "),
    (parameter_dict, lambda c, nn: c["z"], "no parameter 'z'"),
    (parameter_dict, lambda c, nn: c.pop("z"), "no parameter 'z'"),
    (parameter_dict, lambda c, nn: deleted(c, "z"), "no parameter 'z'"),
    (parameter_dict, lambda c, nn: assigned(c, "keys", nn.array(1)), "already has an attribute 'keys'"),
    (parameter_dict, lambda c, nn: assigned(c, "a.b", nn.array(1)), "a.b"),
    (parameter_dict, lambda c, nn: assigned(c, 3, nn.array(1)), "got 3"),
    (lambda nn: nn.ParameterDict(), lambda c, nn: c.popitem(), "empty"),
    (lambda nn: nn.Container(a=nn.ReLU()), lambda c, nn: c(1), "Container cannot be called"),
    (lambda nn: nn.Container, lambda c, nn: c(a=3), "got int"),
]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("make", "operation", "message"), REFUSED)
def test_what_torch_refuses_is_refused_with_its_exception(make, operation, message):
    with pytest.raises(Exception) as torchs:  # noqa: PT011
        operation(make(TORCH), TORCH)
    with pytest.raises(torchs.type, match=message):
        operation(make(FLAX), FLAX)


def test_a_module_list_has_no_gaps():
    """Check errors in cases where torch leaves a gap, or accepts an object that is not a module."""
    modules = module_list(FLAX)
    with pytest.raises(IndexError, match="expected an index from 0 to 3, got 4"):
        modules.insert(4, nn.ReLU())
    with pytest.raises(TypeError, match="got int"):
        modules.insert(0, 3)


def test_container_is_deprecated():
    for namespace in (TORCH, FLAX):
        with pytest.warns(FutureWarning, match="deprecated"):
            namespace.Container()


def test_modules_in_containers_are_the_same_objects_after_every_move():
    modules = three(FLAX)
    container = nn.ModuleList(modules)
    container.insert(0, nn.Flatten())
    del container[0]
    assert all(a is b for a, b in zip(container, modules, strict=True))
    shared = nn.Sequential(*modules) * 2
    assert shared[0] is shared[3]
    assert len(list(shared.named_parameters())) == 2


def test_containers_work_under_jit():
    class Chosen(nn.Module):
        def __init__(self, rngs):
            self.blocks = nn.ModuleDict({"b": nn.Linear(2, 2, rngs=rngs), "a": nn.ReLU()})
            self.rest = nn.ModuleList([nn.Sigmoid(), nn.Linear(2, 1, rngs=rngs)])
            self.weights = nn.ParameterDict({"scale": jnp.ones((1, 2))})
            self.shifts = nn.ParameterList([jnp.ones((1, 1)), 3.0])

        def __call__(self, x):
            for block in [*self.blocks.values(), *self.rest[:1]]:
                x = block(x * self.weights["scale"])
            return self.rest[-1](x) + self.shifts[0] * self.shifts[1]

    module = Chosen(nnx.Rngs(0))
    x = jnp.ones((3, 2))
    np.testing.assert_allclose(nnx.jit(lambda m, x: m(x))(module, x), module(x), rtol=1e-6)
