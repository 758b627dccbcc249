"""MagMax: per entry the largest change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.methods.base import Grain, Knob, Method, Totals
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class MagMax(Method):
    """base + scale * the entry of the largest magnitude among the tasks; of equal ones the last task's.

    Equal magnitudes of opposite sign make the order of the tasks count: the method comes from continual learning, where the
    last task is the latest.

    Source: Marczak et al. 2024, "MagMax: Leveraging Model Merging for Seamless Continual Learning", arXiv:2407.06322. The
    default scale is fusion_bench's.
    """

    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 0.5
    name: ClassVar[str] = "magmax"
    paper: ClassVar[str] = "Marczak et al. 2024, arXiv:2407.06322"
    grain: ClassVar[Grain] = "entry"
    symmetric: ClassVar[bool] = False

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        largest = taus[0]
        for tau in taus[1:]:
            largest = torch.where(tau.abs() >= largest.abs(), tau, largest)
        return self.scale * largest
