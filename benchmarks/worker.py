"""Times one form of one network in this process, and prints what it found as one line of JSON.

``python -m benchmarks.worker flaxnets resnet18 --batch 32 --seconds 5``. The drivers start it in fresh processes.
"""

import argparse
import functools
import importlib
import json
import math
import os
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.job import Job, Unavailable
from benchmarks.sizes import get_size

# Imported when they are asked for, so that no process holds both frameworks.
FORMS = {
    "torch": ("benchmarks.torch_forms", "contiguous"),
    "torch_channels_last": ("benchmarks.torch_forms", "channels_last"),
    "torch_compile": ("benchmarks.torch_forms", "compiled"),
    "nnx": ("benchmarks.jax_forms", "plain"),
    "flaxnets": ("benchmarks.jax_forms", "ours"),
}
SAMPLE = 0.05  # seconds: so many steps are timed as one that they take about this


def limit_threads(threads: int) -> None:
    """Keeps this process to its first processors; XLA and PyTorch both take as many threads as it has of them."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))


def peak_megabytes() -> float:
    """The largest resident size of this process; getrusage would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def others_cpu_seconds() -> float:
    """Processor time that the machine has spent on all but this process; differences of it count."""
    user, nice, system, _idle, _iowait, *more = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK") - time.process_time()


def measure(prepare: Any, repeats: int, seconds: float, pipelined: bool) -> dict[str, Any]:
    """Times a job's first step, and then samples of several steps, until there are enough of them.

    Args:
        prepare: returns the job.
        repeats: the least number of samples.
        seconds: the least time that the samples take together.
        pipelined: whether the steps of a sample are waited for together, as a training loop does, or one by one.
    """
    prepared_at = time.perf_counter()
    job: Job = prepare()
    built_at = time.perf_counter()
    job.wait(job.step())
    first = time.perf_counter() - built_at
    once = min(_sample(job, 1, pipelined) for _ in range(3))
    steps = max(1, int(min(SAMPLE, seconds / repeats) / once))
    samples: list[float] = []
    faults, others = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, others_cpu_seconds()
    started = time.perf_counter()
    while len(samples) < repeats or time.perf_counter() < started + seconds:
        samples.append(_sample(job, steps, pipelined))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    others = (others_cpu_seconds() - others) / (time.perf_counter() - started)
    result = job.step()
    job.wait(result)
    return {
        "seconds": samples,
        "steps_a_sample": steps,
        "build_seconds": built_at - prepared_at,
        "compile_seconds": max(0.0, first - statistics.median(samples)),
        "page_faults": faults / steps / len(samples),
        "peak_megabytes": peak_megabytes(),
        "others": others,  # processors that other processes kept busy meanwhile
        "finite": math.isfinite(result.sum().item()),
    }


def _sample(job: Job, steps: int, pipelined: bool) -> float:
    """Seconds a step, a mean over so many."""
    started = time.perf_counter()
    result = job.step()
    for _ in range(steps - 1):
        if not pipelined:
            job.wait(result)
        result = job.step()
    job.wait(result)
    return (time.perf_counter() - started) / steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__)
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("network")
    parser.add_argument("--mode", choices=["training", "inference"], default="training")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--shape", type=int, nargs="+", help="of one example")
    parser.add_argument("--options", type=json.loads, default={}, help="of the network, as JSON")
    parser.add_argument("--compute-dtype", choices=["float32", "bfloat16"], default="float32", help="torch by autocast")
    parser.add_argument("--kernels", choices=["auto", "plain", "xla", "onednn"], default="auto", help="flaxnets only")
    parser.add_argument("--repeats", type=int, default=5, help="the least number of samples")
    parser.add_argument("--seconds", type=float, default=5.0, help="the least time that they take together")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    limit_threads(options.threads)
    size = get_size(options.network)
    shape = tuple(options.shape) if options.shape else size.shape
    size = replace(size, batch=options.batch or size.batch, shape=shape, options={**size.options, **options.options})
    module, name = FORMS[options.form]
    training = options.mode == "training"
    found: dict[str, Any] = {"form": options.form, "network": size.network, "mode": options.mode, "batch": size.batch}
    found |= {"shape": size.shape, "threads": len(os.sched_getaffinity(0))}
    try:
        form = getattr(importlib.import_module(module), name)
        if options.compute_dtype != "float32":
            form = functools.partial(form, compute_dtype=options.compute_dtype)
        if options.kernels != "auto":
            form = functools.partial(form, backend=options.kernels)
        found |= measure(lambda: form(size, training), options.repeats, options.seconds, pipelined=training)
    except Unavailable as error:
        found["unavailable"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
