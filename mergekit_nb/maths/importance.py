"""Arcee Fusion's importance of a change, and what counts as unusually important.

Source: mergekit's code, Goddard et al. 2024, arXiv:2403.13257; no paper proposes it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST = 1e-8  # mergekit adds it to every probability


def importance(base: Float[Tensor, "*shape"], tau: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """|tau| times how far the row it lies in has moved: KL(softmax(base + tau) | softmax(base)) along the last axis.

    In float64: the divergence of rows that differ by 1e-4 is about 1e-8, which float32 cannot tell from rounding.
    """
    before, after = base.double(), base.double() + tau.double()
    p, q = (torch.softmax(x, -1) + SMALLEST for x in (after, before))
    moved = (p * (p / q).log()).sum(-1, keepdim=base.ndim > 0)
    return tau.double().abs() * moved


def unusual(scores: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Median + 1.5 * (upper - lower quartile); of n scores the quantile r is the int(r * (n - 1))-th from 0, exact."""
    ordered = scores.flatten().sort().values
    lower, median, upper = (ordered[int(r * (len(ordered) - 1))] for r in (0.25, 0.5, 0.75))
    return median + 1.5 * (upper - lower)
