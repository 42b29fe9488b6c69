"""Makes ``porting_speed.md`` of ``porting.json``."""

from pathlib import Path


def write(out: Path) -> None:
    """Write the page."""
