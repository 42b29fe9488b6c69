"""Text as characters: a vocabulary, and windows of a long text."""

import re
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

UNKNOWN = "<unk>"


def letters_and_spaces(text: str) -> str:
    """Return the text in lower case, with one space for every run of characters other than a to z.

    >>> letters_and_spaces("Don't  panic (42)!")
    'don t panic'
    """
    return re.sub("[^a-z]+", " ", text.lower()).strip()


class Vocabulary:
    """Mapping between characters and ids; unknown characters have the id 0.

    Args:
        characters: characters with the ids 1, 2, and so on.

    >>> vocabulary = Vocabulary(" abc")
    >>> len(vocabulary), vocabulary.encode("a cab!").tolist()
    (5, [2, 1, 4, 2, 3, 0])
    >>> vocabulary.decode([4, 2, 3])
    'cab'
    """

    def __init__(self, characters: Sequence[str]):
        self.tokens = (UNKNOWN, *characters)
        self._ids = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of the characters of a text."""
        return np.array([self._ids.get(character, 0) for character in text], np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of these ids."""
        return "".join(self.tokens[i] for i in ids)


def windows(ids: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a text into consecutive windows that do not overlap; drop the remaining ids.

    Returns:
        The windows, and for each id the following id; both ``(num_windows, length)``.

    >>> inputs, targets = windows(np.arange(8), 3)
    >>> inputs.tolist(), targets.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    count = (len(ids) - 1) // length
    shape = count, length
    return ids[: count * length].reshape(shape), ids[1 : count * length + 1].reshape(shape)


def time_major(ids: Int[Array, "n t"]) -> Int[Array, "t n"]:
    """Transpose windows to a language model's input; runs inside the compiled step.

    >>> time_major(jnp.zeros((32, 35), jnp.int32)).shape
    (35, 32)
    """
    return jnp.swapaxes(ids, 0, 1)
