"""Times commands and first training steps in fresh processes: ``python -m benchmarks.startup``."""

import itertools
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

# Networks of many layers, whose programs take longest to compile; and the kernels that their steps compute with.
NETWORKS = ("densenet", "googlenet")
KERNELS = ("auto", "xla")
WHEN = ("cold", "again")


def seconds(arguments: Sequence[str], env: Mapping[str, str]) -> float:
    """How long a command takes from its start to its end; raises CalledProcessError if it fails."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=dict(env), cwd=rounds.ROOT, capture_output=True, check=True)
    return time.perf_counter() - started


def first_step(network: str, kernels: str, env: Mapping[str, str]) -> float:
    """How much longer the first training step takes than the others; raises KeyError if the process fails."""
    command = [sys.executable, "-m", "benchmarks.worker", "flaxnets", network, "--kernels", kernels]
    return rounds.fresh([*command, "--seconds", "0"], env)["compile_seconds"]


def keeping(folder: str) -> dict[str, str]:
    """Settings with which JAX keeps every compiled program in ``folder``, as the commands have them."""
    names = ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES")
    return {f"JAX_{name}": value for name, value in zip(names, (folder, "0", "-1"), strict=True)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line says."""
    parser = rounds.parser("startup", __doc__)
    parser.add_argument("--networks", nargs="*", default=NETWORKS, help="whose first training step is timed")
    options = parser.parse_args(arguments)
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
        first_steps = {
            f"{network} {kernels} {when}": []
            for network, kernels, when in itertools.product(options.networks, KERNELS, WHEN)
        }
        for _, network, kernels in itertools.product(range(options.rounds), options.networks, KERNELS):
            with tempfile.TemporaryDirectory(prefix="compiled-", dir=caches) as folder:
                for when in WHEN:
                    taken = first_step(network, kernels, {**env, **keeping(folder)})
                    first_steps[f"{network} {kernels} {when}"].append(taken)
    for section, found in (("startup", times), ("first_step", first_steps)):
        for name, values in found.items():
            print(f"{name}: {rounds.spread(values)['median']:.2f} s", flush=True)
            rounds.save(options.out, section, name, {"seconds": rounds.spread(values), "conditions": conditions})
    report.write(options.out)


if __name__ == "__main__":
    main()
