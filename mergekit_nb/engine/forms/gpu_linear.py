"""Task arithmetic and averaging in one kernel on a GPU."""

from __future__ import annotations

import torch

from mergekit_nb.engine.feed import home
from mergekit_nb.engine.forms.form import Finished, finite
from mergekit_nb.engine.forms.gpu import OnGpu
from mergekit_nb.engine.forms.stack import Stack, kernels
from mergekit_nb.methods import Average, TaskArithmetic


class GpuSum(OnGpu):
    """Task arithmetic."""

    suits = TaskArithmetic

    def finished(self, site, stack, totals):
        return _added(stack, self.method.weights, self.method.scale, 1)


class GpuAverage(OnGpu):
    """Averaging. torch itself multiplies by 1/T on a GPU, in other last bits than the CPU's division, which is used here."""

    suits = Average

    def finished(self, site, stack, totals):
        return _added(stack, None, 1, stack.tasks)


def _added(stack: Stack, weights, scale: float, divisor: int) -> Finished | None:
    vector, top = stack.room(), stack.zeros(1, dtype=torch.int32)
    kernels().add(stack.rows, stack.numbers(weights), float(scale), float(divisor), vector, top)
    return Finished(vector[: stack.size]) if finite(int(home(top)[0])) else None
