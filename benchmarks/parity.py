"""Measure ``flaxnets.parity``: diagnoses of planted faults, checks of correct networks, and time of large checks.

``python -m benchmarks.parity --out docs`` writes ``docs/parity_catalogue.json``, and ``docs/parity_catalogue.md`` from
this file. ``--parts`` selects the parts to run, ``--networks 'resnet*'`` the networks. The faults are defined in
``parity_tests/parity_faults``.
"""

import argparse
import fnmatch
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import parity_report
from benchmarks.rounds import ROOT, processor

PARTS = ("faults", "trainings", "alarms", "times")
SEEDS = 20

# Large checks: torch's network, the Flax network, the shape of the images, and options of the check.
LARGE: dict[str, tuple[str, str, tuple[int, ...], dict[str, Any]]] = {
    "densenet": (
        "torchref.create_model('densenet')",
        "flaxnets.create_model('densenet')",
        (2, 1, 96, 96),
        {},
    ),
    "vit_b_16": (
        "vit_torch.ViT(image_size=224, patch_size=16, dim=768, depth=12, num_heads=12, mlp_dim=3072, num_classes=1000)",
        "vit_flax.VisionTransformer(image=224, patch=16, features=768, depth=12, heads=12, hidden=3072, "
        "num_classes=1000, rngs=nnx.Rngs(0))",
        (1, 3, 224, 224),
        {"modes": ("eval",), "gradients": False},
    ),
}


def _chosen(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def plant(patterns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Check each faulty network, and yield the module and the cause that the check names."""
    import jax
    from parity_faults import FAULTS
    from parity_faults.judging import judge

    network = ""
    for fault in FAULTS:
        if not (_chosen(fault.network, patterns) or _chosen(str(fault), patterns)):
            continue
        if fault.network != network:
            jax.clear_caches()
        network = fault.network
        started = time.perf_counter()
        row = {"native": fault.native, "expected_module": list(fault.where), "expected_cause": list(fault.causes)}
        row |= {"report": fault.report} if fault.report else {}
        try:
            verdict = judge(fault)
            row |= {
                "module": verdict.where,
                "cause": verdict.cause,
                "module_is_right": verdict.module_is_right and not verdict.report.passed,
                "cause_is_right": verdict.cause_is_right,
            }
        except Exception as error:
            row |= {"module": None, "cause": None, "module_is_right": False, "cause_is_right": False}
            row["error"] = f"{type(error).__name__}: {error}"[:500]
        yield str(fault), row | {"seconds": round(time.perf_counter() - started, 2)}


def train(patterns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train networks with a fault in the optimizer or in the loss, and yield the cause that is named."""
    from parity_faults.trainings import TRAINING_FAULTS

    for fault in TRAINING_FAULTS:
        if _chosen(fault.network, patterns) or _chosen(str(fault), patterns):
            started = time.perf_counter()
            is_right, report = fault.judge()
            yield (
                str(fault),
                {
                    "cause": report.cause and report.cause.name,
                    "expected_cause": list(fault.causes),
                    "cause_is_right": is_right,
                    "seconds": round(time.perf_counter() - started, 2),
                },
            )


def raise_no_alarm(patterns: Sequence[str], seeds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Check each correct network with several seeds, and yield how often the check passes.

    Each seed draws different weights and inputs. The modules are built and matched once.
    """
    import jax
    import numpy as np
    from cases import NETWORKS
    from flax import nnx
    from native_models import PAIRS

    from flaxnets.parity import check

    registered = [(f"flaxnets {row.name}", row.pair, row.inputs, dict(row.check)) for row in NETWORKS]
    native = [
        (
            pair.name,
            lambda pair=pair: (pair.torch_type()(), pair.flax_type()(rngs=nnx.Rngs(0))),
            pair.inputs,
            {"modes": ("eval",)} if pair.normalizes_batches else {},
        )
        for pair in PAIRS
    ]
    for name, make, inputs, options in [*registered, *native]:
        if not _chosen(name, patterns):
            continue
        jax.clear_caches()
        started, alarms = time.perf_counter(), []
        pair, matching = make(), None
        for seed in range(seeds):
            arguments = inputs(np.random.default_rng(seed))
            settings = {"dtypes": ("float64",), "runs": ("eager",), "seed": seed, **options}
            report = check(*pair, *arguments, matching=matching, **settings)
            matching = report.matching
            if not report.passed:
                alarms.append(f"seed {seed}: {report}")
        seconds = round(time.perf_counter() - started, 2)
        yield name, {"passed": seeds - len(alarms), "seeds": seeds, "alarms": alarms, "seconds": seconds}


def measure(name: str) -> dict[str, Any]:
    """Check one large network in this process, and return the seconds and megabytes of the check."""
    import resource

    import numpy as np
    from flax import nnx
    from native_models.flax_side import vit as vit_flax
    from native_models.torch_side import vit as vit_torch

    import flaxnets
    import torchref
    from flaxnets.parity import check

    torch_text, flax_text, shape, options = LARGE[name]
    scope = {"torchref": torchref, "flaxnets": flaxnets, "vit_torch": vit_torch, "vit_flax": vit_flax, "nnx": nnx}
    torch_module, flax_module = eval(torch_text, scope), eval(flax_text, scope)
    images = np.random.default_rng(0).normal(size=shape)
    megabytes = sum(p.numel() for p in torch_module.parameters()) * 4 / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, cpu_started = time.perf_counter(), time.process_time()
    report = check(torch_module, flax_module, images, **options)
    return {
        "passed": report.passed,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "model_megabytes": round(megabytes),
        "megabytes_before": round(before),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _in_fresh_process(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.parity", "--measure", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    if done.returncode:
        return {"passed": False, "error": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, Any]:
    """Return the processor, the number of cores, and the versions of Python, JAX, Flax and torch."""
    names = ("jax", "flax", "torch")
    return {
        "processor": processor("model name"),
        "cores": os.cpu_count(),
        "versions": {"Python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--networks", nargs="+", default=["*"], help="patterns of names of networks or faults")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of checks of each correct network")
    parser.add_argument("--out", type=Path, help="folder of the results (default: results are only printed)")
    parser.add_argument("--measure", choices=list(LARGE), help="check one large network in this process")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT / "parity_tests"))
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    if options.out:
        parity_report.save(options.out, "environment", "here", environment())
    results = {
        "faults": lambda: plant(options.networks),
        "trainings": lambda: train(options.networks),
        "alarms": lambda: raise_no_alarm(options.networks, options.seeds),
        "times": lambda: ((name, _in_fresh_process(name)) for name in LARGE if _chosen(name, options.networks)),
    }
    for part in options.parts:
        for name, row in results[part]():
            print(part, name, json.dumps(row), flush=True)
            if options.out:
                parity_report.save(options.out, part, name, row)


if __name__ == "__main__":
    main()
