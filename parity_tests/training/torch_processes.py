"""Train a network of torchref with DistributedDataParallel in one of two processes, and save the parameters.

Run this file as ``python torch_processes.py PORT INDEX FOLDER NAME``. ``NAME.npz`` in the folder contains the initial
parameters and the data. Batch statistics cover all processes, as in torch.nn.SyncBatchNorm, which needs GPUs.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_reduce

import torchref


def synchronized(self: torch.nn.BatchNorm2d, input: torch.Tensor) -> torch.Tensor:
    """Normalize by the mean and variance over the batches of all processes."""
    axes, count = [i for i in range(input.dim()) if i != 1], input.numel() // input.shape[1] * dist.get_world_size()
    shape = [-1 if i == 1 else 1 for i in range(input.dim())]
    mean = all_reduce(input.sum(axes)) / count
    centered = input - mean.view(shape)
    variance = all_reduce((centered**2).sum(axes)) / count
    with torch.no_grad():
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        self.num_batches_tracked.add_(1)
    return centered * (variance + self.eps).rsqrt().view(shape) * self.weight.view(shape) + self.bias.view(shape)


def main(port: str, index: int, folder: Path, name: str) -> None:
    """Train one step on each batch of the data."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=index, world_size=2)
    for kind in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d):
        kind.forward = synchronized
    with np.load(folder / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key not in ("inputs", "targets", "options")}
        inputs, targets = torch.from_numpy(file["inputs"]), torch.from_numpy(file["targets"])
        options = json.loads(str(file["options"]))
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    net = torchref.create_model(name, **options).double()
    net.load_state_dict(arrays)
    net.train()
    parallel = torch.nn.parallel.DistributedDataParallel(net, broadcast_buffers=False)
    optimizer, loss = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9), torch.nn.CrossEntropyLoss()
    half = inputs.shape[1] // 2
    for images, labels in zip(inputs, targets, strict=True):
        rows = slice(index * half, (index + 1) * half)
        optimizer.zero_grad()
        loss(parallel(images[rows]), labels[rows]).backward()
        optimizer.step()
    if index == 0:
        np.savez(folder / f"{name}-torch.npz", **{key: value.numpy() for key, value in net.state_dict().items()})
    # The destructors of the autograd graph and of gloo's threads can deadlock (torch 2.13).
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
