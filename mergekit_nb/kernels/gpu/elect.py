"""EMR in one kernel: elect, mask, pack, and the exact sums that the rescalers are made of."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from mergekit_nb.kernels.gpu.rows import BYTE, EXACT, TILE, keys, places, plus, subtract, tiles
from mergekit_nb.kernels.gpu.sums import add_magnitudes

BINS = tl.constexpr(256)  # exponents of a float32


def emr(rows: Tensor, tie: float, vector: Tensor, packed: Tensor, sums: Tensor, top: Tensor) -> None:
    """`maths.elect.elect` and `mask`, and the sums of `methods.emr.Emr.measure`.

    Args:
        rows: `1 + task entry`, contiguous, the base first, whole tiles (filled up with zeros); float32, float16 or bfloat16.
        tie: the sign where the tasks sum to 0.
        vector: float32 `entry`, written: the unified vector.
        packed: uint8 `task byte`, written: masks as `weights.modulators.pack` packs them.
        sums: int64 `2 task 256`, added to: |tau_t| and |M_t * tau_uni|, see `sums.add_magnitudes`.
        top: int32 `1`, raised to the bits of the largest magnitude of a task vector.
    """
    ends = (rows, rows.stride(0), len(rows) - 1)
    _emr[tiles(rows)](*ends, tie, vector, packed, sums, top, **EXACT)


@triton.jit(do_not_specialize=["tasks", "tie"])
def _emr(rows, stride, tasks, tie, vector, packed, sums, top):
    at = places()
    total = tl.zeros([TILE // BYTE, BYTE], tl.float32)
    high, low, most = total, total, 0
    for t in range(tasks):
        tau = subtract(rows, stride, t, at)
        add_magnitudes(tau, sums + t * BINS)
        most = tl.maximum(most, tl.max(keys(tau)))
        total = plus(total, tau, t)
        high = tl.where(tau > high, tau, high)
        low = tl.where(-tau > low, -tau, low)
    tl.atomic_max(top, most, sem="relaxed")
    sign = tl.where(total > 0, 1.0, tl.where(total < 0, -1.0, tie))
    largest = tl.where(sign > 0, high, tl.where(sign < 0, low, 0.0))
    tl.store(vector + at, sign * largest)
    for t in range(tasks):
        agree = subtract(rows, stride, t, at) * sign > 0
        _pack(agree, packed + t * (stride // BYTE).to(tl.int64))
        add_magnitudes(tl.where(agree, largest, 0.0), sums + (tasks + t) * BINS)


@triton.jit
def _pack(agree, packed):
    """Eight entries to a byte, the first in the lowest bit."""
    bits = tl.sum(agree.to(tl.int32) << tl.arange(0, BYTE)[None, :], 1)
    at = tl.program_id(0).to(tl.int64) * (TILE // BYTE) + tl.arange(0, TILE // BYTE)
    tl.store(packed + at, bits.to(tl.uint8))
