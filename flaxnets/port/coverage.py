"""Write docs/operators.md: the names of torch that the port supports, and reasons for the others.

``python -m flaxnets.port.coverage > docs/operators.md`` writes the page.
"""

import typing

from flaxnets.port.operators import find, reason

_SPACES = ("torch", "torch.Tensor", "torch.nn.functional", "torch.linalg", "torch.fft", "torch.special")

_HEAD = """# Operators

`flaxnets.port.operators` translates calls of these functions and methods of PyTorch to `jax.numpy`, `flaxnets.ops` or
`flaxnets.nn.functional`, including in-place methods (`add_`). Each name has rows in `flaxnets/port/operator_table.py`.
The tests compare values, dtypes and gradients of every row with PyTorch. Refused names raise an error with the reason.

Without `jax_enable_x64`, int64 is int32 and float64 is float32. Reductions over a dimension of a tensor without
dimensions (`z.sum(0)`) or over an empty tuple of dimensions (`x.sum(())`) are not supported. An index out of range
raises an error in PyTorch; JAX fills or clips it.
"""


def public_names() -> dict[str, list[str]]:
    """Return the public names of torch's function modules and of ``torch.Tensor``, by module. Needs torch.

    >>> len(public_names()["torch.Tensor"]) > 500
    True
    """
    from flaxnets.parity._torch import torch

    modules = {
        "torch": torch,
        "torch.nn.functional": torch.nn.functional,
        "torch.linalg": torch.linalg,
        "torch.fft": torch.fft,
        "torch.special": torch.special,
    }
    names = {"torch.Tensor": [name for name in dir(torch.Tensor) if not name.startswith("_")]}
    for space, module in modules.items():
        names[space] = sorted(
            name
            for name, value in vars(module).items()
            if callable(value)
            and not isinstance(value, type)
            and not name.startswith("_")
            and name not in typing.__all__
        )
    return names


def page() -> str:
    """Return the text of the page in Markdown. Needs torch.

    >>> page().splitlines()[0]
    '# Operators'
    """
    names, parts = public_names(), [_HEAD]
    for space in _SPACES:
        supported = [name for name in names[space] if find(f"{space}.{name}")]
        parts.append(f"## {space}: {len(supported)} of {len(names[space])} names\n\n{', '.join(supported)}\n")
        refused: dict[str, list[str]] = {}
        for name in names[space]:
            if name not in supported:
                refused.setdefault(str(reason(f"{space}.{name}")), []).append(name)
        if refused:
            rows = [f"| {why} | {', '.join(listed)} |" for why, listed in sorted(refused.items())]
            parts.append("\n".join(["| Reason | Refused names |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
