"""Times how long commands take to start, in fresh processes: ``python -m benchmarks.startup``."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from benchmarks import report, rounds

# The last three are ours; the others are what cannot be had for less.
COMMANDS = {
    "python": ("-c", "pass"),
    "import torch": ("-c", "import torch"),
    "import jax": ("-c", "import jax"),
    "from flax import nnx": ("-c", "from flax import nnx"),
    "import flaxnets": ("-c", "import flaxnets"),
    "train.py --help": ("train.py", "--help"),
    "train.py --list-archs": ("train.py", "--list-archs"),
}


def seconds(arguments: Sequence[str], env: Mapping[str, str]) -> float:
    """How long a command takes from its start to its end; raises CalledProcessError if it fails."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=dict(env), cwd=rounds.ROOT, capture_output=True, check=True)
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line says."""
    options = rounds.parser("startup", __doc__).parse_args(arguments)
    rounds.warn_if_busy()
    conditions = rounds.conditions(options)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as caches:
        env = rounds.environment(options.allocator, caches)
        for i in range(options.rounds + 1):
            for name, command in COMMANDS.items():
                taken = seconds(command, env)
                if i:  # the first round only fills the caches of files and of bytecode
                    times[name].append(taken)
    for name, values in times.items():
        print(f"{name}: {rounds.spread(values)['median']:.2f} s", flush=True)
        rounds.save(options.out, "startup", name, {"seconds": rounds.spread(values), "conditions": conditions})
    report.write(options.out)


if __name__ == "__main__":
    main()
