"""Where files are kept that can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Returns ``flaxnets`` in the user's folder for caches; it need not be there.

    >>> cache_folder().name
    'flaxnets'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxnets"
