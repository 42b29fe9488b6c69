"""Version of the package."""

import importlib.metadata
import tomllib
from pathlib import Path


def version() -> str:
    """Return the version of the installed package; in a source tree that is not installed, read ``pyproject.toml``.

    >>> version().count(".") >= 2
    True
    """
    try:
        return importlib.metadata.version("flaxnets")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]


__version__ = version()
