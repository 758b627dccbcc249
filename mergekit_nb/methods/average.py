"""Averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.methods.base import Grain, Method, Totals
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class Average(Method):
    """The mean of the experts: base + (1/T) sum of the task vectors.

    Source: Wortsman et al. 2022, "Model soups", arXiv:2203.05482 (uniform soup). The base cancels; it is only needed
    for tensors that are not merged.
    """

    name: ClassVar[str] = "average"
    paper: ClassVar[str] = "Wortsman et al. 2022, arXiv:2203.05482"
    grain: ClassVar[Grain] = "entry"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return ordered_sum(taus) / len(taus)
