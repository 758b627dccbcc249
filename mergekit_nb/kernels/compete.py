"""PCB: which entries' scores have to be known exactly, and what is made of them.

Most scores need no exact value: one well below the threshold is dropped, one well inside a bucket is counted there. So
scores are estimated with a bound on the error, and only where that bound leaves a doubt does torch compute exp and tanh.
"""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import BLOCK, subtract

DIGIT, LAST = 16, 0xFFFF  # as in maths.histogram, and the bits of the last digit
LOWEST = np.int32(-(1 << 31))
STRIDE = 16  # entries looked at together for the few in doubt
ZERO = np.float32(0)  # added to, makes 0.0 of -0.0
BELOW, ABOVE = np.float32(1 - 2.0**-16), np.float32(1 + 2.0**-16)  # bounds of a score that is estimated to 2^-18
LINEAR = np.float32(2.0**-9)  # below it tanh(x) is x to a relative 2^-19
NORMAL = np.float32(1e-30)  # smaller scores have a relative error of their own
COUNT_FIRST, COUNT_SECOND, MERGE = 0, 1, 2
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
SMALLEST = np.float32(1e-12)  # as maths.compete.SMALLEST


@numba.njit(nogil=True)
def signed_keys(scores, count, keys):
    """`maths.histogram.signed_keys` of a block, without -0.0."""
    bits = scores.view(np.int32)
    for i in range(count):
        keys[i] = bits[i] ^ (bits[i] >> 31 | LOWEST)


@numba.njit(nogil=True)
def first_digits(scores, count, digits):
    """The first 16 bits of their keys."""
    signed_keys(scores, count, digits)
    for i in range(count):
        digits[i] = digits[i] >> DIGIT & LAST


@numba.njit(nogil=True)
def about_exp(x):
    """exp(x) for x in [0, 80] to a relative 2^-21: Taylor's polynomial on [-ln 2 / 2, ln 2 / 2]."""
    k = np.int32(x * LOG2_E + np.float32(0.5))
    r = x - np.float32(k) * LN2_HIGH - np.float32(k) * LN2_LOW
    p = np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1)
    p = p * r + np.float32(1)
    return p * np.int32((k + 127) << 23).view(np.float32)


@numba.njit(nogil=True)
def _balances(tau, wide, count, tasks, low, high, exponents, products, scores):
    """Of one task and block: the arguments of exp and tanh as `maths.compete` forms them, and the estimated scores."""
    least = min(low, high)
    span = high - least if high - least > 0 else np.float32(1)
    for i in range(count):
        unit = (min(max(abs(tau[i]), low), high) - least) / span
        exponents[i] = np.float32(tasks) * (unit * unit)
        products[i] = tau[i] * np.float32(wide[i])
        scores[i] = about_exp(exponents[i]) * products[i]


@numba.njit(nogil=True)
def _sums(taus, count, wide):
    for i in range(count):
        wide[i] = taus[0, i]
    for t in range(1, len(taus)):
        tau = taus[t]
        for i in range(count):
            wide[i] += tau[i]


@numba.njit(nogil=True)
def _bound(scores, products, count, near, far, doubt):
    """The bounds of every score; and a doubt where they may not hold."""
    for i in range(count):
        near[i], far[i] = scores[i] * BELOW + ZERO, scores[i] * ABOVE + ZERO
        doubt[i] = (abs(products[i]) >= LINEAR) | ((abs(scores[i]) < NORMAL) & (products[i] != ZERO))


@numba.njit(nogil=True)
def _doubt_digits(near, far, count, here, there, doubt):
    first_digits(near, count, here)
    first_digits(far, count, there)
    for i in range(count):
        doubt[i] |= here[i] != there[i]


@numba.njit(nogil=True)
def _doubt_same(here, count, prefix, doubt):
    for i in range(count):
        doubt[i] |= here[i] == prefix


@numba.njit(nogil=True)
def _doubt_kept(near, far, count, cut, doubt):
    for i in range(count):
        doubt[i] |= max(near[i], far[i]) >= cut


@numba.njit(nogil=True)
def _any(some):
    found = 0
    for i in range(len(some)):
        found |= some[i]
    return found


@numba.njit(nogil=True)
def _count_sure(here, count, doubt, counts):
    for i in range(count):
        counts[here[i]] += 1
    for start in range(0, count, STRIDE):
        stop = min(start + STRIDE, count)
        if _any(doubt[start:stop]):
            for i in range(start, stop):
                counts[here[i]] -= doubt[i]


@numba.njit(nogil=True)
def _collect(doubt, count, first, inner, outer, found, places, exponents, products):
    """The doubtful ones, after those found before; gives how many there are now."""
    for start in range(0, count, STRIDE):
        stop = min(start + STRIDE, count)
        if _any(doubt[start:stop]):
            for i in range(start, stop):
                places[found] = first + i
                exponents[found] = inner[i]
                products[found] = outer[i]
                found += doubt[i]
    return found


