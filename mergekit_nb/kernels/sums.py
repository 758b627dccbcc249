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
def add_magnitudes(values, count, bins):
    """Adds the sum of |values| to `bins`, 256 int64: the integer in bin e stands for so many 2^(max(e, 1) - 150).

    In units of the 50th bit below the block's largest entry all its entries are integers as a rule, since weights and
    their differences have few bits. Where one is not, mantissas are added up exponent by exponent.
    """
    keys = values.view(np.int32)
    top = np.int32(0)
    for i in range(count):
        top = max(top, keys[i] & MAGNITUDE)
    exponent = top >> MANTISSA
    if exponent >= SMALLEST:
        factor = np.float32(2.0 ** (ONE - exponent))
        total, broken = np.int64(0), np.int64(0)
        for i in range(count):
            scaled = abs(values[i]) * factor
            whole = np.int64(scaled)
            total += whole
            broken += np.float32(whole) != scaled
        if broken == 0:
            bins[exponent - SPLIT] += total & ((1 << SPLIT) - 1)
            bins[exponent] += total >> SPLIT
            return
    if top > 0:
        _by_exponent(keys, count, bins)


@numba.njit(nogil=True)
def _by_exponent(keys, count, bins):
    for i in range(count):
        key = keys[i] & MAGNITUDE
        exponent, whole = key >> MANTISSA, key & ((1 << MANTISSA) - 1)
        if exponent > 0:
            whole |= 1 << MANTISSA
        bins[exponent] += whole
