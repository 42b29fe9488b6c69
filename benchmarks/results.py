"""Keep the results of a benchmark as JSON, with a page made of them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


def save(
    data: Path, page: tuple[Path, Callable[[Results], str]], section: str, name: str, row: Mapping[str, Any]
) -> None:
    """Put one row into a section of the JSON file, and write the page anew.

    Args:
        data: the JSON file; rows of earlier runs stay in it.
        page: the Markdown file, and the function that makes its text of all results.
        section: of the row.
        name: of the row.
        row: the values.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(data.read_text()) if data.exists() else {}
    known.setdefault(section, {})[name] = dict(row)
    data.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    path, make = page
    path.write_text(make(known))
