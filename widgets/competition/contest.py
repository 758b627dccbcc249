"""One competition: a form of PCB-Merging and a ratio, with the ranges and thresholds of the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.maths import compete
from mergekit_nb.methods.base import Totals
from mergekit_nb.methods.pcb import Pcb
from mergekit_nb.widgets.competition.measure import Overview, overview

if TYPE_CHECKING:
    from mergekit_nb.widgets.competition.study import Study

Stage = Literal["mean", "intra", "inter", "drop", "pcb"]


@dataclass(frozen=True, eq=False)
class Contest:
    """What `mk.merge("pcb")` knows when it merges, and what each of its steps makes of a tensor.

    Attributes:
        method: form and ratio; its scale is not looked at.
        totals: what the rounds that look at the range of the task vectors added up to.
        ends_of_scores: what `Pcb.cut` says: 2 task.
    """

    study: Study
    method: Pcb
    totals: Totals
    ends_of_scores: Tensor

    @cached_property
    def cut(self) -> np.ndarray:
        """The score at and below which a task drops an entry: task, float64."""
        return self.ends_of_scores[0].double().numpy()

    @cached_property
    def overview(self) -> Overview:
        """Measures of every layer."""
        return overview(self)

    def scores(self, name: str) -> Tensor:
        """intra * inter: task *shape."""
        return self.study.scores(self.method.variant, name)

    def clipped(self, name: str) -> Tensor:
        """The task vectors as they are merged: task *shape."""
        taus = self.study.vectors.at(name)
        return taus if self.method.variant == "paper" else compete.clip(taus, *self._ends)

    def intra(self, name: str) -> Tensor:
        """How much an entry matters within its own task, 1 at the least: task *shape. (The paper's softmax, times e^T.)"""
        taus = self.study.vectors.at(name)
        if self.method.variant == "paper":
            return compete.softmax_intra(taus, self._ends) * float(np.exp(len(taus)))
        return compete.intra_balance(taus, *self._ends)

    def weights(self, name: str, stage: Stage = "pcb") -> Tensor:
        """What every entry counts for if the method ended with this stage: task *shape, none below 0.

        "mean": all the same. "intra": by intra-balancing alone. "inter": by the whole score, nothing dropped, which is
        the method with ratio 1. "drop": survivors all the same. "pcb": the method.
        """
        if stage == "mean":
            return torch.ones_like(self.study.vectors.at(name))
        if stage == "intra":
            return self.intra(name)
        if stage == "inter":
            return self.study.contest(self.method.variant, 1.0).weights(name)
        weights = self.method.weigh(self.scores(name), self.ends_of_scores, self._varied)
        return weights if stage == "pcb" else (weights > 0).to(weights.dtype)

    @torch.no_grad()
    def merged(self, name: str, scale: float, stage: Stage = "pcb") -> Tensor:
        """The merged task vector of one tensor: *shape."""
        taus = self.clipped(name)
        return compete.fuse(taus, self.weights(name, stage), torch.full((len(taus),), scale, dtype=taus.dtype))

    @cached_property
    def _varied(self) -> Tensor:
        return self.method.varied(self.totals, torch.float32)

    @cached_property
    def _ends(self) -> Tensor:
        return self.method.ends(self.totals, torch.zeros(1))
