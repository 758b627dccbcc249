"""Exact order statistics and exact sums that add up: over slices, tensors, threads and machines, in any order.

The bits of |x|, read as an integer, grow with |x|. So a k-th smallest magnitude is found digit by digit from counts
(radix selection), and a sum of magnitudes is exact when mantissas are added as integers, one bin per exponent.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

DIGIT = 16  # bits found per round: 65 536 counts a task
PART = 27  # bits of a mantissa added at once
# dtype -> (integer of that width, bits of the mantissa, exponent of the smallest subnormal)
LAYOUT = {torch.float32: (torch.int32, 23, -149), torch.float64: (torch.int64, 52, -1074)}


def rounds(dtype: torch.dtype) -> int:
    """How many rounds of counting an exact order statistic of this dtype takes: 2 for float32, 4 for float64."""
    return dtype.itemsize * 8 // DIGIT


def keys(x: Tensor) -> Tensor:
    """The bits of |x| as non-negative integers of its width: `a < b` exactly where |a| < |b|."""
    return x.abs().contiguous().view(LAYOUT[x.dtype][0])


def signed_keys(x: Tensor) -> Tensor:
    """Integers of x's width whose bits, read as unsigned, are in the order of the numbers; -0.0 counts as 0.0."""
    bits = (x + 0.0).contiguous().view(LAYOUT[x.dtype][0])
    lowest = torch.iinfo(bits.dtype).min
    return torch.where(bits < 0, ~bits, bits ^ lowest)


def count(taus: Tensor, prefix: Tensor | None, done: int, signed: bool = False) -> Tensor:
    """Counts of the next digit among the entries whose leading digits equal `prefix`.

    Args:
        taus: task *shape
        prefix: task; the `done` leading digits found so far, or None at the start.
        done: digits found so far.
        signed: rank the numbers themselves, not their magnitudes.

    Returns:
        task 65536, int64; adds up over pieces.
    """
    shift = DIGIT * (rounds(taus.dtype) - done - 1)
    counts = []
    for t, tau in enumerate(taus):
        leading = (signed_keys if signed else keys)(tau).flatten() >> shift
        if prefix is not None:
            # the shift repeats the highest bit, which a signed key may have set
            leading = leading[leading >> DIGIT & (1 << DIGIT * done) - 1 == prefix[t]]
        counts.append(torch.bincount(leading & (1 << DIGIT) - 1, minlength=1 << DIGIT))
    return torch.stack(counts).cpu()


def descend(counts: Tensor, rank: Tensor, prefix: Tensor | None) -> tuple[Tensor, Tensor]:
    """One digit further: the longer prefix, and the rank that is left among the entries that share it.

    Args:
        counts: task 65536
        rank: task; 1-based rank among the entries counted.
        prefix: task, or None at the start.
    """
    below = counts.cumsum(1)
    digit = torch.searchsorted(below, rank[:, None]).squeeze(1)
    before = torch.where(digit > 0, below.gather(1, (digit - 1).clamp(min=0)[:, None]).squeeze(1), 0)
    start = torch.zeros_like(digit) if prefix is None else prefix
    return (start << DIGIT) + digit, rank - before


def value(prefix: Tensor, dtype: torch.dtype, signed: bool = False) -> Tensor:
    """The magnitudes, or numbers, whose bits were found: task."""
    bits = prefix.to(LAYOUT[dtype][0])
    if signed:
        bits = torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).min, ~bits)
    return bits.view(dtype)


def kth_smallest(taus: Tensor, rank: int) -> Tensor:
    """The `rank`-th smallest magnitude of every task (1-based), exactly: the rounds above, in one call. task"""
    prefix, left = None, torch.full((len(taus),), rank)
    for done in range(rounds(taus.dtype)):
        prefix, left = descend(count(taus, prefix, done), left, prefix)
    return value(prefix, taus.dtype)


def magnitude_sums(x: Tensor) -> Tensor:
    """Sum of |x| over all but the first axis, exact: `task exponent part`, int64, adds up over pieces.

    The mantissas of each exponent are added as integers (here in float64, exact below 2^53: some 5e8 entries a piece;
    over pieces in int64, exact for a thousand times more); float64 has too long a mantissa for that, so there its halves
    are added apart.
    """
    _, mantissa, _ = LAYOUT[x.dtype]
    sums = []
    for bits in keys(x).reshape(len(x), -1):
        exponent = bits >> mantissa
        whole = (bits & (1 << mantissa) - 1) | ((exponent > 0).to(bits.dtype) << mantissa)
        parts = [(whole >> shift & (1 << PART) - 1).double() for shift in range(0, mantissa + 1, PART)]
        size = 1 << (x.dtype.itemsize * 8 - mantissa - 1)
        sums.append(torch.stack([torch.bincount(exponent, part, size) for part in parts], -1))
    return torch.stack(sums).to(torch.int64).cpu()


def total(bins: Tensor, dtype: torch.dtype) -> Tensor:
    """What `magnitude_sums` of entries of `dtype` add up to, rounded once: task, float64."""
    exact, found = [0] * len(bins), bins.nonzero()
    for (task, exponent, i), part in zip(found.tolist(), bins[tuple(found.T)].tolist(), strict=True):
        exact[task] += part << (PART * i + max(exponent - 1, 0))
    lowest = Fraction(2) ** LAYOUT[dtype][2]
    return torch.tensor([float(whole * lowest) for whole in exact], dtype=torch.float64)


def counts(x: Tensor, earlier: list[Tensor], ranks: tuple[int, ...], signed: bool = False) -> Tensor:
    """One round of looking for several ranks at once: rank task 65536, adds up over pieces; in the first one for all ranks.

    Args:
        x: task *shape
        earlier: what the rounds before added up to.
        ranks: 1-based, the same for every task.
    """
    if not earlier:
        return count(x, None, 0, signed)[None]
    return torch.stack([count(x, prefix, len(earlier), signed) for prefix in prefixes(earlier, ranks)])


def prefixes(earlier: list[Tensor], ranks: tuple[int, ...]) -> list[Tensor]:
    """The digits that rounds of `counts` have found: for every rank, task."""
    found = []
    for i, rank in enumerate(ranks):
        prefix, left = None, torch.full((earlier[0].shape[1],), rank)
        for counted in earlier:
            prefix, left = descend(counted[min(i, len(counted) - 1)], left, prefix)
        found.append(prefix)
    return found
