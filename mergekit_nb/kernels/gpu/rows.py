"""Task vectors a tile at a time: loaded from the stack of models, subtracted in float32, never written.

Kernels that need an entry of a task twice load it again: within one tile it is then in the cache.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BYTE = tl.constexpr(8)  # a tile is a matrix with so many columns: its rows are bytes of packed masks
TILE = tl.constexpr(1024)  # entries of one program; a multiple of BYTE
MAGNITUDE = tl.constexpr(0x7FFFFFFF)  # all bits of a float32 but its sign
EXACT = {"enable_fp_fusion": False}  # a * b + c is rounded twice, as on the CPU


def tiles(rows: Tensor) -> tuple[int]:
    """The grid of programs for a stack of models `1 + task entry`, filled up with zeros to whole tiles."""
    return (rows.shape[1] // TILE.value,)


@triton.jit
def places():
    """This program's entries, int64 `byte 8`."""
    within = tl.arange(0, TILE // BYTE)[:, None] * BYTE + tl.arange(0, BYTE)[None, :]
    return tl.program_id(0).to(tl.int64) * TILE + within


@triton.jit
def wide(x):
    """As float32. A bfloat16 is the upper half of one; Triton's interpreter converts those next to 0 wrongly."""
    if x.dtype == tl.bfloat16:
        return (x.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        return x.to(tl.float32)


@triton.jit
def subtract(rows, stride, t, at):
    """Task t's vector at these entries, float32. No load has a mask, so that all are of 16 bytes.

    `rows` points to `1 + task stride`, the base first, in float32, float16 or bfloat16.
    """
    base = wide(tl.load(rows + at))
    return wide(tl.load(rows + (t + 1) * stride.to(tl.int64) + at)) - base


@triton.jit
def keys(x):
    """`maths.histogram.keys` of float32 entries."""
    return x.to(tl.int32, bitcast=True) & MAGNITUDE


@triton.jit
def plus(total, x, t):
    """The sum in task order; the first task's entry is taken as it is, so that -0.0 stays."""
    return tl.where(t == 0, x, total + x)


@triton.jit
def divide(x, y):
    """x / y of float32, rounded once: 53 bits of a quotient of two numbers of 24 are never a tie that is none.

    Triton's own division is not IEEE's, and its `div_rn` flushed the smallest numbers to 0 up to Triton 3.3 at least.
    """
    return (x.to(tl.float64) / y).to(tl.float32)
