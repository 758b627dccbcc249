"""WUDI: the vector that interferes least with what the task vectors say about each layer's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.interference import descend, normal_equations, solve
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.methods.spectral import mean, precision
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors


@dataclass(frozen=True)
class Wudi(Method):
    """Per matrix the M that makes sum over t of |(M - tau_t) tau_t'|^2 / |tau_t|^2 small: the rows of a task vector stand
    for the inputs of its layer.

    Attributes:
        solver: "adam" is the paper's: from the sum of the task vectors, `iterations` steps of Adam at `rate`;
            "closed form" is the least-squares solution of the smallest norm, M = (sum tau_t G_t) (sum G_t)^+ with
            G_t = tau_t' tau_t / |tau_t|^2. Adam moves an entry by at most rate * iterations and stops well short of
            it; stopping early is part of the method.
        iterations, rate: the authors' 300 and 1e-5, in weight units (fusion_bench has 400). At much larger rates Adam
            runs around the minimum, and where it is after 300 steps is up to rounding.
        rest: what other tensors get, the "base" as in the authors' code for ViTs or the "mean" as in fusion_bench.
        scale: multiplies the merged vector; the paper has no such coefficient, so it is not tuned by `mk.compare`.

    The authors' rate fits their task vectors. On the embedded zoo, whose summed task vectors have entries of 0.014 (root mean
    square), 300 steps of 1e-5 end near the start: on its validation split the sum is right on 13 % of the images, this
    on 44 %, the closed form on 70 %, as task arithmetic at 0.2. `merge` warns where the steps cannot undo the sum.

    The authors merge only the attention and MLP weights of a ViT; here it is every matrix, `include` chooses. A task equal
    to the base counts for nothing; their code divides 0 by 0.

    Source: Cheng et al. 2025, "Whoever Started the Interference Should End It: Guiding Data-Free Model Merging via Task
    Vectors", arXiv:2503.08099, and the authors' `get_redundant_task_vector`. The closed form is RegMean's equation with
    the task vectors as data; it is not in their paper's code.
    """

    solver: Literal["adam", "closed form"] = "adam"
    iterations: Annotated[int, Knob(0, 10000, "number of steps", 10)] = 300
    rate: Annotated[float, Knob(0, 1, "change in weight units at each step", 1e-5)] = 1e-5
    rest: Literal["base", "mean"] = "base"
    scale: float = 1.0
    name: ClassVar[str] = "wudi"
    paper: ClassVar[str] = "Cheng et al. 2025, arXiv:2503.08099"
    stacks: ClassVar[int] = 24
    commutes: ClassVar[str] = "axes"

    @property
    def homogeneous(self) -> bool:
        return self.solver == "closed form"  # the rate of Adam is in weight units

    def rounds(self, dtype: torch.dtype) -> int:
        return int(self.solver == "adam")

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        """How large the entries are that Adam starts from: their squares and how many there are."""
        if len(site.shape) != 2:
            return {}
        return {"squares": (ordered_sum(taus).double() ** 2).sum().cpu(), "size": torch.tensor(site.size)}

    def notes(self, taus: TaskVectors, totals: Totals) -> list[str]:
        """A warning where so many steps cannot undo the sum they start from: the rate fits smaller task vectors."""
        total = totals[0] if totals else {}
        typical = float(total["squares"] / total["size"]) ** 0.5 if total.get("size") else 0.0
        reach = self.rate * self.iterations
        if typical <= reach:
            return []
        return [
            f"wudi: {self.iterations} steps of {self.rate:g} move an entry by {reach:.1g} at most, and the sum of these task "
            f"vectors, where they start, has entries of {typical:.1g}: the merge stays near that sum; a rate of "
            f"{3 * typical / max(self.iterations, 1):.0g} or solver='closed form' goes on"
        ]

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        if len(site.shape) != 2:
            return self.scale * mean(taus) if self.rest == "mean" else taus.new_zeros(site.shape)
        gram, target = normal_equations(taus)
        if self.solver == "closed form":
            merged = solve(gram, target, precision(taus))
        else:
            merged = descend(ordered_sum(taus).double(), gram, target, self.rate, self.iterations)
        return self.scale * merged.to(taus.dtype)
