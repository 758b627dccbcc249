"""Model Stock: how far to go from the base, from the angle between the experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.methods.base import Method, Totals
from mergekit_nb.weights.site import Site

SMALLEST_NORM = 1e-6  # of one task vector; mergekit's, of the product of two
SMALLEST_DIVISOR = 1e-6  # below it the experts cancel, and the mean says nothing


@dataclass(frozen=True)
class ModelStock(Method):
    """base + t * mean of the task vectors, t = N cos / (1 + (N - 1) cos), cos the mean cosine of pairs of them.

    For experts of one task, fine-tuned apart. Experts of different tasks are nearly orthogonal: cos and t are near 0, and
    the result is near the base.

    Attributes:
        scope: one angle per "tensor", or one per "row" of the first axes ("filter-wise").
        negative: cosines below 0 (experts that pull apart) "extrapolate" to the far side of the base, as mergekit does, or
            are clamped to 0 and give the "base".

    Where 1 + (N - 1) cos is 0 the experts cancel, and the base is kept; mergekit divides by 0. One expert is its own mean.

    Source: Jang et al. 2024, "Model Stock: All we need is just a few fine-tuned models", arXiv:2403.19522. The authors
    released no code; mergekit's mean over all pairs is followed for more than two experts, where the paper has one angle
    (fusion_bench averages the angles, not their cosines). mergekit divides by the product of two lengths, at least 1e-6,
    which short task vectors (biases, say) fall below: its cosine is then too small, and its result nearer to the base.
    """

    scope: Literal["tensor", "row"] = "tensor"
    negative: Literal["extrapolate", "base"] = "extrapolate"
    name: ClassVar[str] = "model_stock"
    paper: ClassVar[str] = "Jang et al. 2024, arXiv:2403.19522"

    @property
    def commutes(self) -> str:
        return "axes" if self.scope == "row" else "entries"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        whole = self.scope == "tensor" or taus.ndim < 3
        rows = rearrange(taus, "task ... -> task 1 (...)" if whole else "task ... n -> task (...) n")
        share = _share(rows, self.negative == "base")
        return (share[:, None] * (ordered_sum(rows) / len(taus))).reshape(site.shape)


def _share(rows: Float[Tensor, "task row n"], clamp: bool) -> Float[Tensor, " row"]:
    """t of every row, from the mean cosine of pairs of tasks."""
    count = len(rows)
    if count == 1:
        return rows.new_ones(rows.shape[1])
    wide = rows.double()
    units = wide / torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp(min=SMALLEST_NORM)
    pairs = [(units[i] * units[j]).sum(-1) for i in range(count) for j in range(i)]
    cosine = ordered_sum(torch.stack(pairs)) / len(pairs)
    cosine = cosine.clamp(0, 1) if clamp else cosine
    divisor = 1 + (count - 1) * cosine
    cancelled = divisor < SMALLEST_DIVISOR
    share = count * cosine / torch.where(cancelled, torch.ones_like(divisor), divisor)
    return torch.where(cancelled, torch.zeros_like(share), share).to(rows.dtype)
