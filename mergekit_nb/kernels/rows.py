"""Task vectors a block at a time: small enough for the processor's first cache, read where they lie, never copied as a whole."""

from __future__ import annotations

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 2048  # entries of one task at a time: 8 KB, a multiple of 8 so that packed masks meet at whole bytes
MAGNITUDE = np.int32(0x7FFFFFFF)  # all bits of a float32 but its sign


@intrinsic
def _pointer(typing, address):
    """An address as a pointer, so that any number of tensors is one argument."""

    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), build


@numba.njit(nogil=True)
def block_of(address, start, count):
    """Float32 entries `start` to `start + count` of the tensor at an address."""
    return numba.carray(_pointer(address), start + count, np.float32)[start : start + count]


@numba.njit(nogil=True)
def subtract(addresses, start, count, taus):
    """Expert minus base of every task into `taus`; gives the bits of the largest magnitude, NaN the largest of all.

    Args:
        addresses: 1 + task, int64; of float32 tensors, the base first.
        taus: task block, float32, written.
    """
    base = block_of(addresses[0], start, count)
    top = np.int32(0)
    for t in range(len(addresses) - 1):
        expert, tau = block_of(addresses[t + 1], start, count), taus[t]
        for i in range(count):
            tau[i] = expert[i] - base[i]
        keys = tau.view(np.int32)
        for i in range(count):
            top = max(top, keys[i] & MAGNITUDE)
    return top


@numba.njit(nogil=True)
def ordered_sum(taus, count, total):
    """`maths.elect.ordered_sum` of a block into `total`."""
    first = taus[0]
    for i in range(count):
        total[i] = first[i]
    for t in range(1, len(taus)):
        tau = taus[t]
        for i in range(count):
            total[i] += tau[i]
