"""DARE: drop and rescale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.noise import uniform
from mergekit_nb.maths.prune import Rescale, above_rank, restore
from mergekit_nb.methods.base import Grain, Knob, Method, Totals, weighted
from mergekit_nb.methods.sphere import On
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Dare(Method):
    """Drop most entries of every task vector, scale the rest back, then add them up as task arithmetic does.

    On the left of `|` only the dropping counts: `Dare(drop=0.9) | Ties()`.

    Attributes:
        drop: the rate at which entries are dropped, p in the paper.
        rescale: "expectation" divides by 1 - p (the paper); "l1", "l2", "linf" restore that norm of the tensor
            (mergekit's `rescale: true` is "l1"); None leaves the survivors as they are.
        by: "random" as in the paper; "magnitude" drops the smallest of each tensor (the authors' ablation).
        on: what entries are dropped of: "task vectors", or the fine-tuned "weights" (the authors' other ablation, their
            `weight_format`), which leaves little of any model: what an expert has in common with the base is dropped too.
        seed: random bits are keyed by (seed, task, tensor name): no order, device or slicing changes them.
        scale, weights: as in task arithmetic.

    Source: Yu et al. 2023, "Language Models are Super Mario", arXiv:2311.03099, section 3.2. The authors' command line
    defaults to p = 0.1 without rescaling; the paper's p = 0.9 with rescaling is the default here.
    """

    drop: Annotated[float, Knob(0, 1, "fraction of entries dropped")] = 0.9
    rescale: Rescale | None = "expectation"
    by: Literal["random", "magnitude"] = "random"
    on: On = "task vectors"
    seed: int = 0
    scale: Annotated[float, Knob(-2, 5, "multiplier of the sum")] = 0.3
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "dare"
    paper: ClassVar[str] = "Yu et al. 2023, arXiv:2311.03099"

    @property
    def random(self) -> bool:
        return self.by == "random"

    @property
    def grain(self) -> Grain:
        return (
            "entry" if self.random and self.on == "task vectors" and self.rescale in ("expectation", None) else "tensor"
        )

    @property
    def commutes(self) -> str:
        return "nothing" if self.random else "entries"

    @property
    def homogeneous(self) -> bool:
        return self.on == "task vectors"

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        if self.on == "task vectors":
            return self._dropped(site, taus)
        base = site.base(taus)
        return self._dropped(site, base + taus) - base

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return self.scale * ordered_sum(weighted(self.edit(site, taus), self.weights))

    def _dropped(self, site: Site, stack: Float[Tensor, "task *shape"]) -> Float[Tensor, "task *shape"]:
        edited = []
        for task, whole in zip(site.tasks, stack, strict=True):
            pruned = torch.where(self._keep(task, site, whole), whole, torch.zeros_like(whole))
            edited.append(restore(pruned, whole, self.drop, self.rescale))
        return torch.stack(edited)

    def _keep(self, task: str, site: Site, tau: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        if self.by == "magnitude":
            return above_rank(tau, int(tau.numel() * self.drop))
        drawn = uniform(self.seed, task, site.name, site.start, site.start + tau.numel())
        return (drawn >= self.drop).reshape(tau.shape).to(tau.device)
