"""Karcher mean: the direction nearest to all directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.sphere import karcher_mean
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.methods.sphere import On, agreed, check_sum, origin, shares
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Karcher(Method):
    """The Riemannian mean on the sphere, tensor by tensor: starting at the normalised weighted mean u of the directions,

    g = sum of w_t (O_t / sin O_t) (u_t - cos O_t u),  u <- cos|g| u + sin|g| g / |g|,

    until |g| is below the tolerance; then times the weighted mean of the lengths.

    Attributes:
        weights: one number per expert, divided by their sum; None for all alike.
        on: "weights" as mergekit; "task vectors" turns around the base.
        iterations, tolerance: mergekit's 10 and 1e-5; tensors no longer than the tolerance do not count for the
            direction, but their share of the length does, as in mergekit.

    Where the directions cancel, the first expert's is the start, as in mergekit; then the order of the experts matters,
    so `symmetric` is False. A direction opposite to the mean pulls nowhere; mergekit divides rounding noise there.

    Source: mergekit's code, Goddard et al. 2024, "Arcee's MergeKit", arXiv:2403.13257; the paper of that code is
    arXiv:2603.04972 (Fisher-Rao Karcher), which was not read for this.
    """

    weights: tuple[float, ...] | None = None
    on: On = "weights"
    iterations: Annotated[int, Knob(0, 1000, "number of steps at most", 1)] = 10
    tolerance: Annotated[float, Knob(0, 0.1, "angle in radians, length in weight units", 1e-5)] = 1e-5
    name: ClassVar[str] = "karcher"
    paper: ClassVar[str] = "mergekit, arXiv:2403.13257; arXiv:2603.04972"
    stacks: ClassVar[int] = 20
    symmetric: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False  # the tolerance is a length, too

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        if agreed(taus):
            return taus[0].clone()
        start = origin(site, taus, self.on)
        points = rearrange(start + taus.double(), "task ... -> task (...)")
        merged = karcher_mean(points, shares(self.weights, taus), self.iterations, self.tolerance)
        return (merged.reshape(site.shape) - start).to(taus.dtype)

    def check_tasks(self, tasks: tuple[str, ...]) -> None:
        super().check_tasks(tasks)
        check_sum("Karcher", self.weights)
