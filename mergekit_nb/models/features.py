"""Unknowns of the derivation: runs of features of which it is found out, step by step, which must move together.

An axis of a tensor is a tuple of runs, in order. A run is a length and the block of features that fills it, or None where
every entry has its place. Features that meet are joined (union-find); what is cut is cut everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import gcd
from typing import NamedTuple


class Features:
    """Blocks of features that can trade places; as many as `blocks`, alike in length wherever they appear.

    Attributes:
        blocks: how many; with one there is nothing to trade, and the features have a fixed place.
        role: what a parameter that carries them does: "writes", "reads", "scales"; None until it is used.
    """

    def __init__(self, blocks: int):
        self.blocks = blocks
        self.role: str | None = None
        self._joined: Features | None = None
        self.parts: tuple[tuple[Features, int], ...] = ()  # after a cut: each part, and how many of the blocks it took

    @property
    def root(self) -> Features:
        """The features that stand for all that were joined with these."""
        return self if self._joined is None else self._joined.root

    def coarsen(self, blocks: int) -> None:
        """Tie neighbours together, until the number of blocks divides `blocks`."""
        root = self.root
        root.blocks = gcd(root.blocks, blocks)

    def join(self, other: Features) -> None:
        """From now on both move as one; where their blocks differ, only as much as both can."""
        one, two = self.root, other.root
        if one is not two:
            one.blocks = gcd(one.blocks, two.blocks)
            two._joined = one

    def cut(self, after: int) -> None:
        """Into two that move apart."""
        root = self.root
        root.parts = ((Features(after), after), (Features(root.blocks - after), root.blocks - after))


class Run(NamedTuple):
    """Consecutive entries of an axis: `length` of them, filled by `features`, or fixed."""

    features: Features | None
    length: int

    @property
    def block(self) -> int:
        """Entries that one block of the features fills."""
        return self.length // self.features.root.blocks


Axis = tuple[Run, ...]


def fixed(length: int) -> Axis:
    """An axis whose entries all have their place."""
    return (Run(None, length),)


def free(length: int) -> Axis:
    """An axis of new features."""
    return (Run(Features(length), length),)


def size(axis: Axis) -> int:
    """The length of an axis."""
    return sum(run.length for run in axis)


def resolved(axis: Axis) -> Axis:
    """The axis as it is known by now: parts of what was cut, and None for what has become fixed."""
    return tuple(leaf for run in axis for leaf, _ in leaves(run))


def leaves(run: Run, role: str | None = None) -> Iterator[tuple[Run, str | None]]:
    """The runs that one run has come to be, each with the role of the parameter whose axis it was."""
    if run.features is None:
        yield run, role
        return
    role, root = role or run.features.role, run.features.root
    # what a part does counts only where it is a part of this very parameter's axis
    own = root is run.features
    if root.parts:
        each = run.length // sum(share for _, share in root.parts)
        for part, share in root.parts:
            found = leaves(Run(part, share * each), role)
            yield from found if own else ((leaf, role) for leaf, _ in found)
    else:
        yield Run(root if root.blocks > 1 else None, run.length), role


def is_fixed(axis: Axis) -> bool:
    """Whether no entry can move."""
    return all(run.features is None for run in resolved(axis))


def fix(axis: Axis) -> None:
    """Nail every entry of an axis to its place."""
    for run in resolved(axis):
        if run.features is not None:
            run.features.coarsen(1)


def cut(axis: Axis, places: Iterable[int]) -> Axis:
    """The axis with its runs cut at some places, counted from its start."""
    axis = resolved(axis)
    for place in sorted(set(places)):
        axis = _cut_once(axis, place)
    return axis


def _cut_once(axis: Axis, place: int) -> Axis:
    done: list[Run] = []
    start = 0
    for number, run in enumerate(axis):
        inside = place - start
        if 0 < inside < run.length:
            if run.features is not None and inside % run.block:
                run.features.coarsen(1)
            if run.features is None or run.features.root.blocks == 1:
                halves = (Run(None, inside), Run(None, run.length - inside))
                return resolved((*done, *halves, *axis[number + 1 :]))
            run.features.cut(inside // run.block)
            return resolved(axis)
        done.append(run)
        start += run.length
    return axis


def part(axis: Axis, start: int, stop: int) -> Axis:
    """The entries from `start` up to `stop`."""
    kept, at = [], 0
    for run in cut(axis, (start, stop)):
        if start <= at < stop:
            kept.append(run)
        at += run.length
    return tuple(kept)


def ends(axis: Axis) -> list[int]:
    """Where the runs of an axis end."""
    found, at = [], 0
    for run in axis:
        at += run.length
        found.append(at)
    return found


def unite(one: Axis, two: Axis) -> None:
    """Two axes of one length that meet entry by entry: their features become the same."""
    one, two = resolved(one), resolved(two)
    while ends(one) != ends(two):
        one, two = cut(one, ends(two)), cut(two, ends(one))
        one, two = resolved(one), resolved(two)
    for a, b in zip(one, two, strict=True):
        if a.features is None or b.features is None:
            fix((a, b))
        else:
            a.features.join(b.features)


def unite_groups(one: Axis, two: Axis, groups: int) -> None:
    """Two axes that meet group by group, each with groups of its own length (grouped convolution)."""
    each, other = size(one) // groups, size(two) // groups
    while True:
        one, two = resolved(one), resolved(two)
        if any(end % each for end in ends(one)) or any(end % other for end in ends(two)):
            fix(one + two)
            return
        marks, others = [end // each for end in ends(one)], [end // other for end in ends(two)]
        if marks == others:
            break
        one, two = cut(one, [mark * each for mark in others]), cut(two, [mark * other for mark in marks])
    for a, b in zip(one, two, strict=True):
        if a.features is None or b.features is None:
            fix((a, b))
            continue
        for run in (a, b):
            run.features.coarsen(a.length // each)
        a.features.join(b.features)
