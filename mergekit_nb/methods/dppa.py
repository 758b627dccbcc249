"""DPPA: prune by outliers, then amplify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths import histogram
from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.outliers import amplify, outliers, spread, top
from mergekit_nb.methods.base import Knob, Method, Totals, weighted
from mergekit_nb.weights.site import Block, Site

BLOCK_LIMIT = 3  # times the mean magnitude of its block an entry is to be an outlier; fixed in the authors' code
MATRIX, SUM, COUNT = "matrix ", "sum ", "count "  # before a tensor's or a block's name


@dataclass(frozen=True)
class Dppa(Method):
    """Prune matrices with few outliers harder (DP), scale what stays by two ratios (DPA), add up as task arithmetic does.

    The fraction kept of matrix j in block b is 1 - drop + window * dev(u_b) + window * dev(v_j): u_b is the share of the
    block's entries above 3 times their mean magnitude, v_j that of the matrix above `limit` times its own; dev is the
    difference from the model's mean, divided by the largest such difference. Of a matrix the entries at or below that
    magnitude quantile are dropped. Only matrices in repeated blocks are pruned; all else stays as it is.

    Attributes:
        drop: the mean fraction dropped.
        window: how far a block, and again a matrix, may differ from it.
        limit: times its mean magnitude an entry is to be an outlier of its matrix.
        adapt: "matrix" as above; "block" without v_j and with `limit` for the blocks; "none" drops the same of all.
        core: multiplies what stays.
        wide: None for DP alone; DPA with a number: the same pruning at `drop` - 0.1, times this, and of both the entry of
            the larger magnitude. The authors search both ratios on validation, from 1.8 in steps of 0.1 (`mk.search`).
        scale, weights: as in task arithmetic.

    Fractions outside [0, 1], an error in the authors' code, are clamped; where all shares are equal (their 0/0) nothing is
    adapted.

    Source: Zhu et al. 2024, "DPPA", arXiv:2403.02799, and the authors' code (`prune_mag_outlier_layer_wei`).
    """

    drop: Annotated[float, Knob(0, 1, "fraction of entries dropped")] = 0.9
    window: Annotated[float, Knob(0, 0.5, "fraction of entries")] = 0.08
    limit: Annotated[float, Knob(1, 20, "multiple of the mean magnitude")] = 5.0
    adapt: Literal["matrix", "block", "none"] = "matrix"
    core: Annotated[float, Knob(0, 10, "multiplier of what stays")] = 1.0
    wide: Annotated[float, Knob(0, 10, "multiplier of what stays of a wider pruning")] | None = None
    scale: Annotated[float, Knob(-2, 5, "multiplier of the sum")] = 0.3
    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "dppa"
    paper: ClassVar[str] = "Zhu et al. 2024, arXiv:2403.02799"
    edit_rounds: ClassVar[int] = 2

    def rounds(self, dtype: torch.dtype) -> int:
        return self.edit_rounds

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        """First every matrix's outliers and every block's magnitudes, then every block's outliers."""
        if not self._prunes(site):
            return {}
        block, size = _label(site.block), torch.tensor([float(site.size)], dtype=torch.float64)
        if totals:
            limit = self._block_mean(totals[0], block, taus) * (BLOCK_LIMIT if self.adapt == "matrix" else self.limit)
            return {COUNT + block: torch.cat([outliers(taus, limit).cpu(), size])}
        sums = histogram.magnitude_sums(taus)
        mean = (histogram.total(sums, taus.dtype) / site.size).to(taus)
        matrix = torch.cat([outliers(taus, mean * self.limit).cpu(), size])
        return {MATRIX + site.name: matrix, SUM + block: sums, COUNT + block: size}

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        if not self._prunes(site):
            return taus
        shift = self._shift(site, totals)
        return torch.stack([self._pruned(tau, off) for tau, off in zip(taus, shift.tolist(), strict=True)])

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return self.scale * ordered_sum(weighted(self.edit(site, taus, totals), self.weights))

    def _prunes(self, site: Site) -> bool:
        return site.block is not None and len(site.shape) == 2 and site.size > 0

    def _pruned(self, tau: Float[Tensor, "row column"], shift: float) -> Float[Tensor, "row column"]:
        density = 1 - self.drop + shift
        core = torch.where(top(tau, density), tau, torch.zeros_like(tau))
        if self.wide is None:
            return self.core * core
        wide = torch.where(top(tau, density + 0.1), tau, torch.zeros_like(tau))
        return amplify(core, wide, self.core, self.wide)

    def _shift(self, site: Site, totals: Totals) -> Float[Tensor, " task"]:
        """What is added to 1 - drop for this matrix."""
        if self.adapt == "none":
            return torch.zeros(len(site.tasks))
        u = self._deviation(totals[1], COUNT, COUNT + _label(site.block), weigh=False)
        if self.adapt == "block":
            return self.window * u
        return self.window * (u + self._deviation(totals[0], MATRIX, MATRIX + site.name, weigh=True))

    @staticmethod
    def _deviation(total: dict[str, Tensor], kind: str, key: str, weigh: bool) -> Float[Tensor, " task"]:
        keys = [k for k in total if k.startswith(kind)]
        counts = torch.stack([total[k] for k in keys])
        sizes = counts[:, -1]
        return spread(counts[:, :-1] / sizes[:, None], sizes if weigh else torch.ones_like(sizes))[keys.index(key)]

    @staticmethod
    def _block_mean(total: dict[str, Tensor], block: str, taus: Tensor) -> Float[Tensor, " task"]:
        return (histogram.total(total[SUM + block], taus.dtype) / total[COUNT + block]).to(taus)


def _label(block: Block) -> str:
    return f"{block.tower}.{block.index}"
