"""What the spectral methods share: which tensors they see as matrices, and the mean that the others get."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.weights.site import Site

LEFT_OUT = "text_projection"  # a matrix in CLIP that the authors of TSV and Iso average like a bias


def is_matrix(site: Site) -> bool:
    """Whether a tensor is merged by its singular vectors: all with two axes but CLIP's `text_projection`."""
    return len(site.shape) == 2 and LEFT_OUT not in site.name


def mean(taus: Float[Tensor, "task *shape"]) -> Float[Tensor, "*shape"]:
    """What the other tensors get."""
    return ordered_sum(taus) / len(taus)


def precision(taus: Float[Tensor, "task *shape"]) -> float:
    """The relative precision of the numbers, which decides about the numerical rank."""
    return torch.finfo(taus.dtype).eps
