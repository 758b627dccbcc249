"""What a forward pass costs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


@torch.no_grad()
def flops(model: nn.Module, example: Tensor) -> int:
    """Floating-point operations of one forward pass: of convolutions, matrix products and attention, nothing else.

    A multiplication and an addition are two operations; papers on vision networks often count them as one. A partial
    zip costs one full model and, from the boundary on, one more head for each further model: that is what is counted
    here, since the shared trunk runs once.

    Args:
        model: copied and run in eval mode; it is not touched.
        example: a batch; divide by its length for the cost of one picture.
    """
    from torch.utils.flop_counter import FlopCounterMode  # its import takes longer than most work here

    model = copy.deepcopy(model).eval()
    with FlopCounterMode(display=False) as counter:
        model(example)
    return counter.get_total_flops()
