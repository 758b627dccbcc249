"""Task vectors a block at a time: small enough for the processor's first cache, read where they lie, never copied as a whole."""

from __future__ import annotations

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 2048  # entries of one task at a time: 8 KB, a multiple of 8 so that packed masks meet at whole bytes
MAGNITUDE = np.int32(0x7FFFFFFF)  # all bits of a float32 but its sign
INFINITE = np.int32(0x7F800000)  # the bits of infinity; those of a NaN are above
FLOAT32, BFLOAT16 = 0, 1  # how a tensor is stored


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
def halves_of(address, start, count):
    """The bits of bfloat16 entries: the upper halves of float32's."""
    return numba.carray(_pointer(address), start + count, np.uint16)[start : start + count]


@numba.njit(nogil=True)
def load(place, start, count, block):
    """Entries of one tensor into `block`, in float32.

    Args:
        place: address and kind, FLOAT32 or BFLOAT16.
    """
    if place[1] == BFLOAT16:
        halves, keys = halves_of(place[0], start, count), block.view(np.int32)
        for i in range(count):
            keys[i] = np.int32(halves[i]) << 16
    else:
        whole = block_of(place[0], start, count)
        for i in range(count):
            block[i] = whole[i]


@numba.njit(nogil=True)
def tau_of(place, base, start, count, tau):
    """Expert minus base of one task into `tau`; gives the bits of the largest magnitude, NaN the largest of all."""
    if place[1] == BFLOAT16:
        load(place, start, count, tau)
        for i in range(count):
            tau[i] -= base[i]
    else:
        expert = block_of(place[0], start, count)
        for i in range(count):
            tau[i] = expert[i] - base[i]
    top, keys = np.int32(0), tau.view(np.int32)
    for i in range(count):
        top = max(top, keys[i] & MAGNITUDE)
    return top


@numba.njit(nogil=True)
def subtract(addresses, start, count, taus):
    """`tau_of` every task into `taus`; gives the largest of what it gives.

    Args:
        addresses: int64 `tensor 2`: of every tensor its address and its kind, FLOAT32 or BFLOAT16; the base first.
        taus: task block, float32, written.
    """
    top, base = np.int32(0), np.empty(BLOCK, np.float32)
    load(addresses[0], start, count, base)
    for t in range(len(addresses) - 1):
        top = max(top, tau_of(addresses[t + 1], base, start, count, taus[t]))
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
