"""Errors of the port, with file and line in the model's source."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, order=True)
class Refusal:
    """One place in a model's source that cannot be ported.

    Attributes:
        file: the source file.
        line: the line, from 1.
        text: the source text of the place.
        cause: why the place is refused.
        fix: what to do about it.
    """

    file: str
    line: int
    text: str
    cause: str
    fix: str

    def __str__(self) -> str:
        text = " ".join(self.text.split())
        text = text if len(text) <= 100 else text[:97] + "..."
        return f"{self.file}:{self.line}: {text}\n    {self.cause}\n    Fix: {self.fix}"


class PortError(Exception):
    """A model that cannot be ported, or a port whose numbers differ.

    Attributes:
        refusals: all places that were refused; empty if the numbers differ.

    >>> print(PortError([Refusal("net.py", 3, "x.item()", "A value of a tensor is read.", "keep the tensor.")]))
    1 place cannot be ported:
    net.py:3: x.item()
        A value of a tensor is read.
        Fix: keep the tensor.
    """

    def __init__(self, refusals: Sequence[Refusal] = (), message: str = ""):
        # One cause is enough for one place; what the run met comes before what the translation lacks.
        places = {(refusal.file, refusal.line, refusal.text): refusal for refusal in reversed(refusals)}
        self.refusals = tuple(sorted(places.values()))
        count = len(self.refusals)
        title = f"{count} place{'s'[: count != 1]} cannot be ported:"
        super().__init__(message or "\n".join([title, *map(str, self.refusals)]))
