"""SLERP: from one model to another along the great circle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.sphere import arc
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.methods.sphere import On, origin
from mergekit_nb.weights.site import Site

STRAIGHT = (1 - 0.9995**2) ** 0.5  # mergekit takes the straight line where |cosine| > 0.9995


@dataclass(frozen=True)
class Slerp(Method):
    """Spherical linear interpolation of two experts, tensor by tensor: with the angle O between the flattened tensors,

    [sin((1-t) O) a + sin(t O) b] / sin O.

    Attributes:
        t: 0 is the first expert, 1 the second; so their order matters (`symmetric` is False).
        on: "weights" as mergekit and everyone does; "task vectors" turns around the base.

    Where |cos O| > 0.9995 the way is the straight line; that includes opposite tensors, as in mergekit. The angle is that
    of the directions, the tensors keep their lengths: the result has not exactly a length between theirs. A tensor of
    zeros counts as at a right angle. mergekit computes the angle in float32, here it is float64.

    Source: Shoemake 1985, "Animating rotation with quaternion curves", SIGGRAPH; for models as in mergekit, Goddard et al.
    2024, "Arcee's MergeKit", arXiv:2403.13257. There is no paper that proposes it for models.
    """

    t: Annotated[float, Knob(0, 1, "share of the way from the first expert to the second")] = 0.5
    on: On = "weights"
    name: ClassVar[str] = "slerp"
    paper: ClassVar[str] = "Shoemake 1985; Goddard et al. 2024, arXiv:2403.13257"
    symmetric: ClassVar[bool] = False
    experts: ClassVar[tuple[int, int | None]] = (2, 2)

    @property
    def homogeneous(self) -> bool:
        return self.on == "task vectors"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        start, (a, b) = origin(site, taus, self.on), taus.double()
        first, second, excess = arc((start + a).reshape(-1), (start + b).reshape(-1), self.t, STRAIGHT)
        return (first * a + second * b + excess * start).reshape(site.shape).to(taus.dtype)
