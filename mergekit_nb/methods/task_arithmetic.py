"""Task arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.methods.base import Grain, Knob, Method, Totals, weighted
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class TaskArithmetic(Method):
    """Add the task vectors up, scaled: base + scale * sum of weights_t * tau_t.

    Negative weights negate (forgetting); (1, -1, 1) is the analogy A - B + C.

    Source: Ilharco et al. 2023, "Editing Models with Task Arithmetic", arXiv:2212.04089, section 2. The authors' code
    has no default; 0.3 is what the literature uses for eight CLIP tasks.
    """

    scale: Annotated[float, Knob(-2, 5, "multiplier of the sum")] = 0.3
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "task_arithmetic"
    paper: ClassVar[str] = "Ilharco et al. 2023, arXiv:2212.04089"
    grain: ClassVar[Grain] = "entry"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return self.scale * ordered_sum(weighted(taus, self.weights))
