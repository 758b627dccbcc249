"""A network with other widths: the same modules, holding tensors of other shapes."""

from __future__ import annotations

import copy

from torch import nn

from mergekit_nb.models.watch import submodule
from mergekit_nb.weights.source import Source

WIDENED = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.Embedding,
)  # fmt: skip


def widens(module: nn.Module, tensor: str) -> bool:
    """Whether the module that holds this tensor is known to work with another width."""
    path = tensor.rpartition(".")[0]
    parent = submodule(module, path.rpartition(".")[0])
    return isinstance(submodule(module, path), WIDENED) and not isinstance(parent, nn.MultiheadAttention)


def resized(module: nn.Module, weights: Source) -> nn.Module:
    """A copy of a module that holds these weights, whatever their widths.

    Raises:
        ValueError: a name that the module lacks, or one it has and the weights lack; a module that is not known how to
            widen.
    """
    held = module.state_dict()
    wrong = sorted(held.keys() ^ weights.keys())
    if wrong:
        raise ValueError(f"{wrong[0]} is in only one of the {type(module).__name__} and its new weights")
    made = copy.deepcopy(module)
    for name, tensor in weights.items():
        path, _, last = name.rpartition(".")
        owner = submodule(made, path)
        old = getattr(owner, last)
        if old.shape != tensor.shape:
            new = tensor.detach().clone().to(old)
            setattr(owner, last, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)
            _widen(owner, path)
    made.load_state_dict(dict(weights))
    return made


def _widen(layer: nn.Module, name: str) -> None:
    """Make a layer's own record of its widths that of its weight."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if layer.groups > 1:  # what a group reads keeps its width: there are more of them
            layer.groups = layer.groups * len(layer.weight) // layer.out_channels
        layer.out_channels, layer.in_channels = len(layer.weight), layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        layer.num_features = len(layer.running_mean if layer.weight is None else layer.weight)
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.Embedding):
        layer.num_embeddings, layer.embedding_dim = layer.weight.shape
    else:
        raise ValueError(
            f"{name or 'the model'} is a {type(layer).__name__}, which cannot be widened: let its features be merged (ratio 0)"
        )
