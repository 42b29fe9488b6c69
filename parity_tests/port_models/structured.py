"""Graphs, experts, latents, and other structures."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from port_models.common import Model


class Expert(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def forward(self, x):
        return self.net(x)


class MixtureOfExperts(nn.Module):
    def __init__(self, dim=4, num_experts=4, top_k=2):
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(dim, num_experts, bias=False)
        self.experts = nn.ModuleList([Expert(dim, 2 * dim) for _ in range(num_experts)])

    def forward(self, x):
        logits = self.gate(x)
        weights, selected = torch.topk(logits, self.top_k)
        weights = F.softmax(weights, dim=-1)
        gates = torch.zeros_like(logits).scatter(-1, selected, weights)
        results = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            results += gates[..., i : i + 1] * expert(x)
        importance = gates.flatten(0, -2).sum(0)
        return results, importance.float().var() / (importance.float().mean() ** 2 + 1e-10)


class GraphConv(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.FloatTensor(in_features, out_features))
        self.bias = nn.Parameter(torch.FloatTensor(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / self.weight.size(1) ** 0.5
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)

    def forward(self, x, edge_index):
        src, dst = edge_index
        support = torch.mm(x, self.weight)
        out = torch.zeros_like(support)
        out.index_add_(0, dst, support[src])
        degree = torch.zeros(x.size(0), dtype=x.dtype).index_add(0, dst, torch.ones(dst.size(0), dtype=x.dtype))
        return out / degree.clamp(min=1).unsqueeze(-1) + self.bias


class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = GraphConv(3, 5), GraphConv(5, 2)
        self.dropout = 0.0

    def forward(self, x, edge_index):
        x = F.relu(self.conv1(x, edge_index))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.conv2(x, edge_index)
        return F.log_softmax(x, dim=1)


class Perceiver(nn.Module):
    def __init__(self, num_latents=3, dim=4, heads=2):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(num_latents, dim))
        self.cross = nn.MultiheadAttention(dim, heads, batch_first=True)
        layer = nn.TransformerEncoderLayer(dim, heads, 8, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(dim, 2)

    def forward(self, data, mask=None):
        b, *axis = data.shape
        x = self.latents.unsqueeze(0).repeat(b, 1, 1)
        data = data.reshape(b, -1, data.shape[-1])
        y, _ = self.cross(x, data, data, key_padding_mask=mask)
        x = x + y
        x = self.encoder(x)
        return self.out(x.mean(dim=-2))


class CheckpointedNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)])
        self.use_checkpoint = True

    def forward(self, x):
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


class InPlaceHabits(nn.Module):
    """Views, chains and aliases that change in place."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("running", torch.zeros(4))

    def forward(self, x):
        self.calls += 1
        with torch.no_grad():
            self.running.mul_(0.9).add_(x.mean(0), alpha=0.1)
        y = x.clone()
        z = self.act(y)
        head = y[:, :2]
        head.mul_(3)
        y.view(-1)[0].add_(1)
        y[:, 3].zero_().sub_(1)
        mask = y > 1
        y[mask] = 1.0
        y[:, [0, 1]] += 0.5
        out = torch.empty_like(y)
        torch.add(y, z, out=out)
        w = out.t()
        w *= 2
        return out, head, z, w.contiguous()


class Mixin:
    scale = 0.5

    def scaled(self, x):
        return x * self.scale


class Base(nn.Module):
    hidden = 3

    def __init__(self, n):
        super().__init__()
        self.first = nn.Linear(n, self.hidden)

    @property
    def width(self):
        return self.first.out_features

    def pre(self, x):
        return self.first(x)

    def forward(self, x):
        return self.pre(x) / self.width


class Derived(Mixin, Base):
    hidden = 5

    def __init__(self, n, *extra, **options):
        super().__init__(n)
        self.options = dict(negative_slope=0.3, **options)
        self.extra = nn.Sequential(*extra)
        self._cache = None

    def pre(self, x):
        return F.leaky_relu(super().pre(x), **self.options)

    def forward(self, x, *, bias=None):
        h = self.extra(self.scaled(super().forward(x)))
        if bias is not None:
            h = h + bias
        self._cache = h
        return {"h": h, "norm": h.norm(dim=-1), "pair": (h.min(), h.max())}


MODELS = [
    Model("mixture_of_experts", MixtureOfExperts, lambda: (torch.randn(2, 3, 4),)),
    Model("graph", GraphNet, lambda: (torch.randn(4, 3), torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]]))),
    Model("perceiver", Perceiver, lambda: (torch.randn(2, 2, 3, 4),)),
    Model("checkpointed", CheckpointedNet, lambda: (torch.randn(2, 4),)),
    Model("in_place_habits", InPlaceHabits, lambda: (torch.randn(3, 4),)),
    Model(
        "inheritance",
        lambda: Derived(4, nn.Linear(5, 5), nn.Dropout(0.2)),
        lambda: (torch.randn(2, 4),),
        lambda: {"bias": torch.randn(5)},
    ),
]
