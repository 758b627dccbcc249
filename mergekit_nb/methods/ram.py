"""RAM: average what several tasks changed, keep whole what one changed alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Ram(Method):
    """Per entry the mean of the tasks that changed it; an entry that one task changed alone times 1 + boost * min(s / u, most).

    s and u count, in this tensor, the entries the task changed with others and alone: a task that shares much loses much to
    the mean, and its own entries make up for it.

    Attributes:
        boost: 0 is RAM; 0.1 is mergekit's RAM+ (`ramplus_tl`, its r).
        most: what s / u counts at most (mergekit's alpha).
        epsilon: an entry is changed where |tau| exceeds this.

    For experts whose task vectors are sparse, as after reinforcement learning; of dense ones all entries are shared, and
    RAM is the mean. The ratio is that of each tensor, as in mergekit, not of the model.

    Source: Yuan et al. 2026, "Behavior Knowledge Merge in Reinforced Agentic Models", arXiv:2601.13572, of which the
    abstract was read; formulas and defaults are those of mergekit's code.
    """

    boost: Annotated[float, Knob(0, 2, "share added to an entry changed alone")] = 0.0
    most: Annotated[float, Knob(0, 10, "ratio of shared to own entries")] = 0.2
    epsilon: Annotated[float, Knob(0, 1, "change in weight units", 1e-5)] = 1e-5
    name: ClassVar[str] = "ram"
    paper: ClassVar[str] = "Yuan et al. 2026, arXiv:2601.13572"

    @property
    def homogeneous(self) -> bool:
        return self.epsilon == 0

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        changed = taus.abs() > self.epsilon
        count = changed.sum(0)
        alone = changed & (count == 1)
        own = alone.reshape(len(taus), -1).sum(1)
        shared = changed.reshape(len(taus), -1).sum(1) - own
        ratio = (shared.double() / own.clamp(min=1)).clamp(max=self.most)
        gain = (1 + self.boost * ratio).to(taus.dtype).reshape(-1, *[1] * (taus.ndim - 1))
        kept = torch.where(changed, taus, torch.zeros_like(taus))
        return ordered_sum(torch.where(alone, gain * kept, kept)) / count.clamp(min=1)
