"""Task arithmetic and averaging in one walk over the weights."""

from __future__ import annotations

import numba
import numpy as np

from mergekit_nb.kernels.rows import BLOCK, load, tau_of


@numba.njit(nogil=True, cache=True)
def add(addresses, size, weights, scale, divisor, vector):
    """scale * sum of weights_t * tau_t / divisor, in float32, into `vector`; gives the bits of the largest magnitude.

    Args:
        addresses, size: see `rows.subtract`.
        weights: float32 `task`.
        scale, divisor: float32.
    """
    base, tau = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    top = np.int32(0)
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        total = vector[start : start + count]
        load(addresses[0], start, count, base)
        for t in range(len(weights)):
            top = max(top, tau_of(addresses[t + 1], base, start, count, tau))
            _add(tau, weights[t], t == 0, total)
        for i in range(count):
            total[i] = scale * total[i] / divisor
    return top


@numba.njit(nogil=True)
def _add(tau, weight, first, total):
    """The first task's -0.0 is kept, as `maths.elect.ordered_sum` keeps it."""
    if first:
        for i in range(len(total)):
            total[i] = tau[i] * weight
    else:
        for i in range(len(total)):
            total[i] += tau[i] * weight
