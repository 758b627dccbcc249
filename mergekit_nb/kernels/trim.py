"""TIES: counts for exact thresholds, the majority sign, and trim, elect and disjoint merge in one walk over the weights."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import BLOCK, MAGNITUDE, ordered_sum, subtract

DIGIT = 16  # as in maths.histogram
STRIDE = 16  # entries looked at together for the few that share the prefix


@numba.njit(nogil=True, cache=True)
def count(addresses, size, prefix, counts):
    """`maths.histogram.count` of float32 task vectors; gives the bits of the largest magnitude.

    Args:
        addresses, size: see `rows.subtract`.
        prefix: int32 `task`, the first digit found; empty in the first round.
        counts: int64 `task 65536`, added to.
    """
    tasks = len(addresses) - 1
    taus = np.empty((tasks, BLOCK), np.float32)
    top = np.int32(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        top = max(top, subtract(addresses, start, length, taus))
        for t in range(tasks):
            if len(prefix):
                _count_second(taus[t].view(np.int32), length, prefix[t], counts[t])
            else:
                _count_first(taus[t].view(np.int32), length, counts[t])
    return top


@numba.njit(nogil=True)
def _count_first(keys, length, counts):
    for i in range(length):
        counts[(keys[i] & MAGNITUDE) >> DIGIT] += 1


@numba.njit(nogil=True)
def _count_second(keys, length, prefix, counts):
    for start in range(0, length, STRIDE):
        some = keys[start : min(start + STRIDE, length)]
        found = 0
        for i in range(len(some)):
            found += ((some[i] & MAGNITUDE) >> DIGIT) == prefix
        if found:
            for i in range(len(some)):
                if ((some[i] & MAGNITUDE) >> DIGIT) == prefix:
                    counts[some[i] & ((1 << DIGIT) - 1)] += 1


@numba.njit(nogil=True)
def trim(tau, length, threshold, equal):
    """Zeros below the threshold; of entries equal to it the first `equal` stay. Gives how many may still."""
    same = 0
    for i in range(length):
        same += abs(tau[i]) == threshold
    if same > equal:
        left = equal
        for i in range(length):
            if abs(tau[i]) == threshold:
                left -= 1
                if left < 0:
                    tau[i] = 0
        same = equal
    for i in range(length):
        tau[i] = tau[i] if abs(tau[i]) >= threshold else np.float32(0)
    return equal - same


@numba.njit(nogil=True)
def _votes(taus, length, weights, votes, total):
    """Weighted votes of every task, and their sum in task order."""
    for t in range(len(taus)):
        tau, vote, weight = taus[t], votes[t], weights[t]
        for i in range(length):
            vote[i] = tau[i] * weight
    ordered_sum(votes, length, total)


@numba.njit(nogil=True, cache=True)
def majority(addresses, size, thresholds, equals, weights):
    """The sum of all elected signs, as `methods.ties.Ties.measure` counts them; and the bits of the largest magnitude."""
    tasks = len(addresses) - 1
    taus, votes = np.empty((tasks, BLOCK), np.float32), np.empty((tasks, BLOCK), np.float32)
    total = np.empty(BLOCK, np.float32)
    equals = equals.copy()
    top, signs = np.int32(0), np.int64(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        top = max(top, subtract(addresses, start, length, taus))
        for t in range(tasks):
            equals[t] = trim(taus[t], length, thresholds[t], equals[t])
        _votes(taus, length, weights, votes, total)
        for i in range(length):
            signs += np.int64(total[i] > 0) - np.int64(total[i] < 0)
    return top, signs


@numba.njit(nogil=True, cache=True)
def ties(addresses, size, thresholds, equals, voting, weights, shares, fill, scale, vector):
    """Trim, elect by mass, and the mean or sum of what agrees, into `vector`; gives the bits of the largest magnitude.

    Args:
        addresses, size: see `rows.subtract`.
        thresholds, equals: `task`; the magnitude from which on entries stay, and how many equal to it may.
        voting, weights: float32 `task`; the weight in the election, and in the merge.
        shares: float32 `task`; what an agreeing task adds to the divisor; empty for a sum.
        fill: float32, the sign where the votes sum to 0.
        scale: float32.
    """
    tasks = len(addresses) - 1
    taus, votes = np.empty((tasks, BLOCK), np.float32), np.empty((tasks, BLOCK), np.float32)
    sign, total, divisor = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    equals = equals.copy()
    top = np.int32(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        top = max(top, subtract(addresses, start, length, taus))
        for t in range(tasks):
            equals[t] = trim(taus[t], length, thresholds[t], equals[t])
        _votes(taus, length, voting, votes, sign)
        for i in range(length):
            sign[i] = np.float32(1) if sign[i] > 0 else np.float32(-1) if sign[i] < 0 else fill
            total[i] = np.float32(0)
            divisor[i] = np.float32(0)
        for t in range(tasks):
            share = shares[t] if len(shares) else np.float32(1)
            _add_agreeing(taus[t], votes[t], sign, length, weights[t], share, total, divisor)
        piece = vector[start : start + length]
        for i in range(length):
            by = divisor[i] if len(shares) and divisor[i] != 0 else np.float32(1)
            piece[i] = scale * (total[i] / by)
    return top


@numba.njit(nogil=True)
def _add_agreeing(tau, vote, sign, length, weight, share, total, divisor):
    for i in range(length):
        agrees = vote[i] * sign[i] > 0
        total[i] += tau[i] * weight if agrees else np.float32(0)
        divisor[i] += share if agrees else np.float32(0)
