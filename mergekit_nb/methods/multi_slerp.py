"""Multi-SLERP: the middle of many directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.sphere import middle
from mergekit_nb.methods.base import Method, Totals
from mergekit_nb.methods.sphere import On, agreed, check_sum, origin, shares
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class MultiSlerp(Method):
    """The weighted sum of the directions, made a direction, times the weighted mean of the lengths, tensor by tensor.

    Attributes:
        weights: one number per expert, divided by their sum; None for all alike.
        on: "task vectors" is mergekit with a base_model, "weights" is mergekit without.

    mergekit's code adds a step along the tangents at that direction, which is zero whatever the experts are: their
    weighted sum has no part at right angles to itself. It is left out. Where the directions cancel, mergekit takes the
    weighted mean of two experts and refuses more; here it is the weighted mean of all.

    Source: mergekit's code, Goddard et al. 2024, "Arcee's MergeKit", arXiv:2403.13257; no paper proposes it.
    """

    weights: tuple[float, ...] | None = None
    on: On = "task vectors"
    name: ClassVar[str] = "multi_slerp"
    paper: ClassVar[str] = "Goddard et al. 2024, arXiv:2403.13257"

    @property
    def homogeneous(self) -> bool:
        return self.on == "task vectors"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        if agreed(taus):
            return taus[0].clone()
        start = origin(site, taus, self.on)
        points = rearrange(start + taus.double(), "task ... -> task (...)")
        merged = middle(points, shares(self.weights, taus)).reshape(site.shape)
        return (merged - start).to(taus.dtype)

    def check_tasks(self, tasks: tuple[str, ...]) -> None:
        super().check_tasks(tasks)
        check_sum("MultiSlerp", self.weights)
