"""`maths.histogram.magnitude_sums` of a block: exact, and mostly in one vectorised sum of integers."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import MAGNITUDE

MANTISSA = 23  # stored bits of a float32's mantissa
SPLIT = 27  # a sum of up to 62 bits goes into two bins: so many low bits, and the rest as many exponents higher
ONE = 177  # a block's largest exponent e: times 2^(177 - e) its magnitudes stay below 2^51, so 2048 of them below 2^62
SMALLEST = 64  # biased exponent from which on that factor is a float32


@numba.njit(nogil=True)
def wholes(values, count, exponent, whole):
    """|values| in units of the 50th bit below the block's largest entry: integers as a rule. Whether all are, and their sum.

    Weights and their differences have few bits.

    Args:
        exponent: biased, of the largest entry or above it.
        whole: int64, written.
    """
    if exponent < SMALLEST:
        return False, np.int64(0)
    factor, broken, total = np.float32(2.0 ** (ONE - exponent)), np.int32(0), np.int64(0)
    for i in range(count):
        scaled = abs(values[i]) * factor
        word = np.int64(scaled)
        whole[i] = word
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
