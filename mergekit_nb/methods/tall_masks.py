"""TALL-masks: one merged vector, and a bit mask per task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths.tall import tall_masks
from mergekit_nb.methods.base import Grain, Knob, Post, Totals
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors


@dataclass(frozen=True)
class TallMasks(Post):
    """Keep, for every task, the entries of the merged vector that it needs: |tau_t| > threshold * |tau_MTL - tau_t|.

    A post-processor that leaves a patch per task: `Ties(merge_as="dis-sum") | TallMasks()`. Alone it works on the sum of
    the task vectors. Task t's weights are base + mask_t * tau_MTL, at scale 1.

    Attributes:
        threshold: lambda, one number or one per task; higher keeps less. The authors choose it per task on validation from
            0.2 to 0.6.

    Source: Wang et al. 2024, "Localizing Task Information for Improved Model Merging and Compression", arXiv:2405.07813,
    section 4 (TALL-masks); the comparison is strict, as in the authors' code.
    """

    threshold: Annotated[float, Knob(0, 10, "multiple of the distance to the merged model")] | tuple[float, ...] = 0.4
    name: ClassVar[str] = "tall_masks"
    paper: ClassVar[str] = "Wang et al. 2024, arXiv:2405.07813"
    grain: ClassVar[Grain] = "entry"
    leaves: ClassVar[str] = "shared vector + masks"
    per_task: ClassVar[tuple[str, ...]] = ("threshold",)

    def post(
        self, site: Site, taus: Float[Tensor, "task *shape"], vector: Float[Tensor, "*shape"], totals: Totals
    ) -> tuple[Float[Tensor, "*shape"], Bool[Tensor, "task *shape"]]:
        numbers = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * len(taus)
        return vector, tall_masks(taus, vector, torch.tensor(numbers, dtype=taus.dtype, device=taus.device))

    def scales(self, taus: TaskVectors, totals: Totals) -> dict[str, float]:
        return dict.fromkeys(taus.tasks, 1.0)
