"""Names in state dicts of other programs."""

from collections.abc import MutableMapping
from typing import Any


def consume_prefix_in_state_dict_if_present(state_dict: MutableMapping[str, Any], prefix: str) -> None:
    """Remove a prefix, for example ``"module."``, from all names that start with it, in place.

    Other names stay unchanged. The names in ``state_dict._metadata`` change as well, if present.

    See `its source <https://github.com/pytorch/pytorch/blob/main/torch/nn/modules/utils.py>`_.

    >>> state_dict = {"module.weight": 1, "step": 2}
    >>> consume_prefix_in_state_dict_if_present(state_dict, "module.")
    >>> state_dict
    {'step': 2, 'weight': 1}
    """
    for name in list(state_dict):
        if name.startswith(prefix):
            state_dict[name.removeprefix(prefix)] = state_dict.pop(name)
    metadata = getattr(state_dict, "_metadata", {})
    # The entry of the wrapped module itself is the prefix without its dot.
    for name in list(metadata):
        if name and f"{name}.".startswith(prefix):
            metadata[name[len(prefix) :]] = metadata.pop(name)
