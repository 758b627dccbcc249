"""`maths.histogram.magnitude_sums` of a tile: exact, as a sum of integers in units of the smallest bit that most entries have."""

from __future__ import annotations

import triton
import triton.language as tl

from mergekit_nb.kernels.gpu.rows import keys

MANTISSA = tl.constexpr(23)  # stored bits of a float32's mantissa
HIDDEN = tl.constexpr(1 << 23)  # and the one that is not stored
SPLIT = tl.constexpr(27)  # exponents that one integer spans: 24 + 27 bits, 1024 times, stay below 2^62
LOWER = tl.constexpr((1 << 27) - 1)  # so many low bits of the sum go into one bin, the rest into another


@triton.jit
def add_magnitudes(x, bins):
    """Adds the sum of |x| to `bins`, 256 int64: the integer in bin e stands for so many 2^(max(e, 1) - 150).

    Entries that are smaller than the largest by more than SPLIT exponents are added one by one; in weights they are rare.
    """
    key = keys(x)
    stored = key >> MANTISSA
    exponent = tl.maximum(stored, 1)
    whole = (key & (HIDDEN - 1) | tl.where(stored > 0, HIDDEN, 0)).to(tl.int64)
    highest = tl.maximum(tl.max(exponent), SPLIT + 1)
    behind = highest - exponent
    near = behind <= SPLIT
    total = tl.sum(tl.where(near, whole << tl.maximum(SPLIT - behind, 0).to(tl.int64), 0))
    tl.atomic_add(bins + highest - SPLIT, total & LOWER, sem="relaxed")
    tl.atomic_add(bins + highest, total >> SPLIT, sem="relaxed")
    tl.atomic_add(bins + exponent, whole, mask=(whole > 0) & (behind > SPLIT), sem="relaxed")
