"""Tests that everything public has a row in a table, a docstring with an example, and a torch counterpart."""

import importlib
import inspect
import pkgutil
import typing
from pathlib import Path

import pytest
import torch
from cases import (
    FUNCTIONS,
    FUNCTIONS_NOT_IN_FLAXNETS,
    LAYERS,
    NETWORKS,
    NOT_IN_FLAXNETS,
    REACHED_BY,
    SWEEPS,
    UTILS,
    UTILS_REFUSED,
    WITHOUT_PARITY,
)

import flaxnets
import torchref
from flaxnets import nn


def _classes(module):
    return [name for name, value in vars(module).items() if inspect.isclass(value) and not name.startswith("_")]


def test_every_registered_network_is_in_the_table_and_in_both_registries():
    assert flaxnets.list_models() == torchref.list_models() == sorted({case.name for case in NETWORKS})


def test_every_public_layer_is_in_the_table():
    assert sorted(_classes(nn)) == sorted({case.name for case in LAYERS} | WITHOUT_PARITY.keys())


def _torchs_classes():
    return {name for name, value in vars(torch.nn).items() if inspect.isclass(value) and not name.startswith("_")}


def test_every_class_of_torch_nn_is_here_or_says_why_not():
    assert _torchs_classes() - set(_classes(nn)) == set(NOT_IN_FLAXNETS)


def _functions(module):
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and not inspect.isclass(value) and name not in typing.__all__
    }


def test_every_function_of_torch_nn_functional_is_here_or_says_why_not():
    in_place = {name for name in _functions(torch.nn.functional) if name.endswith("_")}
    assert _functions(torch.nn.functional) - _functions(nn.functional) - in_place == set(FUNCTIONS_NOT_IN_FLAXNETS)


def test_every_function_is_reached_by_a_row():
    """Check that each function has its own rows, or rows of its layer, as ``l1_loss`` has those of ``L1Loss``."""
    layers = {case.name.lower() for case in LAYERS}
    rows = {case.name for case in [*FUNCTIONS, *SWEEPS]}
    unreached = {
        name
        for name in _functions(nn.functional)
        if name not in rows and not {name.replace("_", ""), name.replace("_", "") + "loss"} & layers
    }
    assert unreached - REACHED_BY.keys() == set()


UTILS_MODULES = ("", "rnn", "parametrize", "parametrizations", "prune", "stateless")


def _utils(package):
    """Yield the public functions and classes of nn.utils and its submodules, with paths relative to nn.utils."""
    for name in UTILS_MODULES:
        module = importlib.import_module(f"{package}.nn.utils.{name}".rstrip("."))
        for public_name in getattr(module, "__all__", None) or vars(module):
            value = getattr(module, public_name)
            if public_name.startswith("_") or not callable(value):
                continue
            if hasattr(module, "__all__") or _belongs(value, module, package, name):
                yield f"{name}.{public_name}".lstrip(".")


def _belongs(value, module, package, name):
    source = value.__module__ or ""
    return source in (module.__name__, f"{package}.nn.utils._refused") or (
        not name and source.startswith(f"{package}.nn.utils")
    )


def test_every_name_of_torch_nn_utils_is_here_or_says_why_not_and_has_a_test():
    here = {*_utils("flaxnets"), "parametrizations.orthogonal"}  # orthogonal is defined in a separate file
    assert set(_utils("torch")) - here == set()
    assert here == UTILS.keys() | UTILS_REFUSED.keys()


@pytest.mark.parametrize("test", sorted(set(UTILS.values())))
def test_the_test_of_a_utility_exists(test):
    file, _, function = test.partition("::")
    (path,) = Path(__file__).parents[1].rglob(file)
    assert f"def {function}(" in path.read_text()


def _modules(package):
    names = [info.name for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    return [importlib.import_module(name) for name in [package.__name__, *names]]


def _public(package):
    """Yield the public functions and classes, each with the module that defines it."""
    for module in _modules(package):
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if (inspect.isclass(value) or inspect.isfunction(value)) and "._" not in module.__name__:
                yield f"{module.__name__}.{name}", value


# The public API, where every docstring has an example. Other modules only need docstrings.
SURFACE = (flaxnets, flaxnets.nn, flaxnets.nn.functional, flaxnets.nn.init, flaxnets.ops, flaxnets.state)
SURFACE += tuple(importlib.import_module(f"flaxnets.nn.utils.{name}".rstrip(".")) for name in UTILS_MODULES)


@pytest.mark.parametrize("package", SURFACE, ids=lambda module: module.__name__)
def test_everything_people_call_has_an_example(package):
    named = {
        f"{package.__name__}.{name}": value
        for name, value in vars(package).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and not name.startswith("_")
        and (value.__module__ or "").startswith("flaxnets")
        and "._" not in value.__module__
    }
    helpers = {
        f"flaxnets.state.{name}"
        for name in ("own_modules", "own_variables", "named_variables", "IncompatibleKeys", "load_from_state_dict")
    }
    assert [name for name, value in named.items() if ">>>" not in (value.__doc__ or "") and name not in helpers] == []


def test_every_public_name_has_a_docstring():
    assert [name for package in (flaxnets, torchref) for name, value in _public(package) if not value.__doc__] == []


def test_every_model_file_class_and_function_has_a_twin():
    def names(package):
        return {name.split(".", 1)[1] for name, _ in _public(package.models)}

    assert names(flaxnets) == names(torchref)
