"""Arcee Fusion: take over only the changes that matter unusually much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.importance import importance, unusual
from mergekit_nb.methods.base import Knob, Method, Totals, weighted
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class ArceeFusion(Method):
    """Of every task vector keep the entries whose importance reaches the median + 1.5 interquartile ranges of the tensor's.

    The importance of an entry is |tau| times the Kullback-Leibler divergence, along the last axis, between the softmax of
    the expert's row and that of the base's. mergekit takes one expert; of several the kept entries are added up.

    Attributes:
        scale, weights: as in task arithmetic.

    Where all entries of a tensor are equally important (a row that all move by the same amount), all are kept. Above a
    million entries mergekit estimates the quantiles from a random sample, which no seed fixes; here they are exact. Its
    divergences are float32, here float64 (`maths.importance`).

    Source: mergekit's code, Goddard et al. 2024, "Arcee's MergeKit", arXiv:2403.13257; no paper proposes it.
    """

    scale: Annotated[float, Knob(-2, 5, "multiplier of the sum")] = 1.0
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "arcee_fusion"
    paper: ClassVar[str] = "Goddard et al. 2024, arXiv:2403.13257"
    generic: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = False  # a divergence is no multiple of the change
    commutes: ClassVar[str] = "axes"

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        if not site.size:
            return taus
        base = site.base(taus.double())
        kept = []
        for tau in taus:
            scores = importance(base, tau)
            kept.append(torch.where(scores >= unusual(scores), tau, torch.zeros_like(tau)))
        return torch.stack(kept)

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return self.scale * ordered_sum(weighted(self.edit(site, taus), self.weights))
