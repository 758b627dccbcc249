"""Reading a piece of many files in one call, in which Python's other threads are not waited for."""

from __future__ import annotations

import numba
import numpy as np
from numba import types

# POSIX: count = pread(file, address, size, begin)
pread = types.ExternalFunction("pread", types.int64(types.int32, types.uintp, types.uintp, types.int64))


@numba.njit(nogil=True, cache=True)
def read(files, begins, sizes, addresses):
    """Bytes `begin` to `begin + size` of every file to its address; gives the first file that has not so many, or -1.

    Args:
        files: int64, open file descriptors.
        begins, sizes, addresses: int64, one for each file.
    """
    for i in range(len(files)):
        done = 0
        while done < sizes[i]:
            place, left = np.uintp(addresses[i] + done), np.uintp(sizes[i] - done)
            count = pread(np.int32(files[i]), place, left, begins[i] + done)
            if count <= 0:
                return i
            done += count
    return -1
