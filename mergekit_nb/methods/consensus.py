"""Consensus merging: only what several tasks need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.tall import tall_masks, votes
from mergekit_nb.methods.base import Grain, Knob, Post, Totals
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Consensus(Post):
    """Keep the entries of the merged vector that at least k tasks need, by their TALL-masks; drop the others.

    A post-processor of any method: `Ties(merge_as="dis-sum") | Consensus()`. Alone it works on the sum of the task vectors.

    Attributes:
        threshold: lambda of the masks, one number or one per task (see `tall_masks`).
        k: how many tasks need an entry that stays: 2 drops what is selfish or used by nobody, 1 the latter only.
        scale: multiplies the result; the masks are made of the vector before it.

    Source: Wang et al. 2024, "Localizing Task Information for Improved Model Merging and Compression", arXiv:2405.07813,
    section 5 (Consensus Merging).
    """

    threshold: Annotated[float, Knob(0, 10, "multiple of the distance to the merged model")] | tuple[float, ...] = 0.4
    k: Annotated[int, Knob(0, 100, "number of tasks that need an entry", 1)] = 2
    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 0.3
    name: ClassVar[str] = "consensus"
    paper: ClassVar[str] = "Wang et al. 2024, arXiv:2405.07813"
    grain: ClassVar[Grain] = "entry"
    per_task: ClassVar[tuple[str, ...]] = ("threshold",)

    def post(
        self, site: Site, taus: Float[Tensor, "task *shape"], vector: Float[Tensor, "*shape"], totals: Totals
    ) -> Float[Tensor, "*shape"]:
        numbers = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * len(taus)
        masks = tall_masks(taus, vector, torch.tensor(numbers, dtype=taus.dtype, device=taus.device))
        return self.scale * torch.where(votes(masks) >= self.k, vector, torch.zeros_like(vector))
