"""Store the results of checks in ``parity_catalogue.json``, and write ``parity_catalogue.md`` from this file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import results

Rows = Mapping[str, Mapping[str, Any]]

_INTRODUCTION = """# What `flaxnets.parity.check` finds

Made by `python -m benchmarks.parity --out docs`. A fault is a small edit of the source of a correct Flax network. The
only inputs of the check are the two networks and example inputs. About half of the faults are in networks of Flax's own
layers, with other names than torch's and images as `(N, H, W, C)`."""


def save(out: Path, part: str, name: str, row: Mapping[str, Any]) -> None:
    """Put a row into ``parity_catalogue.json``, and write the page."""
    results.save(out / "parity_catalogue.json", (out / "parity_catalogue.md", page), part, name, row)


def page(known: Mapping[str, Rows]) -> str:
    """Return the page for all results."""
    parts = [_INTRODUCTION, *([_environment(known["environment"]["here"])] if "environment" in known else [])]
    for part, section in (("alarms", _alarms), ("times", _times), ("faults", _faults), ("trainings", _trainings)):
        if known.get(part):
            parts.append(section(known[part]))
    return "\n\n".join(parts) + "\n"


def _environment(row: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    return (
        f"Machine: {row['processor']}, {row['cores']} cores. Versions: {versions}. Each row is the last run of "
        "its fault. The machine was busy with other work, so the seconds are only a rough guide."
    )


def _faults(rows: Rows) -> str:
    count = len(rows)
    modules, causes = (sum(row[key] for row in rows.values()) for key in ("module_is_right", "cause_is_right"))
    native = [row for row in rows.values() if row["native"]]
    modules_in_native, causes_in_native = (
        sum(row[key] for row in native) for key in ("module_is_right", "cause_is_right")
    )
    lines = "\n".join(f"| {name} | {_fault(row)} |" for name, row in sorted(rows.items()))
    return (
        f"## Planted faults\n\nThe check names the first wrong module of {modules} faults out of {count}, and the "
        f"cause of {causes}. In networks of Flax's own layers, the check names {modules_in_native} modules and "
        f"{causes_in_native} causes of {len(native)} faults. A dot stands for the network itself.{_reports(rows)}\n\n"
        f"| fault | first wrong module (torch / Flax) | cause | seconds |\n|---|---|---|---|\n{lines}"
    )


def _reports(rows: Rows) -> str:
    """Return the table of the users' bug reports that faults reproduce."""
    lines = "\n".join(
        f"| {row['report']} | {name} | {_fault(row).rpartition(' | ')[0]} |"
        for name, row in sorted(rows.items())
        if row.get("report")
    )
    table = "| report | fault that rebuilds the report | first wrong module | cause |\n|---|---|---|---|\n"
    return f"\n\n{table}{lines}\n\nAll faults:" if lines else ""


def _trainings(rows: Rows) -> str:
    right = sum(row["cause_is_right"] for row in rows.values())
    lines = "\n".join(f"| {name} | {_cause(row)} | {row['seconds']:.1f} |" for name, row in sorted(rows.items()))
    return (
        "## Faults in trainings\n\nTwo equal networks are trained, with one fault in the training of the Flax network. "
        f"`check_training` names the cause of {right} faults out of {len(rows)}.\n\n"
        f"| fault | cause | seconds |\n|---|---|---|\n{lines}"
    )


def _cause(row: Mapping[str, Any]) -> str:
    return row["cause"] if row["cause_is_right"] else f"**{row['cause']}**, not {row['expected_cause'][0]}"


def _fault(row: Mapping[str, Any]) -> str:
    module = (
        f"`{row['module']}`" if row["module_is_right"] else f"**{row['module']}**, not `{row['expected_module'][0]}`"
    )
    return f"{module} | {_cause(row)} | {row['seconds']:.1f}"


def _alarms(rows: Rows) -> str:
    passed, checks = (sum(row[key] for row in rows.values()) for key in ("passed", "seeds"))
    lines = "\n".join(f"| {name} | {row['passed']} of {row['seeds']} |" for name, row in sorted(rows.items()))
    return (
        f"## Correct networks\n\n{passed} of {checks} checks of {len(rows)} correct networks pass, each with other "
        f"weights and inputs.\n\n| network | passes |\n|---|---|\n{lines}"
    )


def _times(rows: Rows) -> str:
    def cells(row: Mapping[str, Any]) -> str:
        if "error" in row:
            return f"fails: {row['error']} | | | |"
        used = row["peak_megabytes"] - row["megabytes_before"]
        return (
            f"{'passes' if row['passed'] else 'does not pass'} | {row['seconds']} | {row['cpu_seconds']} | "
            f"{row['model_megabytes']} | {used}"
        )

    lines = "\n".join(f"| {name} | {cells(row)} |" for name, row in sorted(rows.items()))
    return (
        "## Large networks\n\nEach network is checked in a fresh process. *Parameters* are the megabytes of the "
        "parameters in float32. *Check* is the additional peak memory of the check.\n\n"
        "| network | result | seconds | CPU seconds | parameters, MB | check, MB |\n|---|---|---|---|---|---|\n"
        f"{lines}"
    )
