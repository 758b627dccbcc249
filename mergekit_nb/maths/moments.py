"""First and second moments of features, batch by batch, and the covariances and correlations that they add up to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1 << 16  # samples multiplied at once: what is turned to float64 stays small
FLOOR = 1e-7  # of the product of two standard deviations, as in ZipIt!'s code: a feature without variance correlates with none
ROUNDING = 1e-13  # of a mean square: float32 features that differ at all have a larger variance


@dataclass(frozen=True)
class Moments:
    """Weighted sums over batches; two of them add up.

    Attributes:
        weight: of all batches together.
        first: "feature", float64; the batches' means, times their weights.
        second: "feature feature", float64; the batches' means of x x^T, times their weights.
    """

    weight: float
    first: Float[Tensor, " feature"]
    second: Float[Tensor, "feature feature"]

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.weight + other.weight, self.first + other.first, self.second + other.second)

    @property
    def mean(self) -> Float[Tensor, " feature"]:
        """The weighted mean over batches."""
        return self.first / self.weight

    def covariance(self) -> Float[Tensor, "feature feature"]:
        """E[x x^T] - E[x] E[x]^T, biased, symmetric to the last bit; 0 for a feature whose variance is rounding."""
        squares = self.second / self.weight
        c = squares - torch.outer(self.mean, self.mean)
        c = (c + c.T) / 2
        still = c.diagonal() <= ROUNDING * squares.diagonal()
        c[still], c[:, still] = 0, 0
        return c

    def correlation(self) -> Float[Tensor, "feature feature"]:
        """The covariance in units of the standard deviations."""
        return correlation(self.covariance())


def moments(features: Float[Tensor, "feature sample"], weight: float) -> Moments:
    """The moments of one batch. What is NaN or infinite counts as 0.

    Args:
        weight: how much the batch counts: its number of images in ZipIt!'s code, whatever the images' sizes.

    Source: Stoica et al. 2023, ZipIt!, arXiv:2305.03053; code gstoica27/ZipIt, metric_calculators.py, CovarianceMetric,
        which does the same in float32.
    """
    first = torch.zeros(len(features), dtype=torch.float64, device=features.device)
    second = torch.zeros(len(features), len(features), dtype=torch.float64, device=features.device)
    for part in features.split(CHUNK, 1):
        x = finite(part).double()
        first += x.sum(1)
        second.addmm_(x, x.T)
    scale = weight / features.shape[1]
    return Moments(float(weight), first * scale, second.mul_(scale))


def finite(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same numbers, 0 for those that are NaN or infinite."""
    return torch.nan_to_num(x, 0.0, 0.0, 0.0)


def correlation(covariance: Float[Tensor, "feature feature"]) -> Float[Tensor, "feature feature"]:
    """Covariance over the product of the standard deviations, which counts as at least 1e-7.

    So a feature that never varies correlates with nothing, itself included.
    """
    spread = covariance.diagonal().clamp(min=0).sqrt()
    return covariance / torch.outer(spread, spread).clamp(min=FLOOR)
