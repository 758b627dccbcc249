"""The models in the competition; their scores are computed once and kept while they are few. Torch and numpy only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.maths import compete, histogram
from mergekit_nb.methods.base import Totals
from mergekit_nb.methods.pcb import Pcb
from mergekit_nb.progress import CancelFlag, ticker
from mergekit_nb.weights.match import match
from mergekit_nb.weights.source import open as open_source
from mergekit_nb.weights.task_vectors import TaskVectors
from mergekit_nb.widgets.competition.contest import Contest
from mergekit_nb.widgets.models import Model, Models, given, tests_of

AS_MANY = (
    100_000_000  # scores of a variant that are kept, in entries: 400 MB; more are computed whenever they are needed
)


@dataclass(frozen=True)
class Study(Models):
    """A base, its experts, and every competition between them that was asked for."""

    contests: dict[tuple[str, float], Contest] = field(default_factory=dict)
    _ranges: dict[str, Totals] = field(default_factory=dict)
    _kept: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def few(self) -> bool:
        """Whether the scores of one variant fit into memory well."""
        return sum(self.sizes.values()) * len(self.tasks) <= AS_MANY

    def contest(self, variant: str, ratio: float, cancel: CancelFlag | None = None) -> Contest:
        """What `mk.merge("pcb", variant=..., ratio=...)` measures over the whole model; made once, then remembered.

        Raises:
            mergekit_nb.progress.Cancelled: `cancel` was set.
        """
        if (variant, ratio) not in self.contests:
            method = Pcb(variant=variant, ratio=ratio)
            if variant not in self._ranges:
                rounds = method.rounds(torch.float32) - histogram.rounds(torch.float32)
                self._ranges[variant] = self._measured(method, (), rounds, cancel)
            self.contests[variant, ratio] = Contest(self, method, self._ranges[variant], self._cut(method, cancel))
        return self.contests[variant, ratio]

    def scores(self, variant: str, name: str) -> Tensor:
        """intra * inter of every entry of one tensor: task *shape."""
        if variant not in self._kept:
            return self._fresh(variant, name)
        here = self._kept[variant][:, self._slices[name]]
        return here.reshape(len(self.tasks), *self.vectors.site(name).shape)

    @torch.no_grad()
    def _cut(self, method: Pcb, cancel: CancelFlag | None) -> Tensor:
        """What `Pcb.cut` finds in two rounds: in one selection where all scores are at hand."""
        totals = self._ranges[method.variant]
        if not self.few:
            return method.cut(self._measured(method, totals, histogram.rounds(torch.float32), cancel), torch.float32)
        if method.variant not in self._kept:
            fresh = [self._fresh(method.variant, name).flatten(1) for name in self._each(cancel)]
            self._kept[method.variant] = torch.cat(fresh, 1)
        scores = self._kept[method.variant]
        rank = compete.cut_rank(scores.shape[1], method.ratio)
        return torch.stack([scores.kthvalue(rank, 1).values, scores.amax(1)])

    def _fresh(self, variant: str, name: str) -> Tensor:
        return Pcb(variant=variant).scores(self.vectors.at(name), self._ranges[variant])

    @cached_property
    def _slices(self) -> dict[str, slice]:
        """Where every tensor's entries lie among all."""
        ends = accumulate(self.sizes.values())
        return {name: slice(end - size, end) for (name, size), end in zip(self.sizes.items(), ends, strict=True)}

    def _measured(self, method: Pcb, totals: Totals, rounds: int, cancel: CancelFlag | None) -> Totals:
        """Some more of the method's measuring rounds."""
        for _ in range(rounds):
            sites = ((self.vectors.site(name), self.vectors.at(name)) for name in self._each(cancel))
            totals += (_added(method.measure(site, taus, totals) for site, taus in sites),)
        return totals

    def _each(self, cancel: CancelFlag | None) -> Iterable[str]:
        """The tensors that hold anything; raises where the reader has lost patience."""
        with ticker(False, len(self.sizes), "the competition", cancel) as tick:
            for name in self.sizes:
                yield name
                tick(1)


def study(
    base: Model | None = None, experts: Mapping[str, Model] | None = None, tasks: Mapping[str, Task] | None = None
) -> Study:
    """The models; without arguments, the embedded zoo. Nothing is computed yet.

    Raises:
        ValueError: the models do not fit together; the message names all that is wrong.
    """
    base, experts, tasks = given(base, experts, tasks)
    base, experts = open_source(base), {task: open_source(expert) for task, expert in experts.items()}
    vectors = TaskVectors(base, experts, match(base, experts).merged)
    return Study(vectors, tests_of(tasks, vectors.tasks))


def _added(parts: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total[key] + value if key in total else value
    return total
