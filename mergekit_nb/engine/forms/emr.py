"""EMR-Merging, compiled."""

from __future__ import annotations

import numpy as np
import torch

from mergekit_nb.engine.forms.form import Fast, Finished, Rows, finite, kernels
from mergekit_nb.methods import Emr
from mergekit_nb.weights.rooms import ROOMS


class FastEmr(Fast):
    """EMR-Merging: what it measures and what it merges come from one walk."""

    suits = Emr

    def finish(self, site, base, experts, totals):
        rows = Rows.of(base, experts)
        vector, width = ROOMS.take("vector", rows.size, torch.float32), -(-rows.size // 8)
        packed = ROOMS.take("masks", rows.tasks * width, torch.uint8).reshape(rows.tasks, width)
        sums = torch.zeros(2, rows.tasks, 256, dtype=torch.int64)
        tie = np.float32({"negative": -1, "zero": 0, "positive": 1}[self.method.tie])
        top = kernels().emr(rows.addresses, rows.size, tie, vector.numpy(), packed.numpy(), *sums.numpy())
        return Finished(vector, list(packed), None, {site.name: sums[..., None]}) if finite(top) else None

    def measure(self, site, base, experts, totals):
        done = self.finish(site, base, experts, totals)
        return done and done.parts
