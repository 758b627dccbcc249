"""CABS: prune one task after the other, each where the earlier ones left room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.outliers import top
from mergekit_nb.maths.prune import n_of_m
from mergekit_nb.methods.base import Knob, Method, Totals, weighted
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Cabs(Method):
    """Prune the first task vector; zero the next where the first kept entries, and prune it; and so on; then add up.

    No two tasks keep the same entry, so the order of the tasks is part of the method: the first chooses freely.

    Attributes:
        by: "n:m" keeps the n largest of every m entries that follow each other in the flattened tensor, and nothing of an
            incomplete last group; "magnitude" keeps the largest of the tensor.
        n, m: for "n:m".
        drop: for "magnitude": entries at or below the (int(size * drop) + 1)-th smallest magnitude go. Zeros made for the
            tasks before count, so a later task keeps more of its free entries (as in the authors' code).
        scale, weights: as in task arithmetic.

    Source: Yang et al. 2025, "CABS: Conflict-Aware and Balanced Sparsification", arXiv:2503.01874, with the authors' code
    for two tasks; a third is masked by both before it.
    """

    by: Literal["n:m", "magnitude"] = "n:m"
    n: Annotated[int, Knob(1, 64, "number of entries kept of every m", 1)] = 64
    m: Annotated[int, Knob(1, 256, "number of entries in a group", 1)] = 256
    drop: Annotated[float, Knob(0, 1, "fraction of entries dropped")] = 0.75
    scale: Annotated[float, Knob(-2, 5, "multiplier of the sum")] = 1.0
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "cabs"
    paper: ClassVar[str] = "Yang et al. 2025, arXiv:2503.01874"
    symmetric: ClassVar[bool] = False

    @property
    def commutes(self) -> str:
        return "nothing" if self.by == "n:m" else "entries"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n > self.m:
            raise ValueError(f"Cabs keeps n of every m entries, so n is at most m; got n={self.n}, m={self.m}")

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        taken, edited = torch.zeros_like(taus[0], dtype=torch.bool), []
        for tau in taus:
            free = torch.where(taken, torch.zeros_like(tau), tau)
            keep = n_of_m(free, self.n, self.m) if self.by == "n:m" else top(free, 1 - self.drop)
            edited.append(torch.where(keep, free, torch.zeros_like(tau)))
            taken = taken | (edited[-1] != 0)
        return torch.stack(edited)

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return self.scale * ordered_sum(weighted(self.edit(site, taus), self.weights))
