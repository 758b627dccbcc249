"""DPPA: how much of every matrix stays, from how many outliers it and its block have.

Source: Zhu et al. 2024, "DPPA: Pruning Method for Large Language Model to Model Merging", arXiv:2403.02799. The paper's
text was not at hand; the authors' code is followed.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def outliers(x: Float[Tensor, "task *shape"], limit: Float[Tensor, " task"]) -> Float[Tensor, " task"]:
    """How many |x| of every task exceed its limit: float64, whole numbers, adds up over tensors."""
    above = x.abs() > limit.reshape(-1, *[1] * (x.ndim - 1))
    return above.reshape(len(x), -1).sum(1, dtype=torch.float64)


def spread(share: Float[Tensor, "part task"], sizes: Float[Tensor, " part"]) -> Float[Tensor, "part task"]:
    """Shares less their weighted mean, scaled to a largest deviation of 1; 0 where all are the same.

    Args:
        share: share of outliers in every part of a model.
        sizes: what each part counts for in the mean.
    """
    off = share - (share * sizes[:, None]).sum(0) / sizes.sum()
    largest = off.abs().amax(0)
    same = largest < 1e-12  # rounding, where all shares are equal
    return torch.where(same, torch.zeros_like(off), off / torch.where(same, torch.ones_like(largest), largest))


def top(x: Float[Tensor, "*shape"], density: float) -> Bool[Tensor, "*shape"]:
    """True where |x| exceeds the (int(n * (1 - density)) + 1)-th smallest magnitude of the tensor; density 1 or more keeps all."""
    if density >= 1 or not x.numel():
        return torch.ones_like(x, dtype=torch.bool)
    rank = min(int(x.numel() * (1 - max(density, 0.0))) + 1, x.numel())
    return x.abs() > x.abs().flatten().kthvalue(rank).values


def amplify(
    core: Float[Tensor, "*shape"], wide: Float[Tensor, "*shape"], core_ratio: float, wide_ratio: float
) -> Float[Tensor, "*shape"]:
    """DPA: of two prunings of one tensor, each times its ratio, the entry of the larger magnitude."""
    one, other = core_ratio * core, wide_ratio * wide
    return torch.where(one.abs() >= other.abs(), one, other)
