"""NuSLERP: SLERP with weights, optionally around the base, optionally row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.sphere import OPPOSITE, arc
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.methods.sphere import On, origin
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class NuSlerp(Method):
    """Spherical interpolation of two experts, with a straight line only where they are (anti)parallel.

    Attributes:
        t: 0 is the first expert, 1 the second; so their order matters (`symmetric` is False).
        weights: mergekit's way to say t, one number per expert: t = w2 / (w1 + w2), 1/2 where the sum is 0. They count
            before `t`.
        over: what one great circle is for: the whole "tensor" (mergekit's default), each vector of the "last" axis
            (`nuslerp_flatten: false`) or of the "first" (`nuslerp_row_wise: true`; it does take columns of a matrix).
        on: "task vectors" is mergekit with a base_model, "weights" is mergekit without.

    mergekit means to take the straight line for opposite vectors too, but its float32 sine of pi is 8.7e-8, above its
    threshold 1e-8, and rounding noise is divided by it. Here the angle is float64 and opposite vectors get the line.

    Source: mergekit's code, Goddard et al. 2024, "Arcee's MergeKit", arXiv:2403.13257; no paper proposes it.
    """

    t: Annotated[float, Knob(0, 1, "share of the way from the first expert to the second")] = 0.5
    weights: tuple[float, ...] | None = None
    over: Literal["tensor", "last", "first"] = "tensor"
    on: On = "weights"
    name: ClassVar[str] = "nuslerp"
    paper: ClassVar[str] = "Goddard et al. 2024, arXiv:2403.13257"
    symmetric: ClassVar[bool] = False
    experts: ClassVar[tuple[int, int | None]] = (2, 2)

    @property
    def homogeneous(self) -> bool:
        return self.on == "task vectors"

    @property
    def commutes(self) -> str:
        return "entries" if self.over == "tensor" else "axes"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        start, a, b = (self._vectors(x) for x in (origin(site, taus, self.on), *taus.double()))
        first, second, excess = arc(start + a, start + b, self._way(), OPPOSITE)
        return self._back(first * a + second * b + excess * start, site.shape).to(taus.dtype)

    def _way(self) -> float:
        if self.weights is None:
            return self.t
        total = sum(self.weights)
        return self.weights[1] / total if abs(total) >= 1e-6 else 0.5

    def _vectors(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*lead n"]:
        if self.over == "tensor" or x.ndim < 2:
            return x.reshape(-1)
        return x if self.over == "last" else x.transpose(0, -1)

    def _back(self, x: Float[Tensor, "*lead n"], shape: tuple[int, ...]) -> Float[Tensor, "*shape"]:
        return x.transpose(0, -1) if self.over == "first" and len(shape) > 1 else x.reshape(shape)
