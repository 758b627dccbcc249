"""Features that never vary on the images they are measured on: they correlate with nothing, and yet are as alike as can be."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

STILL = 1e-6  # of a feature's correlation with itself, which is 1 where it varies and 0 where it does not
NEIGHBOUR = 1e-6  # how much less alike than its namesake: of two equal choices the one of the same number is taken


def paired(correlation: Float[Tensor, "feature feature"], models: int) -> Float[Tensor, "feature feature"]:
    """The correlation, with features that never vary counted as alike across models, those of one number most.

    So two dead features become one, which costs nothing, before a dead one is averaged into a live one, which does; and a
    network that is zipped with itself stays what it is.
    """
    still = correlation.diagonal() < STILL
    number = torch.arange(len(correlation), device=correlation.device)
    width = len(correlation) // models
    across = number[:, None] // width != number // width
    alike = 1 - NEIGHBOUR * (number[:, None] % width != number % width).to(correlation.dtype)
    return torch.where(still & still[:, None] & across, alike, correlation)
