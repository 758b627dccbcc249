"""TIES-Merging: trim, elect, merge what agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths import disjoint, histogram
from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.prune import above, largest
from mergekit_nb.methods.base import Grain, Knob, Method, Totals, weighted
from mergekit_nb.weights.site import Site

SQUARES = "squares of "  # before a tensor's name


@dataclass(frozen=True)
class Ties(Method):
    """Keep each task's largest entries, elect a sign per entry, combine the tasks that have it.

    Attributes:
        density: the fraction of entries each task keeps, largest magnitudes first; 1 keeps all.
        scale: multiplies the merged vector.
        weights: one number per task, None for ones.
        elect: "mass" sign of the sum; "frequency" majority of signs; "normfrac" sign of the entry that is largest
            relative to its task vector's norm; "normmass" the same, summed; "none" elects nothing.
        merge_as: of the tasks that have the elected sign "dis-mean", "dis-sum" or "dis-max"; of all tasks "mean",
            "sum", "median" or "magnitude" (the entry of the largest magnitude).
        scope: where the largest entries are sought: over the whole "model" (the authors), per "tensor" (mergekit,
            PEFT) or per "row" of the last axis.
        zero_sign: the sign of an entry whose kept values sum to 0: the model-wide "majority" (the authors; where that
            is 0 too, negative), "positive" (mergekit, PEFT) or "negative".
        divide_by: "count" elects on the bare task vectors and divides by how many agree (the authors, PEFT); "weights"
            elects on weighted ones and divides by the weights of those that agree (mergekit).

    Source: Yadav et al. 2023, "TIES-Merging", arXiv:2306.01708, section 3 and Algorithm 1. The authors' whole-model trim
    keeps every entry that reaches the (d - int(d*density))-th smallest magnitude, so int(d*density) + 1 and ties; with
    scope "tensor" or "row" exactly int(n*density) are kept, as mergekit and PEFT do, the first of equal ones.
    """

    density: Annotated[float, Knob(0, 1, "fraction of entries kept")] = 0.2
    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 1.0
    weights: tuple[float, ...] | None = None
    elect: disjoint.Elect = "mass"
    merge_as: disjoint.Merge = "dis-mean"
    scope: Literal["model", "tensor", "row"] = "model"
    zero_sign: Literal["majority", "positive", "negative"] = "majority"
    divide_by: Literal["count", "weights"] = "count"
    name: ClassVar[str] = "ties"
    paper: ClassVar[str] = "Yadav et al. 2023, arXiv:2306.01708"

    @property
    def commutes(self) -> str:
        return "axes" if self.scope == "row" and self.density < 1 else "entries"

    @property
    def grain(self) -> Grain:
        return "entry" if (self.scope == "model" or self.density == 1) and not self._needs_norms else "tensor"

    def rounds(self, dtype: torch.dtype) -> int:
        return self._trim_rounds(dtype) + self._needs_norms + self._needs_majority

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        """First the digits of the threshold, then the norms, then the majority sign: whichever are needed, in turn."""
        trimming, done = self._trim_rounds(taus.dtype), len(totals)
        if done < trimming:
            counts = histogram.count(taus, self._prefix(totals, done)[0], done)
            return {"counts": counts, "size": torch.tensor(site.size)}
        kept = self._trim(taus, totals)
        if self._needs_norms and done == trimming:
            # under the tensor's name: float64 sums are no exact ones, so they are added in the order of the model
            return {SQUARES + site.name: rearrange(kept.double() ** 2, "task ... -> task (...)").sum(1).cpu()}
        return {"signs": self._signs(kept, totals).sum(dtype=torch.int64).cpu()}

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        kept = self._trim(taus, totals)
        sign = self._zeros_settled(self._signs(kept, totals), totals)
        agree = disjoint.agreement(self._votes(kept), sign)
        return self.scale * disjoint.combine(
            weighted(kept, self.weights), agree, sign, self.merge_as, self._share(taus)
        )

    @property
    def _needs_norms(self) -> bool:
        return self.elect in ("normfrac", "normmass")

    @property
    def _needs_majority(self) -> bool:
        return self.zero_sign == "majority" and self.elect != "none"

    def _trim_rounds(self, dtype: torch.dtype) -> int:
        return histogram.rounds(dtype) if self.scope == "model" and self.density < 1 else 0

    def _prefix(self, totals: Totals, done: int) -> tuple[Tensor | None, Tensor | None]:
        """The digits of every task's threshold found in `done` rounds, and the rank left."""
        if done == 0:
            return None, None
        size = int(totals[0]["size"])
        prefix, rank = None, torch.full((len(totals[0]["counts"]),), max(size - int(size * self.density), 1))
        for total in totals[:done]:
            prefix, rank = histogram.descend(total["counts"], rank, prefix)
        return prefix, rank

    def _trim(self, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "task *shape"]:
        if self.density == 1:
            return taus
        keep = self._keep(taus, totals)
        return torch.where(keep, taus, torch.zeros_like(taus))

    def _keep(self, taus: Float[Tensor, "task *shape"], totals: Totals) -> Bool[Tensor, "task *shape"]:
        if self.scope == "model":
            prefix, _ = self._prefix(totals, self._trim_rounds(taus.dtype))
            return above(taus, histogram.value(prefix, taus.dtype).to(taus.device))
        rows = rearrange(taus, "task ... -> task (...)") if self.scope == "tensor" or taus.ndim < 2 else taus
        return largest(rows, int(rows.shape[-1] * self.density)).reshape(taus.shape)

    def _signs(self, kept: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"] | None:
        norms = None
        if self._needs_norms:
            squares = [s for key, s in totals[self._trim_rounds(kept.dtype)].items() if key.startswith(SQUARES)]
            norms = ordered_sum(torch.stack(squares)).to(kept.device, kept.dtype)
        return disjoint.signs(self._votes(kept), self.elect, norms)

    def _votes(self, kept: Float[Tensor, "task *shape"]) -> Float[Tensor, "task *shape"]:
        return weighted(kept, self.weights if self.divide_by == "weights" else None)

    def _zeros_settled(self, signs: Float[Tensor, "*shape"] | None, totals: Totals) -> Float[Tensor, "*shape"] | None:
        if signs is None:
            return None
        fill = {"positive": 1, "negative": -1}.get(self.zero_sign)
        if fill is None:
            # the authors' test is `sign > 0 ? x > 0 : x < 0`: without a majority either, an entry counts as negative
            fill = 1 if int(totals[-1]["signs"]) > 0 else -1
        return torch.where(signs == 0, torch.full_like(signs, fill), signs)

    def _share(self, taus: Float[Tensor, "task *shape"]) -> Float[Tensor, " task"]:
        ones = self.weights is None or self.divide_by == "count"
        return torch.tensor([1.0] * len(taus) if ones else self.weights, dtype=taus.dtype, device=taus.device)
