"""EMR in one walk over the weights: elect, mask, pack, and the exact sums that the rescalers are made of."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.lanes import (
    PART,
    WIDTH,
    add_sizes,
    add_where,
    farthest,
    fetch,
    larger,
    minus,
    nearest,
    plus,
    put,
    sign_of,
    smaller,
    spread,
    times,
)
from mergekit_nb.kernels.rows import BFLOAT16, block_of, load
from mergekit_nb.kernels.sums import MANTISSA, add_float, add_magnitudes, fits

BLOCK = 1024  # entries of one task at a time: 512 were slower, 2048 no faster, and of them float64 adds one octave less
BYTES = BLOCK // 8


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
    room, places = np.empty((tasks + 1, BLOCK), np.float32), np.empty(tasks + 1, np.int64)
    unified, bits = np.empty(BLOCK, np.float32), np.empty((tasks, BYTES), np.uint8)
    sums, ends, top = np.empty((2, tasks, PART), np.float64), np.empty((2, WIDTH), np.uint32), np.int32(0)
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        for t in range(tasks + 1):
            places[t] = _place(addresses[t], start, count, room[t])
        if count == BLOCK:
            _walk(places, tie, vector[start:], packed[:, start >> 3 :], sums, ends)
        else:
            _walk(places, tie, unified, bits, sums, ends)
            _copy(unified, bits, count, vector[start:], packed[:, start >> 3 :])
        least, most = _ends(ends)
        top, exponent = max(top, most), most >> MANTISSA
        if fits(least, exponent):
            for t in range(tasks):
                add_float(sums[0, t], exponent, own[t])
                add_float(sums[1, t], exponent, shared[t])
        elif most > 0:
            _add_apart(places, vector[start : start + count], exponent, own, shared)
    return top


@numba.njit(nogil=True)
def _place(place, start, count, room):
    """Where a block of one tensor lies in float32, with zeros behind it: there already, or in `room`."""
    if place[1] != BFLOAT16 and count == BLOCK:
        return place[0] + 4 * start
    load(place, start, count, room)
    for i in range(count, BLOCK):
        room[i] = 0
    return np.int64(room.ctypes.data)


@numba.njit(nogil=True)
def _walk(places, tie, unified, bits, sums, ends):
    """One block.

    Args:
        places: addresses of the base and the experts.
        unified: float32, written: the unified vector.
        bits: uint8 `task byte`, written.
        sums: float64 `2 task 8`, written: |tau_t| and |M_t * tau_uni|, in eight parts.
        ends: uint32 `2 lane`, written: see `lanes.nearest` and `lanes.farthest`.
    """
    zero, ties, tasks = spread(np.float32(0)), spread(tie), len(places) - 1
    near, far, step = zero, zero, 8 * PART
    own, out, first = np.int64(sums.ctypes.data), np.int64(unified.ctypes.data), np.int64(bits.ctypes.data)
    shared = own + step * tasks
    for t in range(tasks):
        for i in range(PART):
            sums[0, t, i] = sums[1, t, i] = 0
    for i in range(0, BLOCK, WIDTH):
        base, total, up, down = fetch(places[0] + 4 * i), zero, zero, zero
        for t in range(tasks):
            tau = minus(fetch(places[t + 1] + 4 * i), base)
            total, up, down = plus(total, tau), larger(tau, up), smaller(tau, down)
            near, far = nearest(tau, near), farthest(tau, far)
            add_sizes(own + step * t, tau)
        sign = sign_of(total, ties)
        largest = larger(times(down, sign), larger(times(up, sign), zero))
        for t in range(tasks):
            pull = times(minus(fetch(places[t + 1] + 4 * i), base), sign)
            add_where(shared + step * t, pull, largest, first + bits.strides[0] * t + i // 8)
        put(out + 4 * i, times(sign, largest))
    put(np.int64(ends.ctypes.data), near)
    put(np.int64(ends.ctypes.data) + 4 * WIDTH, far)


@numba.njit(nogil=True)
def _ends(ends):
    """Twice the bits of the smallest magnitude that is not 0 (2^32 if there is none), and the bits of the largest."""
    near, far = ends[0, 0], ends[1, 0]
    for i in range(1, WIDTH):
        near, far = max(near, ends[0, i]), max(far, ends[1, i])
    return (1 << 32) - np.int64(near), np.int32(far >> 1)


@numba.njit(nogil=True)
def _copy(unified, bits, count, vector, packed):
    for i in range(count):
        vector[i] = unified[i]
    for t in range(len(bits)):
        for i in range(-(-count // 8)):
            packed[t, i] = bits[t, i]


@numba.njit(nogil=True)
def _add_apart(places, unified, exponent, own, shared):
    """The sums of a block whose magnitudes lie too far apart for float64."""
    count, tau = len(unified), np.empty(BLOCK, np.float32)
    base = block_of(places[0], 0, count)
    for t in range(len(own)):
        expert = block_of(places[t + 1], 0, count)
        for i in range(count):
            tau[i] = expert[i] - base[i]
        add_magnitudes(tau, count, exponent, own[t])
        for i in range(count):
            agree = (tau[i] > 0) & (unified[i] > 0) | (tau[i] < 0) & (unified[i] < 0)
            tau[i] = unified[i] if agree else np.float32(0)
        add_magnitudes(tau, count, exponent, shared[t])
