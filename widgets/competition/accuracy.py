"""Accuracy of the models that the competition's steps would end with, measured while you watch."""

import threading
from collections.abc import Hashable, Mapping
from typing import ClassVar

import mergekit_nb as mk
from mergekit_nb.evaluation.subject import Subject
from mergekit_nb.widgets.accuracy import Accuracy
from mergekit_nb.widgets.accuracy_figure import Look
from mergekit_nb.widgets.competition.stages import LOOKS, OF_STEP, Remembered

DROPPING = ("drop", "pcb")  # the stages that depend on the ratio


class StageAccuracy(Accuracy):
    """Accuracy per task of every stage that is a model: see `Contest.weights`."""

    looks: ClassVar[Mapping[str, Look]] = LOOKS
    off: ClassVar[tuple[str, ...]] = ("intra", "inter")
    of_step: ClassVar[tuple[str, ...]] = OF_STEP
    moved_by: ClassVar[tuple[str, ...]] = ("variant", "ratio", "scale")
    again: ClassVar[str] = "again when variant, ratio or λ move"

    def about(self, variant: str) -> Hashable:
        """Form, ratio and scale, as far as the stage depends on them."""
        if variant in ("base", "individual"):
            return None
        return self.state.variant, self.state.ratio if variant in DROPPING else None, self.state.scale

    def subject(self, variant: str, about: Hashable, cancel: threading.Event) -> Subject:
        vectors = self.study.vectors
        if variant in ("base", "individual"):
            return vectors.base if variant == "base" else vectors.experts
        form, ratio, scale = about
        method = Remembered(form, ratio or self.state.ratio, scale, study=self.study, stage=variant, cancel=cancel)
        return mk.merge(method, vectors.base, vectors.experts, cancel=cancel)

    def title(self) -> str:
        state = self.state
        return f"Accuracy per task of what each step leaves, 95 % intervals; variant {state.variant}, ratio {state.ratio:.3g}, λ = {state.scale:g}"
