"""TIES-Merging on a GPU: one kernel a round of counting, one for the majority sign, one for the merge."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mergekit_nb.engine.feed import home
from mergekit_nb.engine.forms.form import Finished, finite
from mergekit_nb.engine.forms.gpu import OnGpu, counted
from mergekit_nb.engine.forms.stack import Stack, kernels
from mergekit_nb.maths import histogram
from mergekit_nb.methods import Ties
from mergekit_nb.methods.base import Totals

EVERY = torch.iinfo(torch.int64).max  # no entry comes after it


@dataclass(frozen=True)
class GpuTies(OnGpu):
    """TIES-Merging with the authors' trim and election, and mergekit's and PEFT's per tensor."""

    _found: dict = field(default_factory=dict, compare=False, repr=False)
    suits = Ties

    def ready(self):
        method = self.method
        known = method.elect == "mass" and method.merge_as in ("dis-mean", "dis-sum")
        return known and (method.scope in ("model", "tensor") or method.density == 1)

    def measured(self, site, stack, totals):
        done = len(totals)
        if done == self.method._trim_rounds(torch.float32):
            return self._majority(stack, totals)
        counts = counted(stack, self._prefix(totals, done))
        return None if counts is None else {"counts": counts, "size": torch.tensor(site.size)}

    def finished(self, site, stack, totals):
        method, kept = self.method, self._kept(stack, totals)
        if kept is None:
            return None
        vector, top = stack.room(), stack.zeros(1, dtype=torch.int32)
        fill = method._zeros_settled(torch.zeros(1), totals).item()
        shares = torch.zeros(stack.tasks) if method.merge_as == "dis-sum" else method._share(torch.empty(stack.tasks))
        weights = (stack.numbers(self._voting()), stack.numbers(method.weights), stack.numbers(shares))
        kernels().ties(stack.rows, *kept, *weights, fill, float(method.scale), vector, top)
        return Finished(vector[: stack.size]) if finite(int(home(top)[0])) else None

    def _majority(self, stack: Stack, totals: Totals) -> dict[str, Tensor] | None:
        kept = self._kept(stack, totals)
        if kept is None:
            return None
        signs, top = stack.zeros(1, dtype=torch.int64), stack.zeros(1, dtype=torch.int32)
        kernels().majority(stack.rows, *kept, stack.numbers(self._voting()), signs, top)
        signs, top = home(signs, top)
        return {"signs": signs.squeeze(0)} if finite(int(top)) else None

    def _voting(self) -> tuple[float, ...] | None:
        return self.method.weights if self.method.divide_by == "weights" else None

    def _kept(self, stack: Stack, totals: Totals) -> tuple[Tensor, Tensor] | None:
        """Every task's threshold, and the last entry equal to it that stays: as a rule all do."""
        every = stack.numbers((EVERY,) * stack.tasks, torch.int64)
        if self.method.density == 1:
            return stack.numbers((0.0,) * stack.tasks), every
        if self.method.scope == "tensor":
            return self._kept_of_tensor(stack)
        prefix = self._prefix(totals, self.method._trim_rounds(torch.float32))
        return stack.numbers(histogram.value(prefix, torch.float32)), every

    def _prefix(self, totals: Totals, done: int) -> Tensor | None:
        """The digits found in `done` rounds: looked for once, not for every piece."""
        if self._found.get("totals") is not totals:
            self._found.update(totals=totals, prefix=self.method._prefix(totals, done)[0])
        return self._found["prefix"]

    def _kept_of_tensor(self, stack: Stack) -> tuple[Tensor, Tensor] | None:
        """Exactly int(n * density) stay: those above the threshold, and the first of those equal to it."""
        keep = int(stack.size * self.method.density)
        if keep == 0:
            return stack.numbers((torch.inf,) * stack.tasks), stack.numbers((-1,) * stack.tasks, torch.int64)
        rank, prefix = torch.full((stack.tasks,), stack.size - keep + 1), None
        for _ in range(histogram.rounds(torch.float32)):
            counts = counted(stack, prefix)
            if counts is None:
                return None
            prefix, rank = histogram.descend(counts, rank, prefix)
        same = counts.gather(1, (prefix & (1 << histogram.DIGIT) - 1)[:, None]).squeeze(1)
        thresholds = histogram.value(prefix, torch.float32)
        lasts = [_last(stack, t, *some) for t, some in enumerate(zip(thresholds, same, same - rank + 1, strict=True))]
        return stack.numbers(thresholds), stack.numbers(lasts, torch.int64)


def _last(stack: Stack, t: int, threshold: Tensor, same: Tensor, equal: Tensor) -> int:
    """The entry up to which those of task t that equal its threshold stay, when the first `equal` of `same` do."""
    if equal == same:
        return EVERY
    base, expert = stack.rows[0, : stack.size], stack.rows[1 + t, : stack.size]
    return int(((expert.float() - base.float()).abs() == threshold.item()).nonzero()[int(equal) - 1])
