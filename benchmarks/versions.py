"""Time training steps with several versions of JAX, each in its own Python environment, interleaved.

``python -m benchmarks.versions .venv/bin/python .venv313/bin/python`` measures the main networks of
``benchmarks/sizes.py``, and a few of them also in bfloat16. PyTorch runs in the environment of the command itself. The
results are written to ``docs/speed.json``, and ``docs/speed.md`` is generated from this file.
"""

import subprocess
from collections.abc import Sequence

from benchmarks import report, rounds
from benchmarks.sizes import JUDGED, get_size

TORCH = ("torch", "torch_channels_last")
BFLOAT16 = ("mlp", "resnet18", "lstm_lm")

_VERSIONS = """
import importlib.metadata, platform
names = ("jax", "flax", "numpy")
print(f"Python {platform.python_version()}:", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
"""


def versions(python: str) -> str:
    """Return the versions in the environment of an interpreter, such as ``Python 3.11.7: jax 0.10.2, ...``."""
    return subprocess.run([python, "-c", _VERSIONS], check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = rounds.parser("versions", __doc__, ["flaxnets", *TORCH])
    parser.add_argument("pythons", nargs="+", help="Python interpreters of the environments to compare")
    parser.add_argument("--networks", nargs="+", default=JUDGED)
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    labels = {versions(python): python for python in options.pythons}
    for name in options.networks:
        size = get_size(name)
        for dtype in ("float32", "bfloat16") if name in BFLOAT16 else ("float32",):
            print(f"{name}, {size.shown()}, {dtype}", flush=True)
            commands = {
                label: rounds.worker("flaxnets", name, options, "--compute-dtype", dtype, python=python)
                for label, python in labels.items()
            }
            if dtype == "float32":
                torch_forms = [form for form in options.forms if form in TORCH]
                commands |= {form: rounds.worker(form, name, options) for form in torch_forms}
            results = rounds.measure(commands, options.rounds, options.allocator)
            record = {"size": size.shown(), "batch": size.batch, "versions": list(labels), **results}
            record["conditions"] = rounds.conditions(options)
            rounds.save(options.out, "versions", f"{name} {dtype}", record)
            report.write(options.out)


if __name__ == "__main__":
    main()
