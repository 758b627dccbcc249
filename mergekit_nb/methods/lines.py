"""LiNeS: scale a merged vector by depth."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths import histogram
from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.methods.base import Grain, Knob, Post, Totals
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Lines(Post):
    """Scale the merged vector by alpha + beta * l / (B - 1) in block l of B, by alpha outside the blocks.

    A post-processor of any method: `Ties() | Lines()`. Alone it works on the sum of the task vectors.

    Attributes:
        alpha: the scale of the first block; None for (|sum of tau|_1 / |merged|_1) / T, over the whole model, which is
            1/T on the sum.
        beta: what the last block gets more. The authors search it on validation.
        blocks: patterns of the blocks' tensors, in order of depth (`("*.0.*", "*.1.*")`); None counts the first numbers in
            the names, every tower apart. (The authors look for ".0.", ".1.", … anywhere in a name.)

    A model with one block, 0/0 in the authors' code, gets alpha everywhere.

    Source: Wang et al. 2024, "LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model Merging",
    arXiv:2410.17146.
    """

    alpha: Annotated[float, Knob(-2, 5, "multiplier of the first block")] | None = None
    beta: Annotated[float, Knob(-2, 5, "multiplier the last block gets more")] = 0.5
    blocks: tuple[str, ...] | None = None
    name: ClassVar[str] = "lines"
    paper: ClassVar[str] = "Wang et al. 2024, arXiv:2410.17146"
    grain: ClassVar[Grain] = "entry"
    post_rounds: ClassVar[int] = 1

    def survey(self, site: Site, taus: Tensor, vector: Float[Tensor, "*shape"], totals: Totals) -> dict[str, Tensor]:
        """Exact sums of |sum of tau| and |merged|: 2 …"""
        return {"sums": histogram.magnitude_sums(torch.stack([ordered_sum(taus), vector]))}

    def post(
        self, site: Site, taus: Tensor, vector: Float[Tensor, "*shape"], totals: Totals
    ) -> Float[Tensor, "*shape"]:
        alpha = self.alpha
        if alpha is None:
            summed, merged = histogram.total(totals[0]["sums"], vector.dtype).tolist()
            alpha = summed / merged / len(taus) if merged else 1 / len(taus)
        return (alpha + self.beta * self._depth(site)) * vector

    def _depth(self, site: Site) -> float:
        """l / (B - 1): 0 in the first block and outside, 1 in the last."""
        if self.blocks is not None:
            found = next((i for i, pattern in enumerate(self.blocks) if fnmatchcase(site.name, pattern)), 0)
            return found / max(len(self.blocks) - 1, 1)
        return site.block.index / max(site.block.count - 1, 1) if site.block else 0.0
