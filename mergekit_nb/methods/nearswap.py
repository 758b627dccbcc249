"""Nearswap: take over small changes whole, large ones only so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.methods.base import Knob, Method, Totals, weighted
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Nearswap(Method):
    """base + w * tau with w = t / |tau|, at most 1: every entry of a task vector is cut at t, its sign kept.

    mergekit takes one expert; of several the cut task vectors are added up.

    Attributes:
        t: how far an entry may move.
        scale, weights: as in task arithmetic.

    Source: mergekit's code (after alchemonaut's QuartetAnemoi), Goddard et al. 2024, "Arcee's MergeKit", arXiv:2403.13257;
    no paper proposes it. mergekit's t has no default.
    """

    t: Annotated[float, Knob(0, 1, "change in weight units", 0.001)] = 0.001
    scale: Annotated[float, Knob(-2, 5, "multiplier of the sum")] = 1.0
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "nearswap"
    paper: ClassVar[str] = "Goddard et al. 2024, arXiv:2403.13257"
    homogeneous: ClassVar[bool] = False  # t is in weight units

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        return taus.clamp(-self.t, self.t)

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return self.scale * ordered_sum(weighted(self.edit(site, taus), self.weights))
