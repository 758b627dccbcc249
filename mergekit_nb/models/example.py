"""An input that a network takes, found by trying: what tracing it needs where nobody gave one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mergekit_nb.models.watch import evaluating, to_device_of

SIDES = (32, 28, 64, 96, 224, 16, 8)  # of pictures, the commonest first
LENGTHS = (8, 16, 77, 4)  # of texts and signals


def example(module: nn.Module) -> Tensor:
    """One input of zeros, of the shape that the module's first layer asks for and the whole module takes.

    Raises:
        ValueError: nothing that was tried runs.
    """
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    with evaluating(module):
        for x in _guesses(module):
            x = to_device_of(module, x.to(dtype) if x.is_floating_point() else x)
            try:
                module(x)
            except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):
                continue
            return x
    raise ValueError(
        f"no input of a {type(module).__name__} could be guessed: pass batches, or axes=derive(module, an example input)"
    )


def _guesses(module: nn.Module):
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            yield torch.zeros(1, layer.in_features)
            yield from (torch.zeros(1, length, layer.in_features) for length in LENGTHS)
            return
        if isinstance(layer, nn.Conv2d):
            yield from (torch.zeros(1, layer.in_channels, side, side) for side in SIDES)
            return
        if isinstance(layer, nn.Conv1d):
            yield from (torch.zeros(1, layer.in_channels, length) for length in LENGTHS)
            return
        if isinstance(layer, nn.Embedding):
            yield from (torch.zeros(1, length, dtype=torch.long) for length in LENGTHS)
            return
