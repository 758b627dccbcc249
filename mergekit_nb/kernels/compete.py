"""PCB: which entries' scores have to be known exactly, and what is made of them.

Most scores need no exact value: one well below the threshold is dropped, one well inside a bucket is counted there. So
scores are estimated with a bound on the error, and only where that bound leaves a doubt does torch compute exp and tanh.
"""

from __future__ import annotations

import sys

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mergekit_nb.kernels.rows import INFINITE, MAGNITUDE, subtract

PART = 1024  # entries of one task at a time
DIGIT, LAST = 16, np.int32(0xFFFF)  # as in maths.histogram, and the bits of the last digit
LOWEST, ZEROS = np.int32(-(1 << 31)), 1 << 15  # the key of 0, and its first digit
ZERO = np.float32(0)  # added to, makes 0.0 of -0.0
WORD = 64  # doubts looked at together, as the bits of one integer
TOGETHER = 8  # of their places
UPPER = int(sys.byteorder == "little")  # which half of a key is its first digit
LEAST = np.float32(1e-30)  # smaller numbers may have a relative error of their own
SMALL = np.array([1e-30, 2.0**-5], np.float32).view(np.int32)  # products from and below which the bound on errors holds
FIRST, SPAN = SMALL[0], np.uint32(SMALL[1] - SMALL[0])
SHIFT = np.float32(3 << 22)  # added to, rounds to a whole number and leaves it in the last bits
MANTISSA = np.int32(23)
# the polynomial of degree 5 nearest to 2^x on [-0.5, 0.5]; with coefficients in float32 to a relative 2^-22.6
P0, P1, P2 = np.float32(1.0000000716553012), np.float32(0.6931469670628836), np.float32(0.24022119720750764)
P3, P4, P5 = np.float32(0.05550713275065569), np.float32(0.009675541502625113), np.float32(0.0013276471959636088)
UNIT, ONE = np.float32(2**23), np.float32(127 * 2**23)  # what 1 adds to a float32's exponent, and the bits of 1
MORE, LESS = np.float32(1.0005), np.float32(0.941)  # bounds of scores, see _reaching
NEXT = np.float32(1e-45)  # the smallest number above 0
THIRD = np.float32(1 / 3)
LOG2_E = 1.4426950408889634
COUNT_FIRST, COUNT_SECOND, MERGE = 0, 1, 2
SMALLEST = np.float32(1e-12)  # as maths.compete.SMALLEST


@numba.njit(nogil=True, cache=True)
def count_ends(addresses, size, prefixes, step, counts):
    """The second round of `maths.histogram.counts` of magnitudes for two ranks; gives the bits of the largest magnitude.

    It ends before a block with NaN or infinity: counted again with `step` -1 all is as before.

    Args:
        addresses, size: see `rows.subtract`.
        prefixes: int32 `2 task`, the first digits found.
        step: what an entry adds to its count.
        counts: int64 `2 task 65536`, added to.
    """
    tasks = len(addresses) - 1
    taus, same = np.empty((tasks, PART), np.float32), np.empty(PART, np.uint8)
    chosen, top = np.empty(PART + TOGETHER, np.int32), np.int32(0)
    for begin in range(0, size, PART):
        count = min(PART, size - begin)
        top = max(top, subtract(addresses, begin, count, taus))
        if top >= INFINITE:
            return top
        for t in range(tasks):
            keys, low, high = taus[t].view(np.int32), prefixes[0, t], prefixes[1, t]
            for i in range(count):
                digit = np.int32((keys[i] & MAGNITUDE) >> DIGIT)
                same[i] = (digit == low) | (digit == high)
            for j in range(_collect(same, count, chosen)):
                key = keys[chosen[j]] & MAGNITUDE
                for rank in range(2):
                    counts[rank, t, key & LAST] += step * (key >> DIGIT == prefixes[rank, t])
    return top


@numba.njit(nogil=True)
def _sums(taus, count, wide, sums):
    """The sum over tasks, added in float64."""
    for i in range(count):
        wide[i] = taus[0, i]
    for t in range(1, len(taus)):
        tau = taus[t]
        for i in range(count):
            wide[i] += tau[i]
    for i in range(count):
        sums[i] = np.float32(wide[i])


