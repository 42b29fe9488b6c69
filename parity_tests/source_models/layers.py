"""Layers of another file, some with names that other files have too."""

import math

import torch
from torch import nn

EPS = 1e-3
SCALES = {"small": 0.5, "large": 2.0}


def init_bert_weights(module):
    # as in the paper
    if isinstance(module, (nn.Linear, nn.Embedding)):
        module.weight.data.normal_(mean=0.0, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        module.bias.data.zero_()


class Block(nn.Module):
    """A block with the name of another one."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.fc = nn.Linear(dim, dim)

    def forward(self, x):
        return x + self.fc(self.norm(x))


class ScaledLinear(nn.Linear):
    """A torch layer with another scale."""

    def __init__(self, *args, scale="small", **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = SCALES[scale] / math.sqrt(self.in_features)

    def forward(self, x):
        return super().forward(x) * self.scale


def make_norm(name, dim):
    return NORMS[name](dim)


NORMS = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "none": lambda dim: nn.Identity()}


def table(length, dim):
    position = torch.arange(length).unsqueeze(1)
    return position / torch.pow(torch.tensor(10.0), torch.arange(dim) / dim)
