"""FR-Merging: task vectors without their low frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.frequency import high_pass
from mergekit_nb.methods.base import Knob, Method, Totals, weighted
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Fr(Method):
    """Filter every matrix in the frequency domain, then add up: base + scale * sum of filtered task vectors.

    The filter keeps frequencies within `radius` of the highest; see `maths.frequency.frequency_weights`. The authors
    measure from the middle of a spectrum they did not shift, so it is a high-pass.

    Attributes:
        radius: in units of the matrix's shorter side.
        others: tensors that are no matrix of a repeated block (the authors' attention and MLP weights) keep the "base"'s
            value, as in the authors' code, or are added up unfiltered ("sum").
        scale, weights: as in task arithmetic; the authors use 0.7 for eight ViTs and 0.15 for thirty.

    The experts and router of FREE-Merging are not in here; they need data.

    Source: Zheng and Wang 2024, "FREE-Merging: Fourier Transform for Efficient Model Merging", arXiv:2411.16815.
    """

    radius: Annotated[float, Knob(0, 1.5, "multiple of the shorter side")] = 0.7
    others: Literal["base", "sum"] = "base"
    scale: Annotated[float, Knob(-2, 5, "multiplier of the sum")] = 0.7
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "fr"
    paper: ClassVar[str] = "Zheng and Wang 2024, arXiv:2411.16815"
    commutes: ClassVar[str] = "nothing"  # neighbours make frequencies

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        if site.block is None or len(site.shape) != 2 or not site.size:
            return taus if self.others == "sum" else torch.zeros_like(taus)
        return high_pass(taus, self.radius)

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return self.scale * ordered_sum(weighted(self.edit(site, taus), self.weights))
