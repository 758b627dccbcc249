"""Task arithmetic and averaging in one walk over the weights."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import BLOCK, ordered_sum, subtract


@numba.njit(nogil=True, cache=True)
def add(addresses, size, weights, scale, divisor, vector):
    """scale * sum of weights_t * tau_t / divisor, in float32, into `vector`; gives the bits of the largest magnitude.

    Args:
        addresses, size: see `rows.subtract`.
        weights: float32 `task`.
        scale, divisor: float32.
    """
    tasks = len(addresses) - 1
    taus, total = np.empty((tasks, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    top = np.int32(0)
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        top = max(top, subtract(addresses, start, count, taus))
        for t in range(tasks):
            tau, weight = taus[t], weights[t]
            for i in range(count):
                tau[i] *= weight
        ordered_sum(taus, count, total)
        piece = vector[start : start + count]
        for i in range(count):
            piece[i] = scale * total[i] / divisor
    return top