@numba.njit(nogil=True, cache=True)
def doubts(addresses, start, size, low, high, phase, prefixes, cut, counts, places, exponents, products):
    """The entries `start` to `start + size` whose scores are not known well enough; the others are counted.

    Args:
        addresses: see `rows.subtract`.
        low, high, cut: float32 `task`.
        phase: COUNT_FIRST, COUNT_SECOND or MERGE.
        prefixes: int64 `2 task`; the first digits looked for in the second round.
        counts: int64 `task 65536`, added to in the first round.
        places: int32, written: task * size + entry - start of the doubtful ones.
        exponents, products: float32, written: their arguments of exp and tanh.

    Returns:
        How many are doubtful, and the bits of the largest magnitude of a task vector.
    """
    tasks = len(addresses) - 1
    taus, wide = np.empty((tasks, BLOCK), np.float32), np.empty(BLOCK, np.float64)
    inner, outer, scores = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    near, far, doubt = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint8)
    here, there = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    found, top = 0, np.int32(0)
    for begin in range(0, size, BLOCK):
        count = min(BLOCK, size - begin)
        top = max(top, subtract(addresses, start + begin, count, taus))
        _sums(taus, count, wide)
        for t in range(tasks):
            _balances(taus[t], wide, count, tasks, low[t], high[t], inner, outer, scores)
            _bound(scores, outer, count, near, far, doubt)
            if phase == MERGE:
                _doubt_kept(near, far, count, cut[t], doubt)
            else:
                _doubt_digits(near, far, count, here, there, doubt)
            if phase == COUNT_FIRST:
                _count_sure(here, count, doubt, counts[t])
            elif phase == COUNT_SECOND:
                _doubt_same(here, count, prefixes[0, t], doubt)
                _doubt_same(here, count, prefixes[1, t], doubt)
            found = _collect(doubt, count, t * size + begin, inner, outer, found, places, exponents, products)
    return found, top


@numba.njit(nogil=True, cache=True)
def count_exact(scores, places, size, prefixes, done, counts):
    """Exact scores counted: by their first digit in `counts[0]`, or by their second where the first is a rank's prefix.

    Args:
        prefixes: int64 `2 task`.
        done: digits found so far, 0 or 1.
        counts: int64 `2 task 65536`, added to.
    """
    keys = np.empty(len(scores), np.int32)
    signed_keys(scores + ZERO, len(scores), keys)
    for i in range(len(scores)):
        t, digit = places[i] // size, keys[i] >> DIGIT & LAST
        if done == 0:
            counts[0, t, digit] += 1
        else:
            for rank in range(2):
                if digit == prefixes[rank, t]:
                    counts[rank, t, keys[i] & LAST] += 1


@numba.njit(nogil=True)
def _weight(score, cut, top):
    """`maths.compete.drop` and `rescale` of one score."""
    if score > cut:
        return (score - cut) / (top - cut) if top > cut else np.float32(1)
    return np.float32(1) if cut == top and top > 0 and score == top else np.float32(0)


@numba.njit(nogil=True, cache=True)
def fuse(addresses, start, size, low, high, scores, places, cut, top, scales, weights, vector):
    """`maths.compete.fuse` of the clipped task vectors, into `vector`.

    Args:
        scores, places: exact scores of all entries that may be above the cut.
        cut, top: float32 `task`; both infinite where a task weighs nothing.
        weights: float32 `task size`, overwritten.
    """
    tasks = len(addresses) - 1
    taus = np.empty((tasks, BLOCK), np.float32)
    summed, total = np.empty(BLOCK, np.float64), np.empty(BLOCK, np.float64)
    for t in range(tasks):
        weights[t, :size] = 0
    for i in range(len(scores)):
        t = places[i] // size
        weights[t, places[i] - t * size] = _weight(scores[i], cut[t], top[t])
    for begin in range(0, size, BLOCK):
        count = min(BLOCK, size - begin)
        subtract(addresses, start + begin, count, taus)
        for t in range(tasks):
            tau, weight = taus[t], weights[t, begin : begin + count]
            for i in range(count):
                size_clipped = min(max(abs(tau[i]), low[t]), high[t])
                clipped = size_clipped if tau[i] > 0 else -size_clipped if tau[i] < 0 else np.float32(0)
                share = np.float64((clipped * scales[t]) * weight[i])
                summed[i] = share if t == 0 else summed[i] + share
                total[i] = weight[i] if t == 0 else total[i] + weight[i]
        piece = vector[start + begin : start + begin + count]
        for i in range(count):
            piece[i] = np.float32(summed[i]) / max(np.float32(total[i]), SMALLEST)
