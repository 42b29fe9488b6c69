"""Time one variant of one network in this process, and print the result as one line of JSON.

Example: ``python -m benchmarks.worker flaxnets resnet18 --batch 32 --seconds 5``. The other benchmarks start this
module in fresh processes.
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

# Module and function of each variant. Modules are imported on demand, so that no process imports both frameworks.
FORMS = {
    "torch": ("benchmarks.torch_forms", "contiguous"),
    "torch_channels_last": ("benchmarks.torch_forms", "channels_last"),
    "torch_compile": ("benchmarks.torch_forms", "compiled"),
    "nnx": ("benchmarks.jax_forms", "plain"),
    "flaxnets": ("benchmarks.jax_forms", "ours"),
}
SAMPLE = 0.05  # approximate seconds of a sample: several fast steps are timed together


def limit_threads(threads: int) -> None:
    """Restrict this process to its first CPUs. XLA and PyTorch both start one thread per CPU of the process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))


def peak_megabytes() -> float:
    """Return the peak resident size of this process. (``getrusage`` would include the peak of the parent process.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def others_cpu_seconds() -> float:
    """Return the CPU time of all other processes since boot. Only differences of two calls are meaningful."""
    user, nice, system, _idle, _iowait, *more = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK") - time.process_time()


def measure(prepare: Any, repeats: int, seconds: float, pipelined: bool) -> dict[str, Any]:
    """Time the first step of a job, and then samples of several steps.

    Args:
        prepare: Returns the job.
        repeats: Minimum number of samples.
        seconds: Minimum total time of the samples.
        pipelined: Wait once per sample, as a training loop does. Otherwise wait after each step.
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
        "others": others,  # average number of CPUs that other processes used during the measurement
        "finite": math.isfinite(result.sum().item()),
    }


def _sample(job: Job, steps: int, pipelined: bool) -> float:
    """Return the seconds per step, the mean over ``steps`` steps."""
    started = time.perf_counter()
    result = job.step()
    for _ in range(steps - 1):
        if not pipelined:
            job.wait(result)
        result = job.step()
    job.wait(result)
    return (time.perf_counter() - started) / steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__)
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("network")
    parser.add_argument("--mode", choices=["training", "inference"], default="training")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--shape", type=int, nargs="+", help="shape of one example")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the network, as JSON")
    parser.add_argument("--compute-dtype", choices=["float32", "bfloat16"], default="float32", help="torch: autocast")
    parser.add_argument("--kernels", choices=["auto", "plain", "xla", "onednn"], default="auto", help="flaxnets only")
    parser.add_argument("--repeats", type=int, default=5, help="minimum number of samples")
    parser.add_argument("--seconds", type=float, default=5.0, help="minimum total time of the samples")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    limit_threads(options.threads)
    size = get_size(options.network)
    shape = tuple(options.shape) if options.shape else size.shape
    size = replace(size, batch=options.batch or size.batch, shape=shape, options={**size.options, **options.options})
    module, name = FORMS[options.form]
    training = options.mode == "training"
    result: dict[str, Any] = {"form": options.form, "network": size.network, "mode": options.mode, "batch": size.batch}
    result |= {"shape": size.shape, "threads": len(os.sched_getaffinity(0))}
    try:
        form = getattr(importlib.import_module(module), name)
        if options.compute_dtype != "float32":
            form = functools.partial(form, compute_dtype=options.compute_dtype)
        if options.kernels != "auto":
            form = functools.partial(form, backend=options.kernels)
        result |= measure(lambda: form(size, training), options.repeats, options.seconds, pipelined=training)
    except Unavailable as error:
        result["unavailable"] = str(error)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
