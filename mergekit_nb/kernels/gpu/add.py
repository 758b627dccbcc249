"""Task arithmetic and averaging in one kernel."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from mergekit_nb.kernels.gpu.rows import BYTE, EXACT, TILE, divide, keys, places, plus, subtract, tiles


def add(rows: Tensor, weights: Tensor, scale: float, divisor: float, vector: Tensor, top: Tensor) -> None:
    """scale * sum of weights_t * tau_t / divisor, in float32, into `vector`.

    Args:
        rows, top: see `elect.emr`.
        weights: float32 `task`.
    """
    ends = (rows, rows.stride(0), len(rows) - 1)
    _add[tiles(rows)](*ends, weights, scale, divisor, vector, top, **EXACT)


@triton.jit(do_not_specialize=["tasks", "scale", "divisor"])
def _add(rows, stride, tasks, weights, scale, divisor, vector, top):
    at = places()
    total, most = tl.zeros([TILE // BYTE, BYTE], tl.float32), 0
    for t in range(tasks):
        tau = subtract(rows, stride, t, at)
        most = tl.maximum(most, tl.max(keys(tau)))
        total = plus(total, tau * tl.load(weights + t), t)
    tl.atomic_max(top, most, sem="relaxed")
    tl.store(vector + at, divide(scale * total, divisor))
