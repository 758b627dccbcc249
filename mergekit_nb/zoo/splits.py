"""Splits that share no picture and no maker: nothing that a model learned from is in the pictures that judge it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SPLITS = ("test", "validation", "pre", "train")  # a picture found in two of them stays in the first
SHARES = {"test": 0.20, "validation": 0.10, "pre": 0.28, "train": 0.42}  # of the makers, or of the pictures


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures: ``images`` uint8 "n 32 32 3", ``labels`` int64 "n" (for the pool: which text), ``makers`` "n"."""

    images: np.ndarray
    labels: np.ndarray
    makers: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: np.ndarray) -> Pictures:
        return Pictures(self.images[which], self.labels[which], self.makers[which])


def pictures(images: np.ndarray, labels: np.ndarray, makers: Sequence[str] | str) -> Pictures:
    """Bring pictures into shape: grey ones get three equal channels, one maker's name serves for all."""
    colour = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=3)
    names = np.full(len(images), makers) if isinstance(makers, str) else np.asarray(makers)
    return Pictures(colour, np.asarray(labels, np.int64), names)


def join(parts: Sequence[Pictures]) -> Pictures:
    """Several lots of pictures as one."""
    return Pictures(*(np.concatenate([getattr(part, field) for part in parts]) for field in Pictures.__annotations__))


def deal(makers: Mapping[str, str], seed: int) -> dict[str, str]:
    """Give every maker to one split, so that each kind's makers come out near `SHARES`.

    Args:
        makers: maker -> its kind; kinds with few makers are dealt first.

    Returns:
        maker -> split.
    """
    kinds = {kind: sorted(name for name, of in makers.items() if of == kind) for kind in set(makers.values())}
    given: dict[str, str] = {}
    for kind in sorted(kinds):
        order = np.random.default_rng([seed, zlib.crc32(kind.encode())]).permutation(kinds[kind])
        held = dict.fromkeys(SPLITS, 0)
        for turn, maker in enumerate(order, start=1):
            split = max(SPLITS, key=lambda name: SHARES[name] * turn - held[name])
            held[split] += 1
            given[str(maker)] = split
    return given


def cut(pile: Pictures, seed: int) -> dict[str, Pictures]:
    """Split pictures that have no makers: at random, class by class, in the proportions of `SHARES`."""
    order = np.random.default_rng(seed).permutation(len(pile))
    places = {split: [] for split in SPLITS}
    for label in np.unique(pile.labels):
        mine = order[pile.labels[order] == label]
        ends = np.cumsum([round(SHARES[split] * len(mine)) for split in SPLITS[:-1]])
        for split, part in zip(SPLITS, np.split(mine, ends), strict=True):
            places[split].append(part)
    return {split: pile[np.concatenate(parts)] for split, parts in places.items()}


def by_maker(pile: Pictures, given: Mapping[str, str]) -> dict[str, Pictures]:
    """Split pictures by who made them; ``given`` is maker -> split."""
    split_of = np.array([given[maker] for maker in pile.makers])
    return {split: pile[split_of == split] for split in SPLITS}


def even(pile: Pictures, most: int, seed: int) -> Pictures:
    """At most ``most`` of the pictures, drawn so that the classes come out as even as they can."""
    order = np.random.default_rng(seed).permutation(len(pile))
    rank = np.empty(len(pile), np.int64)
    for label in np.unique(pile.labels):
        mine = order[pile.labels[order] == label]
        rank[mine] = np.arange(len(mine))
    chosen = order[np.argsort(rank[order], kind="stable")][:most]
    return pile[np.sort(chosen)]


def without_copies(piles: Mapping[str, Pictures], seen: set[bytes] | None = None) -> dict[str, Pictures]:
    """Drop every picture that stands, pixel for pixel, in an earlier pile, in its own, or in ``seen`` (which grows)."""
    seen = set() if seen is None else seen
    kept = {}
    for name, pile in piles.items():
        fresh = np.zeros(len(pile), bool)
        for place, image in enumerate(pile.images):
            pixels = image.tobytes()
            fresh[place] = pixels not in seen
            seen.add(pixels)
        kept[name] = pile[fresh]
    return kept
