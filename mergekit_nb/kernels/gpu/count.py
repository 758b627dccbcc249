"""TIES' counts for exact thresholds, in one kernel a round."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from mergekit_nb.kernels.gpu.rows import EXACT, keys, places, subtract, tiles

DIGIT = tl.constexpr(16)  # as in maths.histogram
DIGITS = tl.constexpr(1 << 16)  # values of a digit


def count(rows: Tensor, size: int, prefix: Tensor | None, counts: Tensor, top: Tensor) -> None:
    """`maths.histogram.count` of float32 task vectors.

    Args:
        rows, top: see `elect.emr`.
        size: how many entries are not filled up.
        prefix: int32 `task`, the first digit found; None in the first round.
        counts: int64 `task 65536`, added to.
    """
    ends = (rows, rows.stride(0), len(rows) - 1)
    second = prefix is not None
    _count[tiles(rows)](*ends, size, prefix if second else counts, counts, top, SECOND=second, **EXACT)


@triton.jit(do_not_specialize=["tasks", "size"])
def _count(rows, stride, tasks, size, prefix, counts, top, SECOND: tl.constexpr):
    at, most = places(), 0
    for t in range(tasks):
        key = keys(subtract(rows, stride, t, at))
        most = tl.maximum(most, tl.max(key))
        digit, counted = key >> DIGIT, at < size
        if SECOND:
            counted = counted & (digit == tl.load(prefix + t))
            digit = key & (DIGITS - 1)
        # what did not change at all is often most of it: one addition for all of these, not one each to the same place
        zeros = tl.sum((counted & (key == 0)).to(tl.int64))
        tl.atomic_add(counts + t * DIGITS, zeros, sem="relaxed")
        tl.atomic_add(counts + t * DIGITS + digit, 1, mask=counted & (key != 0), sem="relaxed")
    tl.atomic_max(top, most, sem="relaxed")
