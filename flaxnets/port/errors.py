"""Errors of the port. Each refusal has the file and the line in the model's source."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, order=True)
class Refusal:
    """One place in a model's source that cannot be ported.

    Attributes:
        file: The source file.
        line: The line number, from 1.
        text: The source text of the place.
        cause: Why the place is refused.
        fix: How the user can change the source.
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
    """Raised for a model that cannot be ported, or for a port whose values differ from torch's.

    Attributes:
        refusals: All places that were refused; empty if the values differ.

    >>> print(PortError([Refusal("net.py", 3, "x.item()", "A value of a tensor is read.", "keep the tensor.")]))
    1 place cannot be ported:
    net.py:3: x.item()
        A value of a tensor is read.
        Fix: keep the tensor.
    """

    def __init__(self, refusals: Sequence[Refusal] = (), message: str = ""):
        # One refusal per place is enough. Refusals of the recorded run come first and replace those of the translation.
        places = {(refusal.file, refusal.line, refusal.text): refusal for refusal in reversed(refusals)}
        self.refusals = tuple(sorted(places.values()))
        count = len(self.refusals)
        title = f"{count} place{'s'[: count != 1]} cannot be ported:"
        super().__init__(message or "\n".join([title, *map(str, self.refusals)]))
