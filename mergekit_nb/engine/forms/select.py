"""Thresholds of whole tensors in one walk: a sample says about where they are, and what is near is looked at exactly."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
import torch

from mergekit_nb.engine.forms.form import Rows, counted, kernels
from mergekit_nb.maths import histogram

SAMPLE = 1 << 14  # entries of a task that say where its threshold is
SURE = 4  # standard deviations of a rank in the sample
ROOM = 8  # of so many entries one may be near; where more are, digits are counted


def threshold(rows: Rows, keep: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Of every task the magnitude from which on exactly `keep` entries stay, and how many equal to it may.

    Where all that are equal may stay, the number is that of all entries. None may be where an entry is NaN or infinite.

    Args:
        keep: at least 1, at most as many as there are.
    """
    rank = rows.size - keep + 1
    near = _near(rows, rank)
    if near is None:
        return _counted(rows, rank)
    found = [_exactly(keys, rank - below) for keys, below in near]
    values = np.array([key for key, _, _ in found], np.uint32).view(np.float32)
    return values, np.array([rows.size if stay == same else stay for _, same, stay in found])


def _near(rows: Rows, rank: int) -> list[tuple[np.ndarray, int]] | None:
    """Of every task the bits of some magnitudes, that of the rank among them, and how many are smaller than all these."""
    keys = _sample(rows)
    if keys.shape[1] == rows.size:
        return [(row, 0) for row in keys]
    low, high = _bracket(keys, rank / rows.size)
    below, found = np.zeros(rows.tasks, np.int64), np.zeros(rows.tasks, np.int64)
    keys = np.empty((rows.tasks, rows.size // ROOM), np.uint32)
    kernels().between(rows.addresses, rows.size, low, high, below, found, keys)
    held = (below < rank) & (rank <= below + found) & (found < keys.shape[1])
    return [(keys[t, : found[t]], int(below[t])) for t in range(rows.tasks)] if held.all() else None


def _sample(rows: Rows) -> np.ndarray:
    """The bits of magnitudes, all equally far from each other: `task sample`, uint32."""
    step = -(-rows.size // SAMPLE) | 1  # odd: not always of the same columns
    base, *experts = (flat[::step].to(torch.float32) for flat in rows.tensors)
    return torch.stack([(expert - base).abs() for expert in experts]).numpy().view(np.uint32)


def _bracket(keys: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Bits of two magnitudes of every task, between which lies, all but surely, that below which this share is."""
    size = keys.shape[1]
    margin, middle = ceil(SURE * sqrt(size * share * (1 - share))) + 1, ceil(share * size)
    low, high = max(middle - margin, 0), min(middle + margin, size - 1)
    keys = np.partition(keys, (low, high), axis=1)
    zeros, infinite = np.zeros(len(keys), np.uint32), np.full(len(keys), np.float32(np.inf)).view(np.uint32)
    return (keys[:, low] if low else zeros), (keys[:, high] if high < size - 1 else infinite)


def _exactly(keys: np.ndarray, rank: int) -> tuple[int, int, int]:
    """The key of that rank, how many are equal to it, and how many of these are of that rank or above."""
    key = np.partition(keys, rank - 1)[rank - 1]
    same, smaller = int((keys == key).sum()), int((keys < key).sum())
    return key, same, same - (rank - 1 - smaller)


def _counted(rows: Rows, rank: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Digit by digit: as fast for weights of any kind."""
    left, prefix = torch.full((rows.tasks,), rank), None
    for _ in range(histogram.rounds(torch.float32)):
        counts = counted(rows, prefix)
        if counts is None:
            return None
        prefix, left = histogram.descend(counts, left, prefix)
    same = counts.gather(1, (prefix & (1 << histogram.DIGIT) - 1)[:, None]).squeeze(1)
    stay = torch.where(left == 1, rows.size, same - left + 1)
    return histogram.value(prefix, torch.float32).numpy(), stay.numpy()
