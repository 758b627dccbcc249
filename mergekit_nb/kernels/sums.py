"""`maths.histogram.magnitude_sums` of a block: exact, and mostly in one vectorised sum of integers."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import INFINITE, MAGNITUDE

MANTISSA = 23  # stored bits of a float32's mantissa
SPLIT = 27  # a sum of up to 62 bits goes into two bins: so many low bits, and the rest as many exponents higher
ONE = 177  # a block's largest exponent e: times 2^(177 - e) its magnitudes stay below 2^51, so 2048 of them below 2^62
OCTAVES = 19  # 24 bits of an entry, 10 of how many they are, and this make the 53 of a float64
SMALLEST = 64  # biased exponent from which on that factor is a float32; up to ONE it makes no entry smaller


@numba.njit(nogil=True)
def wholes(values, count, exponent):
    """|values| in units of the 50th bit below the block's largest entry: integers as a rule. Whether all are, and their sum.

    Weights and their differences have few bits.

    Args:
        exponent: biased, of the largest entry or above it.
    """
    if not SMALLEST <= exponent <= ONE:
        return False, np.int64(0)
    factor, broken, total = np.float32(2.0 ** (ONE - exponent)), np.int32(0), np.int64(0)
    for i in range(count):
        scaled = abs(values[i]) * factor
        word = np.int64(scaled)
        total += word
        broken |= np.float32(word) != scaled
    return broken == 0, total


@numba.njit(nogil=True)
def add_whole(total, exponent, bins):
    """Adds a sum of what `wholes` found to `bins`, 256 int64: the integer in bin e stands for so many 2^(max(e, 1) - 150)."""
    bins[exponent - SPLIT] += total & ((1 << SPLIT) - 1)
    bins[exponent] += total >> SPLIT


@numba.njit(nogil=True)
def add_by_exponent(keys, count, bins):
    """Adds magnitudes to `bins` by the bits of their float32: mantissas, exponent by exponent."""
    for i in range(count):
        key = keys[i] & MAGNITUDE
        exponent, whole = key >> MANTISSA, key & ((1 << MANTISSA) - 1)
        if exponent > 0:
            whole |= 1 << MANTISSA
        bins[exponent] += whole


@numba.njit(nogil=True)
def fits(least, exponent):
    """Whether float64 adds up a block without rounding, in any order: 1024 entries of 24 bits, over 19 octaves.

    Args:
        least: twice the bits of the smallest entry that is not 0.
        exponent: biased, of the largest entry.
    """
    return SMALLEST <= exponent < INFINITE >> MANTISSA and least >= (exponent - OCTAVES) << MANTISSA + 1


@numba.njit(nogil=True)
def add_float(parts, exponent, bins):
    """Adds float64 sums of entries that `fits` is true of to `bins`."""
    total = 0.0
    for part in parts:
        total += part
    add_whole(np.int64(total * 2.0 ** (ONE - exponent)), exponent, bins)


@numba.njit(nogil=True)
def add_magnitudes(values, count, exponent, bins):
    """Adds a block of float32 to `bins`, whatever they are; `exponent` as in `wholes`."""
    exact, total = wholes(values, count, exponent)
    if exact:
        add_whole(total, exponent, bins)
    else:
        add_by_exponent(values.view(np.int32), count, bins)
