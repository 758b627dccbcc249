"""TALL-masks: which entries of a merged vector each task needs.

Source: Wang et al. 2024, "Localizing Task Information for Improved Model Merging and Compression", arXiv:2405.07813.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor


def tall_masks(
    taus: Float[Tensor, "task *shape"], vector: Float[Tensor, "*shape"], thresholds: Float[Tensor, " task"]
) -> Bool[Tensor, "task *shape"]:
    """True where |tau_t| > threshold_t * |vector - tau_t|: where the base is further from the expert than the merge is."""
    return taus.abs() > thresholds.reshape(-1, *[1] * (taus.ndim - 1)) * (vector - taus).abs()


def votes(masks: Bool[Tensor, "task *shape"]) -> Int[Tensor, "*shape"]:
    """How many tasks need an entry."""
    return masks.sum(0)
