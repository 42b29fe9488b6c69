"""Folder for files that can be created again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the path of flaxnets' cache folder, ``$XDG_CACHE_HOME/flaxnets``; it may not exist.

    >>> cache_folder().name
    'flaxnets'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxnets"
