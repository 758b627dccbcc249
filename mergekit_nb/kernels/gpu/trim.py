"""TIES' finish: trim, elect and disjoint merge in one kernel; and the majority sign."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from mergekit_nb.kernels.gpu.rows import BYTE, EXACT, TILE, divide, keys, places, plus, subtract, tiles


def majority(rows: Tensor, thresholds: Tensor, lasts: Tensor, voting: Tensor, signs: Tensor, top: Tensor):
    """Adds all elected signs to `signs`, int64 `1`, as `methods.ties.Ties.measure` counts them; else see `ties`."""
    ends = (rows, rows.stride(0), len(rows) - 1)
    _majority[tiles(rows)](*ends, thresholds, lasts, voting, signs, top, **EXACT)


def ties(
    rows: Tensor, thresholds: Tensor, lasts: Tensor, voting: Tensor, weights: Tensor, shares: Tensor,
    fill: float, scale: float, vector: Tensor, top: Tensor,
) -> None:  # fmt: skip
    """Trim, elect by mass, and the mean or sum of what agrees, into `vector`.

    Args:
        rows, top: see `elect.emr`.
        thresholds, lasts: float32 and int64 `task`; larger magnitudes stay, of equal ones those up to the last entry.
        voting, weights: float32 `task`; the weight in the election, and in the merge.
        shares: float32 `task`; what an agreeing task adds to the divisor: zeros for a sum.
        fill: the sign where the votes sum to 0.
    """
    ends = (rows, rows.stride(0), len(rows) - 1)
    _ties[tiles(rows)](*ends, thresholds, lasts, voting, weights, shares, fill, scale, vector, top, **EXACT)


@triton.jit
def _trimmed(rows, stride, t, at, thresholds, lasts):
    tau = subtract(rows, stride, t, at)
    threshold, key = tl.load(thresholds + t), keys(tau)
    size = tl.abs(tau)
    return tl.where((size > threshold) | (size == threshold) & (at <= tl.load(lasts + t)), tau, 0.0), tl.max(key)


@triton.jit
def _votes(rows, stride, tasks, at, thresholds, lasts, voting):
    """The sum of the weighted votes; and the bits of the largest magnitude."""
    total, most = tl.zeros([TILE // BYTE, BYTE], tl.float32), 0
    for t in range(tasks):
        tau, largest = _trimmed(rows, stride, t, at, thresholds, lasts)
        most = tl.maximum(most, largest)
        total = plus(total, tau * tl.load(voting + t), t)
    return total, most


@triton.jit(do_not_specialize=["tasks"])
def _majority(rows, stride, tasks, thresholds, lasts, voting, signs, top):
    at = places()
    total, most = _votes(rows, stride, tasks, at, thresholds, lasts, voting)
    tl.atomic_max(top, most, sem="relaxed")
    tl.atomic_add(signs, tl.sum((total > 0).to(tl.int64) - (total < 0).to(tl.int64)), sem="relaxed")


@triton.jit(do_not_specialize=["tasks", "fill", "scale"])
def _ties(rows, stride, tasks, thresholds, lasts, voting, weights, shares, fill, scale, vector, top):
    at = places()
    votes, most = _votes(rows, stride, tasks, at, thresholds, lasts, voting)
    tl.atomic_max(top, most, sem="relaxed")
    sign = tl.where(votes > 0, 1.0, tl.where(votes < 0, -1.0, fill))
    total = tl.zeros([TILE // BYTE, BYTE], tl.float32)
    divisor = total
    for t in range(tasks):
        tau, _ = _trimmed(rows, stride, t, at, thresholds, lasts)
        agrees = tau * tl.load(voting + t) * sign > 0
        total = plus(total, tl.where(agrees, tau * tl.load(weights + t), 0.0), t)
        divisor = plus(divisor, tl.where(agrees, tl.load(shares + t), 0.0), t)
    mean = divide(total, tl.where(divisor != 0, divisor, 1.0))
    tl.store(vector + at, scale * mean)
