"""Model Breadcrumbs: leave out outliers and small changes alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.prune import middle
from mergekit_nb.methods.base import Knob, Method, Totals, weighted
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Breadcrumbs(Method):
    """Of every task vector drop the largest entries, keep the next largest, drop the rest; add up as task arithmetic does.

    On the left of `|` only the dropping counts: `Breadcrumbs() | Ties(density=1)` is mergekit's `breadcrumbs_ties`.

    Attributes:
        density: the fraction of entries kept; of n entries int(n * density).
        remove: the fraction of largest entries dropped; of n entries int(n * remove).
        scope: where entries are ranked: per "row" of the last axis (the authors: for a convolution that is the width of
            its kernel, so that a low density leaves nothing of it) or per "tensor" (mergekit).
        first: "remove" the largest, then keep the largest of what is left; or "keep" the largest, then remove the
            largest of these, which leaves fewer.
        scale, weights: as in task arithmetic.

    Where density and remove add up to more than 1, "tensor" removes less (as mergekit), "row" keeps less. Tensors without
    axes are left as they are. mergekit zeroes the whole tensor where int(n * remove) is 0; here nothing
    is removed then.

    Source: Davari and Belilovsky 2023, "Model Breadcrumbs", arXiv:2312.06795, and the authors' code, whose example
    keeps 0.2 after removing 0.1.
    """

    density: Annotated[float, Knob(0, 1, "fraction of entries kept")] = 0.2
    remove: Annotated[float, Knob(0, 1, "fraction of largest entries dropped")] = 0.1
    scope: Literal["row", "tensor"] = "row"
    first: Literal["remove", "keep"] = "remove"
    scale: Annotated[float, Knob(-2, 5, "multiplier of the sum")] = 0.3
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "breadcrumbs"
    paper: ClassVar[str] = "Davari and Belilovsky 2023, arXiv:2312.06795"

    @property
    def commutes(self) -> str:
        return "axes" if self.scope == "row" else "entries"

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        if not site.shape:
            return taus
        rows = rearrange(taus, "task ... -> task (...)") if self.scope == "tensor" or taus.ndim < 3 else taus
        size = rows.shape[-1]
        keep, remove = int(size * self.density), int(size * self.remove)
        if self.scope == "tensor":
            remove = min(remove, size - keep)
        left = middle(rows, keep - remove if self.first == "keep" else keep, remove).reshape(taus.shape)
        return torch.where(left, taus, torch.zeros_like(taus))

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return self.scale * ordered_sum(weighted(self.edit(site, taus), self.weights))
