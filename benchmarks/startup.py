"""Time commands and first training steps in fresh processes: ``python -m benchmarks.startup``."""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from benchmarks import report, rounds

# The last three commands belong to flaxnets. The others are lower bounds for their time.
COMMANDS = {
    "python": ("-c", "pass"),
    "import torch": ("-c", "import torch"),
    "import jax": ("-c", "import jax"),
    "from flax import nnx": ("-c", "from flax import nnx"),
    "import flaxnets": ("-c", "import flaxnets"),
    "train.py --help": ("train.py", "--help"),
    "train.py --list-archs": ("train.py", "--list-archs"),
}

# Networks with many layers, which compile longest, and the values of --kernels.
NETWORKS = ("densenet", "googlenet")
KERNELS = ("auto", "xla")
WHEN = ("cold", "again")


def seconds(arguments: Sequence[str], env: Mapping[str, str]) -> float:
    """Return the wall time of a command. Raises CalledProcessError if the command fails."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=dict(env), cwd=rounds.ROOT, capture_output=True, check=True)
    return time.perf_counter() - started


def first_step(network: str, kernels: str, env: Mapping[str, str]) -> float:
    """Return the time of the first training step minus the time of a later step. Raises KeyError if the run fails."""
    command = [sys.executable, "-m", "benchmarks.worker", "flaxnets", network, "--kernels", kernels]
    return rounds.fresh([*command, "--seconds", "0"], env)["compile_seconds"]


def keeping(folder: str) -> dict[str, str]:
    """Return environment variables with which JAX caches every compiled program in ``folder``, as the commands do."""
    names = ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES")
    return {f"JAX_{name}": value for name, value in zip(names, (folder, "0", "-1"), strict=True)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = rounds.parser("startup", __doc__)
    parser.add_argument("--networks", nargs="*", default=NETWORKS, help="networks whose first training step is timed")
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    conditions = rounds.conditions(options)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as caches:
        env = rounds.environment(options.allocator, caches)
        for i in range(options.rounds + 1):
            for name, command in COMMANDS.items():
                elapsed = seconds(command, env)
                if i:  # the first round only fills the caches of the file system and of bytecode
                    times[name].append(elapsed)
        first_steps = {
            f"{network} {kernels} {when}": []
            for network, kernels, when in itertools.product(options.networks, KERNELS, WHEN)
        }
        for _, network, kernels in itertools.product(range(options.rounds), options.networks, KERNELS):
            with tempfile.TemporaryDirectory(prefix="compiled-", dir=caches) as folder:
                for when in WHEN:
                    elapsed = first_step(network, kernels, {**env, **keeping(folder)})
                    first_steps[f"{network} {kernels} {when}"].append(elapsed)
    for section, times_by_name in (("startup", times), ("first_step", first_steps)):
        for name, values in times_by_name.items():
            print(f"{name}: {rounds.spread(values)['median']:.2f} s", flush=True)
            rounds.save(options.out, section, name, {"seconds": rounds.spread(values), "conditions": conditions})
    report.write(options.out)


if __name__ == "__main__":
    main()
