"""Plant faults in the files that flaxnets writes and reads, and count the outcomes.

``python -m benchmarks.reliability weights_bit_flip`` plants this fault, as often as its ``long`` count says.
``weights_bit_flip=500`` makes 500 attempts. Without names, all faults are planted. Each row is written to
``docs/reliability.json`` and ``docs/reliability.md`` as soon as it is complete. The tests ``test_weight_faults.py``,
``test_checkpoints.py`` and ``test_command.py`` plant the same faults with the ``short`` counts.
"""

import functools
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks import checkpoint_faults, option_faults, run_faults, weight_faults

DOCS = Path(__file__).parents[1] / "docs"


class Fault(NamedTuple):
    """A fault, and the number of attempts in a test (``short``) and in a run of this module (``long``).

    ``plant(attempts, folder)`` counts the outcomes. *noticed*: flaxnets raised its error and changed nothing.
    *harmless*: the loaded data equal the saved data. *silent*: the loaded data differ, without an error. Any other
    exception is raised.
    """

    plant: Callable[[int, Path], Counter[str]]
    short: int
    long: int


FAULTS = {
    "weights_bit_flip": Fault(functools.partial(weight_faults.flip_bits, "model.safetensors"), 250, 10_000),
    "torch_weights_bit_flip": Fault(functools.partial(weight_faults.flip_bits, "model.pt"), 250, 10_000),
    "weights_truncated": Fault(functools.partial(weight_faults.truncate, "model.safetensors"), 20, 1_000),
    "torch_weights_truncated": Fault(functools.partial(weight_faults.truncate, "model.pt"), 20, 1_000),
    "weights_malformed": Fault(weight_faults.malformed, 2_000, 1_000_000),
    "weights_with_code": Fault(weight_faults.execute, 13, 13),
    "weights_file_size_limit": Fault(weight_faults.limit_file_size, 5, 200),
    "checkpoint_bit_flip": Fault(checkpoint_faults.flip_bits, 150, 10_000),
    "checkpoint_file_lost": Fault(checkpoint_faults.lose, 36, 360),
    "checkpoint_killed_sync": Fault(functools.partial(checkpoint_faults.kill, False), 6, 100),
    "checkpoint_killed_async": Fault(functools.partial(checkpoint_faults.kill, True), 6, 100),
    "checkpoint_file_size_limit": Fault(checkpoint_faults.limit_file_size, 3, 20),
    "checkpoint_disk_full": Fault(checkpoint_faults.fill_disk, 3, 20),
    "run_signalled": Fault(run_faults.signalled, 2, 50),
    "run_signalled_early": Fault(run_faults.signalled_early, 2, 50),
    "option_values": Fault(option_faults.values, 2, 500),
}
_COUNTS = "## Counts\n\n"


def write_table(docs: Path) -> None:
    """Write the counts of ``reliability.json`` to the end of ``reliability.md``."""
    rows = json.loads((docs / "reliability.json").read_text())
    lines = ["| fault | attempts | noticed | harmless | silent | seconds |", "|---|---|---|---|---|---|"]
    for name in [name for name in FAULTS if name in rows]:
        numbers = [f"{rows[name][key]:,}" for key in ("attempts", "noticed", "harmless", "silent", "seconds")]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(numbers)} |")
    text = (docs / "reliability.md").read_text().partition(_COUNTS)[0]
    (docs / "reliability.md").write_text(text + _COUNTS + "\n".join(lines) + "\n")


def main(names: list[str]) -> None:
    """Plant the named faults (default: all), and write the outcomes."""
    logging.getLogger("flaxnets.weights").setLevel("ERROR")
    path = DOCS / "reliability.json"
    for argument in names or FAULTS:
        name, _, attempts = argument.partition("=")
        fault, start = FAULTS[name], time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            outcomes = fault.plant(int(attempts or fault.long), Path(folder))
        row = {kind: outcomes[kind] for kind in ("noticed", "harmless", "silent")}
        row |= {"attempts": outcomes.total(), "seconds": round(time.perf_counter() - start)}
        print(name, json.dumps(row), flush=True)
        rows = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(rows | {name: row}, indent=1, sort_keys=True) + "\n")
        write_table(DOCS)


if __name__ == "__main__":
    main(sys.argv[1:])
