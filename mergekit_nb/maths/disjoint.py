"""TIES' election and disjoint merge: per entry a sign, and what is made of the tasks that have it.

Source: Yadav et al. 2023, arXiv:2306.01708, Algorithm 1; `normfrac`, `normmass` and the merges beyond "dis-mean" are in
the authors' code only.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
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
        return torch.sign(taus.gather(0, share.argmax(0, keepdim=True)).squeeze(0))
    return torch.sign(ordered_sum(taus))


def combine(
    taus: Float[Tensor, "task *shape"], sign: Float[Tensor, "*shape"], how: Merge, share: Float[Tensor, " task"]
) -> Float[Tensor, "*shape"]:
    """One entry of many: of those that have the elected sign ("dis-…"), or of all, given that sign.

    Args:
        sign: the elected sign; None lets every task that is not 0 there agree, and every sum keep its own sign.
        share: what an agreeing task adds to the divisor of "dis-mean": 1 to count, its weight to weigh.
    """
    if how.startswith("dis-"):
        return _disjoint(taus, sign, how, share.reshape(-1, *[1] * (taus.ndim - 1)))
    if how == "magnitude":
        return _toward(sign, taus.gather(0, taus.abs().argmax(0, keepdim=True)).squeeze(0))
    if how == "median":
        return _toward(sign, taus.median(0).values)
    return _toward(sign, ordered_sum(taus) / (len(taus) if how == "mean" else 1))


def _toward(sign: Tensor | None, merged: Tensor) -> Tensor:
    return merged if sign is None else merged.abs() * sign


def _disjoint(taus: Tensor, sign: Tensor | None, how: Merge, share: Tensor) -> Tensor:
    agree = taus != 0 if sign is None else mask(taus, sign)
    kept = torch.where(agree, taus, torch.zeros_like(taus))
    if how == "dis-max":
        return _toward(sign, kept.gather(0, kept.abs().argmax(0, keepdim=True)).squeeze(0))
    summed = ordered_sum(kept)
    if how == "dis-sum":
        return summed
    divisor = ordered_sum(torch.where(agree, share, torch.zeros_like(share)))
    return torch.where(divisor != 0, summed / torch.where(divisor != 0, divisor, torch.ones_like(divisor)), summed)
