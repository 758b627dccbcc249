"""Whether groups of features can be completed so that each ends with exactly one feature of every model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np

Models = frozenset[int]


def completable(kinds: Counter[Models], models: int) -> bool:
    """Whether the groups can be put together, none of a model with one of its own, into groups of all the models.

    Greedy merging can fail to: {a1 b1}, {a2 c1}, {b2 c2} are three groups where two were wanted, and each pair shares a
    model. Counting suffices, as groups of the same models are alike: it is an exact cover by the partitions of the set of
    models, a small integer programme (scipy's HiGHS).

    Args:
        kinds: how many groups there are of each set of models.
        models: how many models there are; each brings equally many features.
    """
    from scipy.optimize import milp  # its import takes longer than most work here

    ways, sets = _incidence(models)
    counts = np.array([kinds[kind] for kind in sets])
    return bool(milp(np.zeros(ways.shape[1]), constraints=(ways, counts, counts), integrality=1).success)


@cache
def _incidence(models: int) -> tuple[np.ndarray, list[Models]]:
    """Which sets of models each partition is made of: "set partition", and the sets."""
    ways = list(_partitions(tuple(range(models))))
    sets = sorted({block for way in ways for block in way}, key=sorted)
    return np.array([[block in way for way in ways] for block in sets], dtype=float), sets


def _partitions(models: tuple[int, ...]) -> Iterator[list[Models]]:
    """All ways to cut a set of models into parts."""
    if not models:
        yield []
        return
    head, *rest = models
    for way in _partitions(tuple(rest)):
        yield [frozenset([head]), *way]
        for i, block in enumerate(way):
            yield [*way[:i], block | {head}, *way[i + 1 :]]
