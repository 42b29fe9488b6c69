"""The end of an error message about an unknown name: similar names, or all known names."""

import difflib


def suggest(name: str, known: list[str]) -> str:
    """Return up to three known names that ``name`` abbreviates or resembles, as a question; otherwise list all.

    >>> suggest("resnet", ["lenet", "resnet18", "vgg"])
    "did you mean 'resnet18' or 'lenet'?"
    >>> suggest("transformer", ["lenet", "vgg"])
    'known: lenet, vgg'
    """
    name = name.lower()
    completions = [candidate for candidate in known if len(name) > 2 and candidate.startswith(name)]
    similar = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    # In this order and each once: a completion is usually similar too.
    names = list(dict.fromkeys([*completions, *similar]))[:3]
    return f"did you mean {' or '.join(map(repr, names))}?" if names else f"known: {', '.join(known)}"
