"""TIES-Merging, compiled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.engine.forms.form import Fast, Finished, Rows, counted, finite, kernels, numbers
from mergekit_nb.engine.forms.select import threshold
from mergekit_nb.maths import histogram
from mergekit_nb.methods import Ties
from mergekit_nb.methods.base import Totals
from mergekit_nb.weights.rooms import ROOMS


@dataclass(frozen=True)
class FastTies(Fast):
    """TIES-Merging with the authors' trim and election, and mergekit's and PEFT's per tensor."""

    _found: dict = field(default_factory=dict, compare=False, repr=False)
    suits = Ties

    def ready(self):
        method = self.method
        known = method.elect == "mass" and method.merge_as in ("dis-mean", "dis-sum")
        return known and (method.scope in ("model", "tensor") or method.density == 1)

    def add(self, site, base, experts, totals, parts):
        found = self.measure(site, base, experts, totals, parts.get("counts"))
        for key, value in (found or {}).items():
            if value is not parts.get(key):
                parts[key] = parts[key] + value if key in parts else value
        return found is not None

    def measure(self, site, base, experts, totals, counts=None):
        method, rows, done = self.method, Rows.of(base, experts), len(totals)
        if done == method._trim_rounds(torch.float32):
            voting = numbers(self._voting(), rows.tasks)
            top, signs = kernels().majority(rows.addresses, rows.size, *self._kept(rows, totals), voting)
            return {"signs": torch.tensor(signs)} if finite(top) else None
        counts = counted(rows, self._prefix(totals, done), counts)
        return None if counts is None else {"counts": counts, "size": torch.tensor(site.size)}

    def finish(self, site, base, experts, totals):
        method, rows = self.method, Rows.of(base, experts)
        kept = self._kept(rows, totals)
        if kept is None:
            return None
        vector, ones = ROOMS.take("vector", rows.size, torch.float32), torch.zeros(1)
        fill = np.float32(method._zeros_settled(ones, totals).item())
        shares = method._share(torch.empty(rows.tasks)).numpy() if method.merge_as == "dis-mean" else numbers((), 0)
        voting, weights = numbers(self._voting(), rows.tasks), numbers(method.weights, rows.tasks)
        rest = (voting, weights, shares, fill, np.float32(method.scale), vector.numpy())
        top = kernels().ties(rows.addresses, rows.size, *kept, *rest)
        return Finished(vector) if finite(top) else None

    def _voting(self) -> tuple[float, ...] | None:
        return self.method.weights if self.method.divide_by == "weights" else None

    def _kept(self, rows: Rows, totals: Totals) -> tuple[np.ndarray, np.ndarray] | None:
        """Every task's threshold, and how many entries equal to it stay: as a rule all."""
        every = np.full(rows.tasks, rows.size)
        if self.method.density == 1:
            return np.zeros(rows.tasks, np.float32), every
        if self.method.scope == "tensor":
            return self._kept_of_tensor(rows)
        prefix = self._prefix(totals, self.method._trim_rounds(torch.float32))
        return histogram.value(prefix, torch.float32).numpy(), every

    def _prefix(self, totals: Totals, done: int) -> Tensor | None:
        """The digits found in `done` rounds: looked for once, not for every piece."""
        if self._found.get("totals") is not totals:
            self._found.update(totals=totals, prefix=self.method._prefix(totals, done)[0])
        return self._found["prefix"]

    def _kept_of_tensor(self, rows: Rows) -> tuple[np.ndarray, np.ndarray] | None:
        """Exactly int(n * density) stay: those above the threshold, and the first of those equal to it."""
        keep = int(rows.size * self.method.density)
        if keep == 0:
            return np.full(rows.tasks, np.inf, np.float32), np.zeros(rows.tasks, np.int64)
        return threshold(rows, keep)
