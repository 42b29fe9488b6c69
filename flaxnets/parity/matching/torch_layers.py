"""Describe the layers of a torch module in the same terms as Flax's layers: kinds, roles and shapes.

Composite layers of torch are split into the layers that Flax has: attention into projections, and recurrent layers into
cells.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flaxnets.parity._torch import torch
from flaxnets.parity.trees import join

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """The torch tensors of one role.

    Attributes:
        names: state-dict names.
        shape: shape after the steps.
        steps: the steps that select or join the values of the role, such as ``"rows(0:4)"`` or ``"sum"``.
        optional: whether the Flax side may have no partner, for example for buffers that both sides compute.
    """

    names: tuple[str, ...]
    shape: Shape
    steps: str = "same"
    optional: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class TorchLayer:
    """A torch layer, or the part of a torch layer that is a separate layer in Flax, such as the query projection."""

    name: str
    kind: str
    type: str
    sources: Mapping[str, Source]
    label: str = ""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Return the shapes of all roles."""
        return {role: source.shape for role, source in self.sources.items()}


# For each kind of layer: torch's classes, the kind, and the name of the type, which Flax's layers share.
TORCH_KINDS: Sequence[tuple[tuple[type, ...], str, str]] = (
    ((torch.nn.Linear,), "linear", "Linear"),
    ((torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d), "conv", "Conv"),
    (
        (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d),
        "transposed conv",
        "ConvTranspose",
    ),
    ((torch.nn.InstanceNorm1d, torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d), "norm", "InstanceNorm"),
    (
        (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm),
        "batch norm",
        "BatchNorm",
    ),
    ((torch.nn.LayerNorm,), "norm", "LayerNorm"),
    ((torch.nn.RMSNorm,), "norm", "RMSNorm"),
    ((torch.nn.GroupNorm,), "norm", "GroupNorm"),
    ((torch.nn.Embedding, torch.nn.EmbeddingBag), "embedding", "Embedding"),
    ((torch.nn.PReLU,), "prelu", "PReLU"),
)


def torch_layers(module: Any, whole: Collection[str] = ()) -> list[TorchLayer]:
    """Return the layers of a torch module in the order of their definition, with each shared module once.

    Args:
        module: any torch module.
        whole: names of ``torch.nn`` classes that the Flax module has as one layer, as ``flaxnets.nn`` does. These
            layers are not split.

    >>> [layer.label for layer in torch_layers(torch.nn.MultiheadAttention(4, 2))]
    ['query', 'key', 'value', 'out_proj']
    """
    result: list[TorchLayer] = []
    seen: set[int] = set()
    for name, child in module.named_modules():
        tensors = {
            key: tensor for key, tensor in [*child._parameters.items(), *child._buffers.items()] if tensor is not None
        }
        tied = {key for key, tensor in tensors.items() if id(tensor) in seen}
        if tied == set(tensors) and isinstance(child, torch.nn.modules.linear.NonDynamicallyQuantizableLinear):
            continue  # The output projection of an attention layer is already a part of that layer.
        if isinstance(child, torch.nn.MultiheadAttention) and type(child).__name__ not in whole:
            # The output projection is a submodule that torch never calls: it calls a function with its weights.
            seen.update(id(tensor) for tensor in child.out_proj.parameters())
        seen.update(id(tensor) for tensor in tensors.values())
        if tensors:
            parts = _torch_parts(name, child, tensors, whole)
            result += [_with_optional(part, {join(name, key) for key in tied}) for part in parts]
    return result


def _with_optional(layer: TorchLayer, names: Collection[str]) -> TorchLayer:
    """Mark the tensors that an earlier layer also has as optional, since Flax may share the variable."""
    sources = {
        role: dataclasses.replace(source, optional=source.optional or set(source.names) <= set(names))
        for role, source in layer.sources.items()
    }
    return dataclasses.replace(layer, sources=sources)


def _torch_parts(name: str, module: Any, tensors: Mapping[str, Any], whole: Collection[str]) -> list[TorchLayer]:
    if type(module).__name__ in whole:
        return [_plain(name, f"torch {type(module).__name__}", module, tensors)]
    if isinstance(module, (torch.nn.RNNBase, torch.nn.RNNCellBase)):
        return _cells(name, module, tensors)
    if isinstance(module, torch.nn.MultiheadAttention):
        return _attention(name, module, tensors)
    for types, kind, _ in TORCH_KINDS:
        if isinstance(module, types):
            return [_plain(name, kind, module, tensors)]
    return [_plain(name, "parameters", module, tensors)]


def _plain(name: str, kind: str, module: Any, tensors: Mapping[str, Any]) -> TorchLayer:
    type_ = next((label for types, _, label in TORCH_KINDS if isinstance(module, types)), type(module).__name__)
    has_statistics = kind in ("batch norm", "norm")
    sources = {
        key: Source(
            (join(name, key),),
            tuple(tensor.shape),
            optional=key in module._buffers and not (has_statistics and key.startswith("running_")),
        )
        for key, tensor in tensors.items()
    }
    return TorchLayer(name, kind, type_, sources, name)


def _cells(name: str, module: Any, tensors: Mapping[str, Any]) -> list[TorchLayer]:
    """Return one cell for each layer and direction. The source ``bias`` combines the two biases, as in Flax's cells."""
    type_ = type(module).__name__.removesuffix("Cell").lower()
    suffixes = dict.fromkeys(key.partition("weight_ih")[2] for key in tensors if key.startswith("weight_ih"))
    result = []
    for suffix in suffixes:
        sources = {
            role: Source((join(name, role + suffix),), tuple(tensors[role + suffix].shape))
            for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
            if role + suffix in tensors
        }
        if "bias_ih" in sources and "bias_hh" in sources:
            names = (*sources["bias_ih"].names, *sources["bias_hh"].names)
            sources["bias"] = Source(names, sources["bias_ih"].shape, "gru bias" if type_ == "gru" else "sum")
        direction = ".backward" if suffix.endswith("_reverse") else ".forward" if len(suffixes) > 1 else ""
        label = f"{name}{suffix.removesuffix('_reverse').replace('_l', '.')}{direction}"
        result.append(TorchLayer(name, "cell", type_, sources, label))
    return result


def _attention(name: str, module: Any, tensors: Mapping[str, Any]) -> list[TorchLayer]:
    embed = module.embed_dim
    result = []
    for number, part in enumerate(("query", "key", "value")):
        rows = f"rows({number * embed}:{(number + 1) * embed})"
        sources = {}
        if "in_proj_weight" in tensors:
            shape = (embed, tensors["in_proj_weight"].shape[1])
            sources["weight"] = Source((join(name, "in_proj_weight"),), shape, rows)
        else:
            key = f"{part[0]}_proj_weight"
            sources["weight"] = Source((join(name, key),), tuple(tensors[key].shape))
        if "in_proj_bias" in tensors:
            sources["bias"] = Source((join(name, "in_proj_bias"),), (embed,), rows)
        result.append(TorchLayer(name, "linear", "Linear", sources, join(name, part)))
    outputs = {key: p for key, p in module.out_proj._parameters.items() if p is not None}
    result.append(_plain(join(name, "out_proj"), "linear", module.out_proj, outputs))
    rest = {key: tensors[key] for key in ("bias_k", "bias_v") if key in tensors}
    return [*result, _plain(name, "parameters", module, rest)] if rest else result