@numba.njit(nogil=True)
def slack_of(tasks):
    """How many numbers of float32 an estimated score may be off.

    In units of a relative 2^-24, at least half a number: the exponent and its estimate are 9 roundings apart, each of it of
    up to `tasks`, so exp of it 9 `tasks`; 15 are left for the polynomial (4), tanh's series (5), products and the last bits
    of torch's exp and tanh (6). Nearly as much again is added.
    """
    return np.int32(16 * tasks + 32)


@numba.njit(nogil=True, fastmath={"contract"})
def _estimate(tau, sums, count, low, high, tasks, keys, unsure):
    """The bits of the scores in their order (`maths.histogram.signed_keys`), to `slack_of`; where that may not hold: unsure."""
    least = min(low, high)
    span = high - least
    normal = span > LEAST
    factor = np.float32(np.sqrt(tasks * LOG2_E) / span) if normal else ZERO
    sure = SPAN if normal else np.uint32(0)
    for i in range(count):
        unit = (min(max(abs(tau[i]), low), high) - least) * factor
        exponent = unit * unit
        shifted = exponent + SHIFT
        r = exponent - (shifted - SHIFT)
        power = ((((P5 * r + P4) * r + P3) * r + P2) * r + P1) * r + P0
        bits = np.int32(np.float32(power).view(np.int32) + (np.float32(shifted).view(np.int32) << MANTISSA))
        product = tau[i] * sums[i]
        score = bits.view(np.float32) * (product - product * product * product * THIRD) + ZERO
        bits = np.int32(np.float32(score).view(np.int32))
        keys[i] = bits ^ (bits >> 31 | LOWEST)
        size = np.float32(product).view(np.int32) & MAGNITUDE
        unsure[i] = (np.uint32(size - FIRST) >= sure) & (size != 0)


@numba.njit(nogil=True)
def _doubt_digits(keys, count, slack, doubt):
    """Where a key is so near another first digit that it may have that one; 0 is exact."""
    for i in range(count):
        last = np.int32((keys[i] + slack) & LAST)
        doubt[i] |= (last < slack + slack) & (keys[i] != LOWEST)


@numba.njit(nogil=True)
def _doubt_same(keys, count, prefix, slack, doubt):
    """Where a key may have this first digit; of 0 all digits are known."""
    first = np.uint32(np.int32(prefix << DIGIT) - slack)
    size = np.uint32((1 << DIGIT) + 2 * slack)
    for i in range(count):
        doubt[i] |= (np.uint32(np.uint32(keys[i]) - first) < size) & (keys[i] != LOWEST)


@numba.njit(nogil=True)
def _zeros(keys, doubt, count):
    """How many scores are 0 for sure."""
    zeros = 0
    for i in range(count):
        zeros += (keys[i] == LOWEST) & (doubt[i] == 0)
    return zeros


@numba.njit(nogil=True, fastmath={"contract"})
def _reaching(tau, sums, count, low, high, tasks, cut, doubt):
    """Where a score may reach the cut; 0 weighs nothing but above a negative one.

    A score is at most `MORE` and at least `LESS` times what it is guessed to be. The guess takes 2^x as linear between
    whole numbers, by writing x into the bits of a float32: 1 to 1.0615 times as much. It takes tanh of x < 2^-5 as x: 1 to
    1 + 2^-11 times as much. Of what is rounded the exponent, of up to 116 to base 2, changes most: by 9 roundings, and by
    2^-17 where it is written, together less than 2^-13. Where a product is not of the size that this holds for, a score
    may be anything.
    """
    least, span = min(low, high), high - min(low, high)
    normal = span > LEAST
    factor = np.float32(np.sqrt(tasks * LOG2_E) / span) if normal else ZERO
    sure, reached = SPAN if normal else np.uint32(0), cut if cut < 0 else max(cut, NEXT)
    for i in range(count):
        unit = (min(max(abs(tau[i]), low), high) - least) * factor
        bits = np.int32(np.float32(unit * unit * UNIT + ONE))
        product = tau[i] * sums[i]
        guess = bits.view(np.float32) * product
        size = np.float32(product).view(np.int32) & MAGNITUDE
        unsure = (np.uint32(size - FIRST) >= sure) & (size != 0)
        doubt[i] = unsure | (max(guess * MORE, guess * LESS) >= reached)


