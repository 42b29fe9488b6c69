"""Store the results of a benchmark as JSON, and generate a Markdown page from them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


def save(
    data: Path, page: tuple[Path, Callable[[Results], str]], section: str, name: str, row: Mapping[str, Any]
) -> None:
    """Store one row in a section of the JSON file, and rewrite the page.

    Args:
        data: The JSON file. Other rows in the file stay.
        page: The Markdown file, and the function that returns its text for all results.
        section: The section of the row.
        name: The name of the row.
        row: The values.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(data.read_text()) if data.exists() else {}
    known.setdefault(section, {})[name] = dict(row)
    data.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    path, make = page
    path.write_text(make(known))
