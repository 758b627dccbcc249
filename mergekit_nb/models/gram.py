"""Gram matrices of the inputs of linear and convolutional layers: what least squares on a layer needs to know of the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mergekit_nb.maths.moments import CHUNK, finite

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def rows(layer: nn.Module, x: Tensor) -> Tensor:
    """The vectors that a layer's weight is multiplied with: "group in sample".

    Args:
        layer: Linear, Conv1d or Conv2d; a convolution sees patches, "in" being its weight's axes from 1 on, flattened.
        x: what goes into the layer.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1]).T[None]
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        x, padding = F.pad(x, layer._reversed_padding_repeated_twice, _mode(layer)), (0,) * len(layer.kernel_size)
    else:
        padding = layer.padding
    flat = isinstance(layer, nn.Conv1d)
    wide = [(1, *pair) if flat else pair for pair in (layer.kernel_size, layer.dilation, layer.stride)]
    patches = F.unfold(x[:, :, None] if flat else x, wide[0], wide[1], (0, *padding) if flat else padding, wide[2])
    return patches.unflatten(1, (layer.groups, -1)).permute(1, 2, 0, 3).flatten(2)


def gram(x: Tensor) -> Tensor:
    """Sum of v v^T over samples, in float64: "group in sample" -> "group in in". NaN and infinite entries count as 0.

    It stays on the device of `x`, or on the CPU where that has no float64 (MPS).
    """
    x = x.cpu() if x.device.type == "mps" else x
    total = torch.zeros(len(x), x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for part in x.split(CHUNK, 2):
        wide = finite(part).double()
        total.baddbmm_(wide, wide.mT)
    return total


def attention_output(layer: nn.MultiheadAttention, args: tuple, kwargs: dict) -> Tensor:
    """What goes into the output projection of an attention, which never calls it as a module: the same attention with
    the identity for a projection."""
    plain = {"layer.out_proj.weight": torch.eye(layer.embed_dim).to(layer.out_proj.weight)}
    if layer.out_proj.bias is not None:
        plain["layer.out_proj.bias"] = torch.zeros_like(layer.out_proj.bias)
    return functional_call(_Unhooked(layer), plain, args, kwargs)[0]


class _Unhooked(nn.Module):
    """A layer whose hooks do not run."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, *args, **kwargs):
        return self.layer.forward(*args, **kwargs)


def _mode(layer: nn.Module) -> str:
    return "constant" if layer.padding_mode == "zeros" else layer.padding_mode
