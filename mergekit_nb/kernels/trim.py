"""TIES: counts for exact thresholds, the majority sign, and trim, elect and disjoint merge in one walk over the weights."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import BLOCK, INFINITE, MAGNITUDE, load, subtract, tau_of

DIGIT = np.uint32(16)  # as in maths.histogram
LAST = np.uint32((1 << 16) - 1)
UNSIGNED = np.uint32(MAGNITUDE)  # an index without a sign needs no check that it is none
TOGETHER = 8  # entries looked at together for the few that matter
GROUPS = BLOCK // TOGETHER


@numba.njit(nogil=True, cache=True)
def count(addresses, size, prefix, step, counts):
    """`maths.histogram.count` of float32 task vectors; gives the bits of the largest magnitude.

    It ends before the first NaN or infinity, block by block and task by task: counted again with `step` -1 all is as before.

    Args:
        addresses, size: see `rows.subtract`.
        prefix: int32 `task`, the first digit found; empty in the first round.
        step: what an entry adds to its count.
        counts: integers `task 65536`, added to.
    """
    base, tau, hits = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.zeros(BLOCK, np.uint8)
    groups, chosen = np.empty(GROUPS, np.uint32), np.empty(BLOCK + 1, np.uint32)
    keys, top = tau.view(np.uint32), np.int32(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        load(addresses[0], start, length, base)
        for t in range(len(addresses) - 1):
            top = max(top, tau_of(addresses[t + 1], base, start, length, tau))
            if top >= INFINITE:
                return top
            if len(prefix):
                _count_second(keys, length, np.uint32(prefix[t]), step, hits, groups, chosen, counts[t])
            else:
                _count_first(keys, length, step, counts[t])
    return top


@numba.njit(nogil=True)
def _count_first(keys, length, step, counts):
    for i in range(length):
        counts[np.uint64((keys[i] & UNSIGNED) >> DIGIT)] += step


@numba.njit(nogil=True)
def _count_second(keys, length, prefix, step, hits, groups, chosen, counts):
    for i in range(length):
        hits[i] = (keys[i] & UNSIGNED) >> DIGIT == prefix
    _none_after(hits, length)
    for i in range(_collect(keys, length, hits, groups, 0, chosen)):
        counts[np.uint64(chosen[i] & LAST)] += step


@numba.njit(nogil=True)
def _none_after(hits, length):
    for i in range(length, -(-length // TOGETHER) * TOGETHER):
        hits[i] = 0


@numba.njit(nogil=True, cache=True)
def between(addresses, size, low, high, below, found, keys):
    """What a bracket around every task's threshold holds; gives the bits of the largest magnitude.

    Args:
        addresses, size: see `rows.subtract`.
        low, high: uint32 `task`; the bits of the magnitudes at its ends, which belong to it.
        below: int64 `task`, added to: how many are smaller.
        found: int64 `task`, added to: how many are inside, also where `keys` has no room for them.
        keys: uint32 `task room`, written: their bits, in the order of the entries; the last place is no room.
    """
    tasks = len(keys)
    taus, hits, groups = np.empty((tasks, BLOCK), np.float32), np.zeros(BLOCK, np.uint8), np.empty(GROUPS, np.uint32)
    top = np.int32(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        top = max(top, subtract(addresses, start, length, taus))
        for t in range(tasks):
            tau = taus[t].view(np.uint32)
            below[t] += _smaller(tau, length, low[t], high[t] - low[t], hits)
            found[t] = _collect(tau, length, hits, groups, found[t], keys[t])
    return top


@numba.njit(nogil=True)
def _smaller(tau, length, low, width, hits):
    """How many are below the bracket; `hits` says which are in it, and zero after the last."""
    smaller = np.uint32(0)
    for i in range(length):
        key = tau[i] & UNSIGNED
        smaller = np.uint32(smaller + np.uint32(key < low))
        hits[i] = np.uint32(key - low) <= width
    _none_after(hits, length)
    return np.int64(smaller)


@numba.njit(nogil=True)
def _collect(tau, length, hits, groups, found, keys):
    last, place = np.uint64(len(keys) - 1), np.uint64(found)
    for j in range(_groups(hits, length, groups)):
        first = np.uint64(groups[j]) * np.uint64(TOGETHER)
        for i in range(TOGETHER):
            entry = first + np.uint64(i)
            keys[min(place, last)] = tau[entry] & UNSIGNED  # overwritten unless it is a hit: cheaper than to ask
            place += np.uint64(hits[entry])
    return np.int64(place)


@numba.njit(nogil=True)
def _groups(hits, length, groups):
    """How many groups of entries hold a hit, and which; nobody asks group by group, as the answer would be guessed wrong too often."""
    words, found = hits.view(np.uint64), np.uint64(0)
    for j in range(-(-length // TOGETHER)):
        groups[found] = j
        found += np.uint64(words[j] != 0)
    return np.int64(found)


@numba.njit(nogil=True)
def _drop_equal(tau, length, threshold, equal):
    """Zeros the entries equal to the threshold after the first `equal`. Gives how many may still stay."""
    for i in range(length):
        if abs(tau[i]) == threshold:
            tau[i] = tau[i] if equal > 0 else np.float32(0)
            equal = max(equal - 1, 0)
    return equal


@numba.njit(nogil=True)
def _trim(taus, length, size, thresholds, equals, voting, total):
    """Zeros below the thresholds, and the sum of the weighted votes in task order.

    Args:
        taus: float32 `task block`, overwritten.
        size: of `equals`, so many and more are all that there are.
        equals: how many equal to the threshold may stay; of those in this block less afterwards.
        total: float32 `block`, written.
    """
    for t in range(len(taus)):
        tau, threshold, weight = taus[t], thresholds[t], voting[t]
        if equals[t] < size:
            equals[t] = _drop_equal(tau, length, threshold, equals[t])
        for i in range(length):
            kept = tau[i] if abs(tau[i]) >= threshold else np.float32(0)
            tau[i] = kept
            total[i] = (total[i] if t else np.float32(0)) + kept * weight


@numba.njit(nogil=True, cache=True)
def majority(addresses, size, thresholds, equals, weights):
    """The sum of all elected signs, as `methods.ties.Ties.measure` counts them; and the bits of the largest magnitude."""
    taus, total = np.empty((len(addresses) - 1, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    equals = equals.copy()
    top, signs = np.int32(0), np.int64(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        top = max(top, subtract(addresses, start, length, taus))
        _trim(taus, length, size, thresholds, equals, weights, total)
        signs += _balance(total, length)
    return top, signs


@numba.njit(nogil=True)
def _balance(total, length):
    """How many are above 0, less how many below."""
    more = np.int32(0)
    for i in range(length):
        more = np.int32(more + np.int32(total[i] > 0) - np.int32(total[i] < 0))
    return np.int64(more)


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
    taus, sign = np.empty((len(addresses) - 1, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    total, divisor = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    equals = equals.copy()
    top = np.int32(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        top = max(top, subtract(addresses, start, length, taus))
        _trim(taus, length, size, thresholds, equals, voting, sign)
        for i in range(length):
            sign[i] = np.float32(1) if sign[i] > 0 else np.float32(-1) if sign[i] < 0 else fill
        _agreeing(taus, length, voting, weights, shares, sign, total, divisor)
        piece = vector[start : start + length]
        for i in range(length):
            by = divisor[i] if divisor[i] != 0 else np.float32(1)
            piece[i] = scale * (total[i] / by)
    return top


@numba.njit(nogil=True)
def _agreeing(taus, length, voting, weights, shares, sign, total, divisor):
    """What agrees with the sign: its weighted sum, and the sum of its shares, both in task order."""
    for t in range(len(taus)):
        tau, vote, weight = taus[t], voting[t], weights[t]
        share = shares[t] if len(shares) else np.float32(0)
        for i in range(length):
            agrees = tau[i] * vote * sign[i] > 0
            more = tau[i] * weight if agrees else np.float32(0)
            total[i] = total[i] + more if t else more
            divisor[i] = (divisor[i] if t else np.float32(0)) + (share if agrees else np.float32(0))
