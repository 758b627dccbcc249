"""EMR-Merging in one kernel on a GPU."""

from __future__ import annotations

import torch

from mergekit_nb.engine.feed import home
from mergekit_nb.engine.forms.form import Finished, finite
from mergekit_nb.engine.forms.gpu import OnGpu
from mergekit_nb.engine.forms.stack import kernels
from mergekit_nb.methods import Emr


class GpuEmr(OnGpu):
    """EMR-Merging: unified vector, packed masks and the sums for the rescalers."""

    suits = Emr

    def finished(self, site, stack, totals):
        vector, packed = stack.room(), stack.room(stack.tasks, dtype=torch.uint8)
        sums, top = stack.zeros(2, stack.tasks, 256, dtype=torch.int64), stack.zeros(1, dtype=torch.int32)
        tie = {"negative": -1.0, "zero": 0.0, "positive": 1.0}[self.method.tie]
        kernels().emr(stack.rows, tie, vector, packed, sums, top)
        packed, sums, top = home(packed[:, : -(-stack.size // 8)], sums, top)
        if not finite(int(top)):
            return None
        return Finished(vector[: stack.size], list(packed), None, {site.name: sums[..., None]})

    def measured(self, site, stack, totals):
        done = self.finished(site, stack, totals)
        return done and done.parts
