"""Run generated sources without torch: ``python source_runner.py cases.pickle`` prints the faults as JSON."""

import json
import pickle
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

GATE = 1e-12


def leaves(tree: Any) -> Iterator[Any]:
    """Yield the arrays and numbers of an output, in order."""
    if isinstance(tree, Mapping):
        tree = tree.values()
    if hasattr(tree, "shape") or isinstance(tree, (bool, int, float)):
        yield tree
    elif tree is not None and not isinstance(tree, str):
        for each in tree:
            yield from leaves(each)


def fault(case: dict[str, Any]) -> str | None:
    """Return the difference between the outputs of a generated source and torch's; None if they agree."""
    import jax
    from flax import nnx

    from flaxnets import state, xla

    module = types.ModuleType(case["name"])
    sys.modules[case["name"]] = module
    exec(compile(case["source"], case["name"], "exec"), vars(module))
    model = module.build(rngs=nnx.Rngs(0))
    if [*model.state_dict()] != [*case["weights"]]:
        return f"state dict keys {[*model.state_dict()]}"
    state.cast(model, "float64")
    state.load_state_dict(model, case["weights"])
    buffers = dict(state.named_buffers(model))
    for name, value in case["buffers"].items():
        buffers[name].set_value(value)
    model.eval()
    flat, structure = jax.tree.flatten((case["args"], case["kwargs"]))
    arrays = [leaf for leaf in flat if isinstance(leaf, np.ndarray)]

    graphdef, variables = nnx.split(model)

    def forward(variables: Any, arrays: list[Any]) -> list[Any]:
        model = nnx.merge(graphdef, variables)
        remaining = iter(arrays)
        filled = [next(remaining) if isinstance(leaf, np.ndarray) else leaf for leaf in flat]
        args, kwargs = jax.tree.unflatten(structure, filled)
        return [*leaves(model(*args, **kwargs))]

    options = xla.compiler_options({"xla_backend_optimization_level": 0})
    outputs = [np.asarray(leaf) for leaf in jax.jit(forward, compiler_options=options)(variables, arrays)]
    if [o.shape for o in outputs] != [e.shape for e in case["outputs"]]:
        return f"shapes {[o.shape for o in outputs]}"
    errors = [
        np.abs(o - e).max(initial=0) / (np.abs(e).max(initial=0) or 1)
        for o, e in zip(outputs, case["outputs"], strict=True)
    ]
    gate = case["gate"]
    return None if max(errors, default=0) <= gate else f"outputs off by {max(errors):.1e}"


class _WithoutTorch:
    """An import hook that raises an error for torch."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == "torch":
            raise ImportError("the generated source imports torch")


def main(path: str) -> None:
    sys.meta_path.insert(0, _WithoutTorch())  # type: ignore[arg-type]
    import jax

    jax.config.update("jax_enable_x64", True)
    with open(path, "rb") as file:
        cases = pickle.load(file)
    faults = {}
    for case in cases:
        try:
            message = fault(case)
        except Exception:
            message = traceback.format_exc()
        if message:
            faults[case["name"]] = message
    print(json.dumps(faults))


if __name__ == "__main__":
    main(sys.argv[1])
