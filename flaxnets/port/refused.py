"""Callables of torch that have no row in the operator table, each with the reason."""

_REASONS = {
    "the shape of its result depends on values": """
        torch.unique torch.Tensor.unique
    """,
}

REFUSED = {name: reason for reason, names in _REASONS.items() for name in names.split()}
