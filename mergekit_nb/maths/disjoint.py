"""TIES' election and disjoint merge: per entry a sign, and what is made of the tasks that have it.

Source: Yadav et al. 2023, arXiv:2306.01708, Algorithm 1; `normfrac`, `normmass` and the merges beyond "dis-mean" are in
the authors' code only.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths.elect import mask, ordered_sum

Elect = Literal["mass", "frequency", "normfrac", "normmass", "none"]
Merge = Literal["dis-mean", "dis-sum", "dis-max", "mean", "sum", "median", "magnitude"]


def signs(
    taus: Float[Tensor, "task *shape"], how: Elect = "mass", squares: Float[Tensor, " task"] | None = None
) -> Float[Tensor, "*shape"] | None:
    """The elected sign of every entry, 0 where the vote is even; None for "none".

    Args:
        taus: task vectors, trimmed.
        how: see `methods.ties.Ties.elect`.
        squares: squared L2 norm of every task's whole vector, for "normfrac" and "normmass".
    """
    if how == "none":
        return None
    if how == "frequency":
        return torch.sign(ordered_sum(torch.sign(taus)))
    if how in ("normfrac", "normmass"):
        share = taus**2 / squares.reshape(-1, *[1] * (taus.ndim - 1))
        share = torch.where(taus == 0, torch.zeros_like(share), share)  # a task that is all zeros has no norm
        if how == "normmass":
            return torch.sign(ordered_sum(torch.sign(taus) * share))
        return torch.sign(_largest(torch.sign(taus) * share))
    return torch.sign(ordered_sum(taus))


def agreement(taus: Float[Tensor, "task *shape"], sign: Float[Tensor, "*shape"] | None) -> Bool[Tensor, "task *shape"]:
    """The tasks that pull the elected way; without an election, all that are not 0 there."""
    return taus != 0 if sign is None else mask(taus, sign)


def combine(
    taus: Float[Tensor, "task *shape"],
    agree: Bool[Tensor, "task *shape"],
    sign: Float[Tensor, "*shape"] | None,
    how: Merge,
    share: Float[Tensor, " task"],
) -> Float[Tensor, "*shape"]:
    """One entry of many: of the tasks that agree ("dis-…"), or of all, given the elected sign where there is one.

    Args:
        share: what an agreeing task adds to the divisor of "dis-mean": 1 to count, its weight to weigh.
    """
    if how.startswith("dis-"):
        return _disjoint(torch.where(agree, taus, torch.zeros_like(taus)), agree, sign, how, share)
    if how in ("magnitude", "median"):
        return _toward(sign, _largest(taus) if how == "magnitude" else taus.median(0).values)
    return _toward(sign, ordered_sum(taus) / (len(taus) if how == "mean" else 1))


def _toward(sign: Tensor | None, merged: Tensor) -> Tensor:
    return merged if sign is None else merged.abs() * sign


def _largest(taus: Tensor) -> Tensor:
    """The entry of the largest magnitude; of two of opposite sign the positive, so that the order of tasks cannot matter."""
    high, low = taus.amax(0), taus.amin(0)
    return torch.where(high >= -low, high, low)


def _disjoint(kept: Tensor, agree: Tensor, sign: Tensor | None, how: Merge, share: Tensor) -> Tensor:
    if how == "dis-max":
        return _toward(sign, _largest(kept))
    summed = ordered_sum(kept)
    if how == "dis-sum":
        return summed
    divisor = ordered_sum(agree * share.reshape(-1, *[1] * (kept.ndim - 1)))
    return torch.where(divisor != 0, summed / torch.where(divisor != 0, divisor, torch.ones_like(divisor)), summed)