@numba.njit(nogil=True)
def _count(keys, count, step, counts):
    digits = keys.view(np.uint16)
    for i in range(count):
        counts[np.uint64(digits[2 * i + UPPER])] += step


@intrinsic
def _set(typing, address):
    """Which of 64 bytes are not 0, the first in the lowest bit: a comparison of vectors, which leaves just that."""

    def build(context, builder, signature, arguments):
        bytes_ = ir.VectorType(ir.IntType(8), WORD)
        values = builder.load(builder.inttoptr(arguments[0], bytes_.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_unsigned("!=", values, ir.Constant(bytes_, [0] * WORD)), ir.IntType(64))

    return types.uint64(address), build


@intrinsic
def _lowest(typing, word):
    """The place of the lowest bit that is set, or 64."""

    def build(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(word), build


@intrinsic
def _ones(typing, word):
    """How many bits are set."""

    def build(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(word), build


@numba.njit(nogil=True)
def _collect(doubt, count, chosen):
    """The places of the doubtful ones; gives how many there are.

    Several are written at a time, needed or not: how many a word has is a branch that would be guessed wrong often.

    Args:
        chosen: has room for `TOGETHER` more than there may be.
    """
    doubt[count : -(-count // WORD) * WORD] = 0
    address, found = np.int64(doubt.ctypes.data), np.uint64(0)
    for start in range(0, count, WORD):
        word, place = _set(address + start), found
        found += _ones(word)
        while word:
            for k in range(TOGETHER):
                chosen[place + np.uint64(k)] = start + _lowest(word)
                word &= word - np.uint64(1)
            place += np.uint64(TOGETHER)
    return np.int64(found)


@numba.njit(nogil=True)
def _put(chosen, some, found, first, tau, sums, low, high, tasks, doubts):
    """What the scores of the chosen are made of, as `maths.compete` forms it, after those found before."""
    least = min(low, high)
    span = high - least if high - least > 0 else np.float32(1)
    places, clipped = doubts.places[found : found + some], doubts.clipped[found : found + some]
    exponents, products = doubts.exponents[found : found + some], doubts.products[found : found + some]
    for j in range(some):
        clipped[j] = tau[np.uint32(chosen[j])]
        products[j] = sums[np.uint32(chosen[j])]
    for j in range(some):
        places[j] = first + chosen[j]
    for j in range(some):
        products[j] = clipped[j] * products[j]
        size = min(max(abs(clipped[j]), low), high)
        unit = (size - least) / span
        exponents[j] = np.float32(tasks) * (unit * unit)
        clipped[j] = size if clipped[j] > 0 else -size if clipped[j] < 0 else ZERO


@numba.njit(nogil=True, inline="always")
def _look(tau, sums, count, t, phase, known, step, counts, keys, doubt):
    """Which scores of task t are not known well enough; in the first round all are counted, in the second zeros."""
    tasks, low, high = len(known.low), known.low[t], known.high[t]
    if phase == MERGE:
        _reaching(tau, sums, count, low, high, tasks, known.cut[t], doubt)
        return
    slack = slack_of(tasks)
    _estimate(tau, sums, count, low, high, tasks, keys, doubt)
    if phase == COUNT_FIRST:
        _doubt_digits(keys, count, slack, doubt)
        _count(keys, count, step, counts[0, t])
    else:
        for rank in range(2):
            _doubt_same(keys, count, known.prefixes[rank, t], slack, doubt)
            if known.prefixes[rank, t] == ZEROS:
                counts[rank, t, 0] += step * _zeros(keys, doubt, count)


@numba.njit(nogil=True, cache=True)
def find(addresses, start, size, phase, known, step, counts, doubts):
    """Entries from `start` on whose scores are not known well enough; in rounds of counting the others are counted.

    It ends before a block with NaN or infinity: counted again with `step` -1 all is as before.

    Args:
        addresses: see `rows.subtract`.
        size: of the tensors; where there is no more room, it stops before.
        phase: COUNT_FIRST, COUNT_SECOND or MERGE.
        known: see engine.forms.pcb.Known.
        step: what an entry adds to its count.
        counts: see `count_exact`; added to in the first round, and by zeros in the second.
        doubts: see engine.forms.pcb.Doubts, written; places for at least `task * PART`, ends for all blocks to come.

    Returns:
        Where it stopped, how many are doubtful, and the bits of the largest magnitude of a task vector.
    """
    tasks = len(addresses) - 1
    taus, wide, sums = np.empty((tasks, PART), np.float32), np.empty(PART, np.float64), np.empty(PART, np.float32)
    keys, doubt, chosen = np.empty(PART, np.int32), np.empty(PART, np.uint8), np.empty(PART + TOGETHER, np.int32)
    found, top, begin = 0, np.int32(0), start
    while begin < size and found + tasks * PART <= len(doubts.places):
        count = min(PART, size - begin)
        top = max(top, subtract(addresses, begin, count, taus))
        if top >= INFINITE:
            return begin, found, top
        _sums(taus, count, wide, sums)
        for t in range(tasks):
            _look(taus[t], sums, count, t, phase, known, step, counts, keys, doubt)
            some = _collect(doubt, count, chosen)
            if phase == COUNT_FIRST:
                for j in range(some):
                    counts[0, t, keys[chosen[j]] >> DIGIT & LAST] -= step
            _put(chosen, some, found, begin - start, taus[t], sums, known.low[t], known.high[t], tasks, doubts)
            found += some
            doubts.ends[(begin - start) // PART * tasks + t] = found
        begin += count
    return begin, found, top


@numba.njit(nogil=True, cache=True)
def count_exact(scores, ends, prefixes, done, step, counts):
    """Exact scores counted: by their first digit in `counts[0]`, or by their second where the first is a rank's prefix.

    Args:
        scores: by blocks of PART entries and within them by task.
        ends: int32 `block task`, flat; where the scores of a block's task end.
        prefixes: int32 `2 task`.
        done: digits found so far, 0 or 1.
        step: what an entry adds to its count.
        counts: int64, `1 task 65536` or, with a digit found, `2 task 65536`; added to.
    """
    start, tasks = 0, counts.shape[1]
    for run in range(len(ends)):
        t = run % tasks
        for i in range(start, ends[run]):
            bits = np.float32(scores[i] + ZERO).view(np.int32)
            key = bits ^ (bits >> 31 | LOWEST)
            digit = key >> DIGIT & LAST
            if done == 0:
                counts[0, t, digit] += step
            else:
                for rank in range(2):
                    if digit == prefixes[rank, t]:
                        counts[rank, t, key & LAST] += step
        start = ends[run]


@numba.njit(nogil=True)
def _weigh(scores, clipped, cut, top, scale, weights, shares):
    """`maths.compete.drop` and `rescale` of one task; its weights, and what they make of its entries."""
    span, positive = top - cut, (cut == top) & (top > 0)
    for j in range(len(scores)):
        weight = (scores[j] - cut) / span if span > 0 else np.float32(1)
        kept = (scores[j] > cut) | (positive & (scores[j] == top))
        weights[j] = weight if kept else ZERO
        shares[j] = (clipped[j] * scale) * weights[j]


@numba.njit(nogil=True, cache=True)
def fuse(scores, places, ends, clipped, known, scales, vector):
    """`maths.compete.fuse` of the clipped task vectors, into `vector`.

    Args:
        scores: exact ones, of all entries that may be above the cut; ordered as `count_exact` takes them.
        places, ends, clipped: theirs; see engine.forms.pcb.Doubts.
        scales: float32 `task`.
        vector: the entries that were looked at, written.
    """
    summed, total, start, run = np.empty(PART, np.float64), np.empty(PART, np.float64), 0, 0
    weights, shares = np.empty(PART, np.float32), np.empty(PART, np.float32)
    for begin in range(0, len(vector), PART):
        summed[:], total[:] = 0, 0
        for t in range(len(scales)):
            stop = ends[run]
            _weigh(scores[start:stop], clipped[start:stop], known.cut[t], known.top[t], scales[t], weights, shares)
            for j in range(stop - start):
                i = np.uint32(places[start + j] - begin)
                summed[i] += np.float64(shares[j])
                total[i] += np.float64(weights[j])
            start, run = stop, run + 1
        for i in range(min(PART, len(vector) - begin)):
            vector[begin + i] = (np.float32(summed[i]) + ZERO) / max(np.float32(total[i]), SMALLEST)
