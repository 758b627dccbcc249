"""EMR in one walk over the weights: elect, mask, pack, and the exact sums that the rescalers are made of."""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mergekit_nb.kernels.rows import BLOCK, load, ordered_sum, tau_of
from mergekit_nb.kernels.sums import MANTISSA, add_by_exponent, add_whole, wholes


@numba.njit(nogil=True, cache=True)
def emr(addresses, size, tie, vector, packed, own, shared):
    """`maths.elect.elect` and `mask`, and the sums of `methods.emr.Emr.measure`.

    Args:
        addresses: see `rows.subtract`.
        size: entries of one task.
        tie: float32, the sign where the tasks sum to 0.
        vector: float32 `size`, written: the unified vector.
        packed: uint8 `task byte`, written: masks as `weights.modulators.pack` packs them.
        own, shared: int64 `task 256`, added to: |tau_t| and |M_t * tau_uni|, see `sums.add_whole`.

    Returns:
        The bits of the largest magnitude of a task vector.
    """
    tasks = len(addresses) - 1
    base, sign, largest = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    taus, whole = np.empty((tasks, BLOCK), np.float32), np.empty(BLOCK, np.int64)
    tops, top = np.empty(tasks, np.int32), np.int32(0)
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        load(addresses[0], start, count, base)
        for t in range(tasks):
            tops[t] = tau_of(addresses[t + 1], base, start, count, taus[t])
            top = max(top, tops[t])
        ordered_sum(taus, count, sign)
        _elected(sign, count, tie)
        largest[:count] = 0
        for t in range(tasks):
            exact, total = wholes(taus[t], count, tops[t] >> MANTISSA, whole)
            if exact:
                add_whole(total, tops[t] >> MANTISSA, own[t])
            else:
                add_by_exponent(taus[t].view(np.int32), count, own[t])
            _pull(taus[t], sign, count, largest)
        highest = np.int32(0)
        for t in range(tasks):
            highest = max(highest, tops[t])
        exact, _ = wholes(largest, count, highest >> MANTISSA, whole)
        for t in range(tasks):
            _pack(taus[t], count, packed[t, start >> 3 :])
            if exact:
                add_whole(_chosen(whole, taus[t], count), highest >> MANTISSA, shared[t])
            else:
                _masked(taus[t], largest, count)
                add_by_exponent(taus[t].view(np.int32), count, shared[t])
        piece = vector[start : start + count]
        for i in range(count):
            piece[i] = sign[i] * largest[i]
    return top


@numba.njit(nogil=True)
def _elected(sign, count, tie):
    for i in range(count):
        sign[i] = np.float32(1) if sign[i] > 0 else np.float32(-1) if sign[i] < 0 else tie


@numba.njit(nogil=True)
def _pull(tau, sign, count, largest):
    """How far the task pulls the elected way, into `tau`; the furthest so far, into `largest`."""
    for i in range(count):
        pull = tau[i] * sign[i]
        tau[i] = pull
        largest[i] = max(largest[i], pull)


@numba.njit(nogil=True)
def _chosen(whole, pull, count):
    """The sum of the unified magnitudes that the task has a share in."""
    total = np.int64(0)
    for i in range(count):
        total += whole[i] if pull[i] > 0 else np.int64(0)
    return total


@numba.njit(nogil=True)
def _masked(pull, largest, count):
    """The task's share of the unified magnitudes, into `pull`."""
    for i in range(count):
        pull[i] = largest[i] if pull[i] > 0 else np.float32(0)


@intrinsic
def _above_zero(typing, address):
    """Which of eight float32 are above 0, the first in the lowest bit: a comparison of vectors, which leaves just that."""

    def build(context, builder, signature, arguments):
        eight = ir.VectorType(ir.FloatType(), 8)
        values = builder.load(builder.inttoptr(arguments[0], eight.as_pointer()), align=4)
        return builder.bitcast(builder.fcmp_ordered(">", values, ir.Constant(eight, [0.0] * 8)), ir.IntType(8))

    return types.uint8(address), build


@numba.njit(nogil=True)
def _pack(pull, count, packed):
    """Which entries agree, eight to a byte."""
    pull[count : -(-count // 8) * 8] = 0
    address = np.int64(pull.ctypes.data)
    for j in range(-(-count // 8)):
        packed[j] = _above_zero(address + 32 * j)
