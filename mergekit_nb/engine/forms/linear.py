"""Task arithmetic and averaging, compiled."""

from __future__ import annotations

import numpy as np
import torch

from mergekit_nb.engine.forms.form import Fast, Finished, Rows, finite, kernels, numbers
from mergekit_nb.methods import Average, TaskArithmetic
from mergekit_nb.weights.rooms import ROOMS


class FastSum(Fast):
    """Task arithmetic."""

    suits = TaskArithmetic

    def finish(self, site, base, experts, totals):
        return self._added(Rows.of(base, experts), self.method.weights, self.method.scale, 1)

    def _added(self, rows: Rows, weights, scale: float, divisor: int) -> Finished | None:
        vector = ROOMS.take("vector", rows.size, torch.float32)
        weights = numbers(weights, rows.tasks)
        scale, divisor = np.float32(scale), np.float32(divisor)
        top = kernels().add(rows.addresses, rows.size, weights, scale, divisor, vector.numpy())
        return Finished(vector) if finite(top) else None


class FastAverage(FastSum):
    """Averaging."""

    suits = Average

    def finish(self, site, base, experts, totals):
        return self._added(Rows.of(base, experts), None, 1, len(experts))
