"""The models under the walk, and what was measured on them once: everything the panels look up."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

import mergekit_nb as mk
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.progress import Progress
from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.task_vectors import TaskVectors
from mergekit_nb.widgets.models import Model, Models, given, tests_of
from mergekit_nb.widgets.walk.columns import Columns, chosen, columns
from mergekit_nb.widgets.walk.measure import Overview, overview
from mergekit_nb.widgets.walk.state import WalkState


@dataclass(frozen=True)
class Study(Models):
    """A base, its experts and their EMR merge.

    Attributes:
        merged: what `mk.merge("emr", ...)` returned; masks and rescalers shown are these.
    """

    merged: Merged

    @cached_property
    def scalers(self) -> np.ndarray:
        """The model-wide rescaler of every task: task, float64."""
        return np.array([float(self.merged.patches[task].scale) for task in self.tasks])

    @cached_property
    def overview(self) -> Overview:
        """Measures of every layer."""
        return overview(self.vectors, self.merged, self.layers)

    def columns(self, tensor: str, pick: str, k: int, seed: int = 0, indices: tuple[int, ...] = ()) -> Columns:
        """Some single weights of one tensor and what the three steps make of them."""
        taus = self.vectors.at(tensor).reshape(len(self.tasks), -1)
        masks = torch.stack([self.merged.patches[task].mask[tensor].cpu().flatten() for task in self.tasks])
        shared = self.merged.vector[tensor].cpu().float().flatten()
        where = chosen(taus, pick, k, tensor, seed, indices)
        tie = self.merged.provenance["options"]["tie"]
        return columns(taus, shared, masks, self.scalers, where, self.vectors.site(tensor).shape, tie)


def study(
    base: Model | None = None,
    experts: Mapping[str, Model] | None = None,
    tasks: Mapping[str, Task] | None = None,
    *,
    progress: Progress = False,
    **options: object,
) -> Study:
    """Merge by EMR and measure every layer; without arguments, the embedded zoo.

    Args:
        base: what the experts were fine-tuned from.
        experts: fine-tuned models by task, at least two.
        tasks: what the experts can be tested on; None leaves accuracy out.
        progress: as in `mk.merge`.
        options: further arguments of `mk.merge("emr", ...)`, such as `rescale="global"`.
    """
    base, experts, tasks = given(base, experts, tasks)
    merged = mk.merge("emr", base, experts, progress=progress, **options)
    opened = {task: mk.open(expert) for task, expert in experts.items()}
    vectors = TaskVectors(mk.open(base), opened, tuple(merged.vector))
    return Study(vectors, tests_of(tasks, vectors.tasks), merged)


def state_of(
    state: WalkState | None,
    base: Model | None,
    experts: Mapping[str, Model] | None,
    tasks: Mapping[str, Task] | None = None,
) -> WalkState:
    """Another panel's state, or a new one on models of their own.

    Raises:
        ValueError: both were given: which models are meant cannot be told.
    """
    if state is None:
        return WalkState(study(base, experts, tasks))
    if base is not None or experts is not None or tasks is not None:
        raise ValueError("pass models, or the state= of another panel, not both: the state has its models already")
    return state
