"""DELLA: drop small entries more often than large ones, then elect and fuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.noise import uniform
from mergekit_nb.maths.prune import Spread, keep_chance, restore
from mergekit_nb.methods.base import Knob, Method, Totals, weighted
from mergekit_nb.methods.ties import Ties
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Della(Method):
    """MagPrune, sign election, weighted mean of those that have the sign.

    1. An entry of magnitude rank r of n stays with chance p = density - window + 2 * window * (r - 1) / (n - 1), and is
       divided by p.
    2. Per entry the sign of the weighted sum is elected; those that have it are added and divided by their weights.

    On the left of `|` only step 1 counts: `Della() | TaskArithmetic()`.

    Attributes:
        density: the mean chance of staying.
        window: half the width of the range of chances; density - window and density + window lie in [0, 1]. The
            paper's epsilon is the full width, mergekit's `epsilon` this half.
        rank: where entries are ranked: per "row" of the last axis (the authors' default; mergekit's rows of a convolution
            lie along its second axis), over the whole "tensor" (their layer variant), or not at all: "size", their variant
            by magnitude between the row's least and greatest.
        rescale: "chance" divides by p (the authors); "l1" restores that norm of the tensor (mergekit); None leaves the
            survivors as they are.
        elect: "mass" as in step 2; "none" adds everything up, without a mean. (The authors' `della_noelect` elects all
            the same.)
        seed: random bits are keyed by (seed, task, tensor name).
        scale, weights: multiplier of the result, and one number per task.

    Source: Deep et al. 2024, "DELLA-Merging", arXiv:2406.11617, and the authors' code, whose example drops 0.3 with a
    full window of 0.14.
    """

    density: Annotated[float, Knob(0, 1, "fraction of entries kept")] = 0.7
    window: Annotated[float, Knob(0, 0.5, "half the range of the chances")] = 0.07
    rank: Spread = "row"
    rescale: Literal["chance", "l1"] | None = "chance"
    elect: Literal["mass", "none"] = "mass"
    seed: int = 0
    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 1.0
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "della"
    paper: ClassVar[str] = "Deep et al. 2024, arXiv:2406.11617"
    random: ClassVar[bool] = True
    commutes: ClassVar[str] = "nothing"

    @property
    def homogeneous(self) -> bool:
        return self.rank != "size"  # the authors add 1e-7 to the range of magnitudes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.density - self.window < -1e-12 or self.density + self.window > 1 + 1e-12:
            raise ValueError(
                f"Della.window={self.window:g} around density={self.density:g} gives chances outside [0, 1]; "
                f"a window of at most {min(self.density, 1 - self.density):g} fits"
            )

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        return torch.stack([self._pruned(task, site.name, tau) for task, tau in zip(site.tasks, taus, strict=True)])

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        pruned = self.edit(site, taus)
        if self.elect == "none":
            return self.scale * ordered_sum(weighted(pruned, self.weights))
        ties = Ties(density=1, scale=self.scale, weights=self.weights, zero_sign="positive", divide_by="weights")
        return ties.merge(site, pruned, ())

    def _pruned(self, task: str, name: str, tau: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        chance = keep_chance(tau, self.density, self.window, self.rank)
        kept = torch.where(self._keep(task, name, chance), tau, torch.zeros_like(tau))
        if self.rescale == "chance":
            return torch.where(kept != 0, kept / chance, kept)
        return restore(kept, tau, 1 - self.density, self.rescale)

    def _keep(self, task: str, name: str, chance: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        drawn = uniform(self.seed, task, name, 0, chance.numel()).reshape(chance.shape)
        return drawn.to(chance.device) < chance
