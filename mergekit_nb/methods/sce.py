"""SCE: select, calculate, erase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.disjoint import agreement, combine
from mergekit_nb.maths.elect import elected_sign
from mergekit_nb.maths.select import energy_shares, select
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Sce(Method):
    """Of every tensor select the entries that vary most over tasks, weigh tasks by their squares there, erase minorities.

    1. Select the int(select_topk * n) entries of the highest variance over the tasks, n those that vary at all.
    2. Calculate w_t, task t's share of the sum of squares of the selected entries; equal shares where all are 0.
    3. Erase entries against the sign of the sum over the tasks (0 elects +).
    4. base + scale * (sum of w_t * tau_t) / (sum of w_t), over the tasks that are left.

    Attributes:
        select_topk: the fraction selected; the authors' FuseChat uses 0.1.
        merges: "selected" entries only (the paper's step, and mergekit); "all": the selection counts for the weights w_t
            alone and all entries are merged (the authors' released code).
        scale: multiplies the merged vector.

    mergekit has equal shares already where all tasks' mean squares together are below 1e-6 (task vectors of 5e-4, say),
    and for every tensor without axes; here only where there is nothing to weigh.

    Source: Wan et al. 2024, "FuseChat: Knowledge Fusion of Chat Models", arXiv:2408.07990.
    """

    select_topk: Annotated[float, Knob(0, 1, "fraction of entries selected")] = 1.0
    merges: Literal["selected", "all"] = "selected"
    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 1.0
    name: ClassVar[str] = "sce"
    paper: ClassVar[str] = "Wan et al. 2024, arXiv:2408.07990"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        selected = torch.where(select(taus, self.select_topk), taus, torch.zeros_like(taus))
        shares = energy_shares(selected)
        taus = selected if self.merges == "selected" else taus
        sign = elected_sign(taus, "positive")
        weighted = taus * shares.reshape(-1, *[1] * (taus.ndim - 1))
        return self.scale * combine(weighted, agreement(taus, sign), sign, "dis-mean", shares)
