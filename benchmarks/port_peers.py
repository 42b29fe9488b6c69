"""Time forward and backward of torchvision's models: ported by flaxnets, and run by torchax and torch2jax.

``python -m benchmarks.port_peers resnet18 vit_b_32 --peers .peers/bin/python --out docs`` prints milliseconds and
writes them to ``docs/porting.json``. torchax and torch2jax need a separate environment. All variants run in evaluation
mode, in float32, with the same batch, weights and threads. Each run has a fresh process, one after the other, in
rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import porting_report, rounds
from benchmarks.port import builders, load

FORMS = ("flaxnets", "torchax", "torch2jax")
Step = Callable[[], Any]


def _flaxnets(model: Any, images: Any) -> Step:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from flaxnets import kernels, xla
    from flaxnets.kernels import onednn
    from flaxnets.port import from_torch

    port = from_torch(model, (images,), check=False).eval()
    graphdef, params, rest = nnx.split(port, nnx.Param, ...)

    def loss(params: Any, rest: Any, x: Any) -> Any:
        return jnp.square(nnx.merge(graphdef, params, rest, copy=True)(x)).mean()

    with kernels.use("onednn" if onednn.is_supported() else "xla"):  # the backend of flaxnets.training.fit
        step = jax.jit(jax.value_and_grad(loss), compiler_options=xla.compiler_options({}))
        arguments = params, rest, jnp.asarray(images.numpy())
        compiled = step.lower(*arguments).compile()
    return lambda: jax.block_until_ready(compiled(*arguments))


def _torchax(model: Any, images: Any) -> Step:
    import jax
    import jax.numpy as jnp
    import torch

    # torchax uses operator overloads for named dimensions, which torch 2.13 has removed.
    packet: Any = torch._ops.OpOverloadPacket
    original = packet.__getattr__

    def __getattr__(self: Any, key: str) -> Any:
        return object() if "dimname" in key.lower() or "names" in key else original(self, key)

    packet.__getattr__ = __getattr__
    import torchax

    states, function = torchax.extract_jax(model)
    x = jnp.asarray(images.numpy())
    floats = {name: value for name, value in states.items() if jnp.issubdtype(value.dtype, jnp.floating)}
    others = {name: value for name, value in states.items() if name not in floats}

    def loss(floats: Any, others: Any, x: Any) -> Any:
        return jnp.square(function({**floats, **others}, (x,))).mean()

    step = jax.jit(jax.value_and_grad(loss))
    return lambda: jax.block_until_ready(step(floats, others, x))


def _torch2jax(model: Any, images: Any) -> Step:
    import jax
    import jax.numpy as jnp
    from torch2jax import t2j

    function, x = t2j(model), t2j(images)
    params = {name: t2j(value) for name, value in model.named_parameters()}
    buffers = {name: t2j(value) for name, value in model.named_buffers()}

    def loss(params: Any, buffers: Any, x: Any) -> Any:
        return jnp.square(function(x, state_dict={**params, **buffers})).mean()

    step = jax.jit(jax.value_and_grad(loss))
    return lambda: jax.block_until_ready(step(params, buffers, x))


def measure(form: str, name: str, batch: int, size: int, seconds: float) -> dict[str, Any]:
    """Time the steps of one variant in this process, and return the seconds of each step."""
    import torch

    torch.manual_seed(0)
    model = builders(load("torchvision.models"))[name]().eval()
    started = time.perf_counter()
    step = globals()[f"_{form}"](model, torch.randn(batch, 3, size, size))
    value = step()[0]
    preparing, times, until = time.perf_counter() - started, [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return {"seconds": times, "prepare_seconds": preparing, "loss": float(value)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.port_peers", description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--peers", help="Python interpreter of the environment with torchax and torch2jax")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder of porting.json and porting_speed.md (default: only print)")
    parser.add_argument("--here", action="store_true", help="measure one variant of one model in this process")
    options = parser.parse_args(arguments)
    if options.here:
        result = measure(options.forms[0], options.models[0], options.batch, options.size, options.seconds)
        print(json.dumps(result))
        return
    rounds.warn_if_busy()
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "PASSIVE", **rounds.ALLOCATORS["keep"]}
    env["PYTHONPATH"] = str(rounds.ROOT)
    sizes = ["--batch", str(options.batch), "--size", str(options.size), "--seconds", str(options.seconds)]
    for name in options.models:
        times: dict[str, list[float]] = {form: [] for form in options.forms}
        for _ in range(options.rounds):
            for form in options.forms:
                python = sys.executable if form == "flaxnets" else options.peers or sys.executable
                command = [python, "-W", "ignore", "-m", "benchmarks.port_peers", name, "--here", "--forms", form]
                done = subprocess.run([*command, *sizes], cwd=rounds.ROOT, env=env, capture_output=True, text=True)
                if done.returncode:
                    print(f"{name} {form}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", flush=True)
                    continue
                result = json.loads(done.stdout.splitlines()[-1])
                times[form].append(statistics.median(result["seconds"]))
                print(f"{name} {form}: {times[form][-1] * 1e3:.1f} ms, loss {result['loss']:.6g}", flush=True)
        if options.out:
            row = {form: round(statistics.median(medians) * 1e3, 1) for form, medians in times.items() if medians}
            porting_report.save(options.out, "peers", f"{name}, {options.batch} images of {options.size}", row)


if __name__ == "__main__":
    main()
