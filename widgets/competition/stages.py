"""The models at the end of each step, and the method that makes them without measuring again."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mergekit_nb.methods.base import Totals
from mergekit_nb.methods.pcb import Pcb
from mergekit_nb.progress import CancelFlag
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors
from mergekit_nb.widgets.accuracy_figure import Look
from mergekit_nb.widgets.competition.contest import Stage
from mergekit_nb.widgets.competition.study import Study

# Okabe and Ito's colours, as in EMR's variants; patterns tell them apart in print
LOOKS = {
    "base": Look("base, zero-shot", "#999999", ""),
    "mean": Look("plain mean", "#e69f00", "/"),
    "intra": Look("weighed by intra", "#56b4e9", "\\"),
    "inter": Look("by the score, none dropped", "#cc79a7", "x"),
    "drop": Look("survivors, plain mean", "#d55e00", "."),
    "pcb": Look("PCB", "#0072b2", ""),
    "individual": Look("individual experts", "#009e73", ""),
}
OF_STEP = ("mean", "intra", "inter", "drop", "pcb")  # the model that a step would end with


@dataclass(frozen=True)
class Remembered(Pcb):
    """PCB-Merging, or what one of its stages would leave, from a study that remembers its scores.

    Attributes:
        study: the models; the same must be handed to `mk.merge`.
        stage: with what the method ends.
        cancel: asked while the study measures.
    """

    study: Study | None = None
    stage: Stage = "pcb"
    cancel: CancelFlag | None = None

    def rounds(self, dtype: torch.dtype) -> int:
        return 0

    def merge(self, site: Site, taus: Tensor, totals: Totals) -> Tensor:
        if not site.size:
            return torch.zeros_like(taus[0])
        return self.study.contest(self.variant, self.ratio, self.cancel).merged(site.name, self.scale, self.stage)

    def notes(self, taus: TaskVectors, totals: Totals) -> list[str]:
        return []

    def options(self) -> dict[str, Any]:
        """The hyper-parameters of the method itself."""
        return self.plain().options()

    def plain(self) -> Pcb:
        """The method for `mk.merge` on any models."""
        return Pcb(**{field.name: getattr(self, field.name) for field in fields(Pcb)})
