"""REPAIR's arithmetic: the mean and spread that a merged network's features should have, and the layer that gives them.

Source of all of it: Jordan et al. 2023, REPAIR, arXiv:2211.08403; code KellerJordan/REPAIR, the notebook on the closed form.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-5  # added to the merged network's variance, as batch norm does

PerFeature = Float[Tensor, " feature"]
Ends = Float[Tensor, "2 feature"]  # of the networks at both ends


def between(ends: Ends, alpha: float) -> PerFeature:
    """The goal for a mean or a standard deviation: (1 - alpha) of the first network's, alpha of the second's."""
    return (1 - alpha) * ends[0] + alpha * ends[1]


def averaged_variance(std: Ends, correlation: PerFeature, alpha: float) -> PerFeature:
    """The variance of (1 - alpha) x_0 + alpha x_1, out of both standard deviations and their correlation.

    That is the merged network's only where its layer sees the average of the two networks' inputs: in the first layer.
    """
    near, far = (1 - alpha) * std[0], alpha * std[1]
    return near**2 + far**2 + 2 * near * far * correlation


def affine(mean: PerFeature, variance: PerFeature, goal_mean: PerFeature, goal_std: PerFeature):
    """Scale and shift, both "feature", that turn features of one mean and variance into those of another."""
    scale = goal_std / torch.sqrt(variance + EPSILON)
    return scale, goal_mean - scale * mean


def fused(weight: Tensor, bias: Tensor | None, scale: PerFeature, shift: PerFeature) -> tuple[Tensor, Tensor]:
    """The weight "feature ..." and the bias "feature" of a layer whose output is scaled and shifted."""
    wide = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return wide * weight, shift if bias is None else scale * bias + shift
