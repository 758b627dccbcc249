"""What was computed in float32, as it is stored: rounded once, to float32 or bfloat16."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import BFLOAT16, BLOCK, MAGNITUDE, block_of, halves_of, load


@numba.njit(nogil=True, cache=True)
def store(addresses, size, adding, vector):
    """The vector, or base and vector together, in the base's dtype; gives the bits of the vector's largest magnitude.

    Args:
        addresses: int64 `2 2`: address and kind of the base, and of what is written; see `rows.subtract`.
        adding: whether the base is added.
        vector: float32 `size`.
    """
    block, top = np.empty(BLOCK, np.float32), np.int32(0)
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        piece = vector[start : start + count]
        keys = piece.view(np.int32)
        for i in range(count):
            top = max(top, keys[i] & MAGNITUDE)
        if adding:
            load(addresses[0], start, count, block)
            for i in range(count):
                block[i] += piece[i]
            _put(block, addresses[1], start, count)
        else:
            _put(piece, addresses[1], start, count)
    return top


@numba.njit(nogil=True)
def _put(block, place, start, count):
    if place[1] == BFLOAT16:
        _round(block.view(np.int32), halves_of(place[0], start, count), count)
    else:
        whole = block_of(place[0], start, count)
        for i in range(count):
            whole[i] = block[i]


@numba.njit(nogil=True)
def _round(keys, halves, count):
    """To the nearest bfloat16, of two equally near to the even one; finite numbers only."""
    for i in range(count):
        halves[i] = (keys[i] + 0x7FFF + (keys[i] >> 16 & 1)) >> 16
