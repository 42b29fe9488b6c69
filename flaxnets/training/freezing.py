"""Freezing parameters, so that training does not update them."""

import fnmatch
from collections.abc import Sequence

from flax import nnx

from flaxnets import state
from flaxnets._suggestions import suggest


def freeze(model: nnx.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze the parameters that match patterns, as ``requires_grad = False`` does in torch.

    Batch normalisation in a frozen module still normalises by the batch and updates its running statistics in
    training, as in torch, where only ``eval()`` stops that.

    Args:
        model: The module, changed in place.
        patterns: Shell patterns, such as ``features.*``. A pattern matches the name of a parameter, or of a module
            that contains the parameter.

    Returns:
        The names of the frozen parameters.

    Raises:
        ValueError: If a pattern matches no name, or if no parameter would remain to train. No parameter is frozen
            after this error.

    >>> import flaxnets
    >>> freeze(flaxnets.create_model("mlp"), ["1"])
    ['1.weight', '1.bias']
    """
    parameters = dict(state.named_parameters(model))
    names = {name: [name, *_modules_above(name)] for name in parameters}
    frozen = set()
    for pattern in patterns:
        matched = {name for name, known in names.items() if fnmatch.filter(known, pattern)}
        if not matched:
            every = sorted({each for known in names.values() for each in known})
            raise ValueError(f"no parameter or module matches {pattern!r}; {suggest(pattern, every)}")
        frozen |= matched
    if len(frozen) == len(parameters) and patterns:
        raise ValueError(
            f"{', '.join(map(repr, patterns))} freezes all {len(frozen)} parameters; nothing is left to train"
        )
    names_frozen = [name for name in parameters if name in frozen]
    for name in names_frozen:
        parameters[name].requires_grad = False  # type: ignore[attr-defined]
    return names_frozen


def _modules_above(name: str) -> list[str]:
    parts = name.split(".")[:-1]
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
