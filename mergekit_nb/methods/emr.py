"""EMR-Merging: elect, mask, rescale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths.elect import Tie, elect, mask, masked, rescale
from mergekit_nb.maths.histogram import magnitude_sums, total
from mergekit_nb.methods.base import Grain, Method, Totals
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors


@dataclass(frozen=True)
class Emr(Method):
    """One unified task vector; per task one bit per weight and one number.

    Attributes:
        rescale: how a task's size is measured. "per_tensor" adds up the means of all tensors, so that a bias counts as
            much as a matrix: what the authors' scripts for 8 ViTs, RoBERTa, GPT-2 and BEiT do, and with it their
            published tables. "global" is one mean over all entries: the paper's formula, and the script for 30 ViTs.
        tie: the sign of an entry whose tasks sum to 0. The paper's sgn(0) = 0 is "zero"; the authors' code elects
            "negative".

    A task that nothing of the unified vector agrees with (one equal to the base, say) gets the rescaler 1 and its
    reconstruction is the base; the authors' code gives NaN.

    Source: Huang et al. 2024, "EMR-Merging", arXiv:2405.17461, section 3.2, Algorithm 1. The paper's Eq. 5, that
    rescaling never increases the distance to the task vectors, is not true in general; see notebook 01.
    """

    rescale: Literal["per_tensor", "global"] = "per_tensor"
    tie: Tie = "negative"
    name: ClassVar[str] = "emr"
    paper: ClassVar[str] = "Huang et al. 2024, arXiv:2405.17461"
    grain: ClassVar[Grain] = "entry"
    late: ClassVar[bool] = True
    leaves: ClassVar[str] = "shared vector + masks"

    def rounds(self, dtype: torch.dtype) -> int:
        return 1

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        """Exact sums of |tau_t| and of |M_t * tau_uni|, under the tensor's name: `2 task …`."""
        vector, masks = self.merge(site, taus, totals)
        return {site.name: torch.stack([magnitude_sums(taus), magnitude_sums(masked(vector, masks))])}

    def merge(
        self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals
    ) -> tuple[Float[Tensor, "*shape"], Bool[Tensor, "task *shape"]]:
        sign, vector = elect(taus, self.tie)
        return vector, mask(taus, sign)

    def scales(self, taus: TaskVectors, totals: Totals) -> dict[str, float]:
        """lambda_t of every task, a float32 number."""
        sizes = torch.zeros(2, len(taus.tasks), dtype=torch.float64)
        for name in taus.names:
            if size := taus.site(name).size:
                sums = torch.stack([total(side, _dtype(side)) for side in totals[0][name]])
                sizes += sums / size if self.rescale == "per_tensor" else sums
        return dict(zip(taus.tasks, rescale(*sizes).float().tolist(), strict=True))


def _dtype(bins: Tensor) -> torch.dtype:
    return torch.float32 if bins.shape[-1] == 1 else torch.float64
