"""EMR in one walk over the weights: elect, mask, pack, and the exact sums that the rescalers are made of."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import BLOCK, ordered_sum, subtract
from mergekit_nb.kernels.sums import add_magnitudes


@numba.njit(nogil=True, cache=True)
def emr(addresses, size, tie, vector, packed, own, shared):
    """`maths.elect.elect` and `mask`, and the sums of `methods.emr.Emr.measure`.

    Args:
        addresses: see `rows.subtract`.
        size: entries of one task.
        tie: float32, the sign where the tasks sum to 0.
        vector: float32 `size`, written: the unified vector.
        packed: uint8 `task byte`, written: masks as `weights.modulators.pack` packs them.
        own, shared: int64 `task 256`, added to: |tau_t| and |M_t * tau_uni|, see `sums.add_magnitudes`.

    Returns:
        The bits of the largest magnitude of a task vector.
    """
    tasks = len(addresses) - 1
    taus = np.empty((tasks, BLOCK), np.float32)
    sign, largest = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    agree = np.empty(BLOCK, np.uint8)
    top = np.int32(0)
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        top = max(top, subtract(addresses, start, count, taus))
        ordered_sum(taus, count, sign)
        for i in range(count):
            sign[i] = np.float32(1) if sign[i] > 0 else np.float32(-1) if sign[i] < 0 else tie
            largest[i] = np.float32(0)
        for t in range(tasks):
            add_magnitudes(taus[t], count, own[t])
            _agreeing(taus[t], sign, count, largest)
        for t in range(tasks):
            _mask(taus[t], count, agree, packed[t], start >> 3)
            _masked(taus[t], largest, count)
            add_magnitudes(taus[t], count, shared[t])
        piece = vector[start : start + count]
        for i in range(count):
            piece[i] = sign[i] * largest[i]
    return top


@numba.njit(nogil=True)
def _agreeing(tau, sign, count, largest):
    """How far the task pulls the elected way, into `tau`; the furthest so far, into `largest`."""
    for i in range(count):
        pull = tau[i] * sign[i]
        tau[i] = pull
        largest[i] = max(largest[i], pull)


@numba.njit(nogil=True)
def _masked(pull, largest, count):
    """The task's share of the unified magnitudes, into `pull`."""
    for i in range(count):
        pull[i] = largest[i] if pull[i] > 0 else np.float32(0)


@numba.njit(nogil=True)
def _mask(pull, count, agree, packed, at):
    """Eight entries to a byte, the first in the lowest bit."""
    for i in range(count):
        agree[i] = pull[i] > 0
    for i in range(count, -(-count // 8) * 8):
        agree[i] = 0
    for j in range(-(-count // 8)):
        bits = agree[8 * j : 8 * j + 8]
        packed[at + j] = (
            bits[0]
            | bits[1] << 1
            | bits[2] << 2
            | bits[3] << 3
            | bits[4] << 4
            | bits[5] << 5
            | bits[6] << 6
            | bits[7] << 7
        )
