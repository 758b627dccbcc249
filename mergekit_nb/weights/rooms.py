"""Memory that each thread uses again and again: fresh pages cost more than reading or computing what goes into them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from mergekit_nb.weights.source import Checkpoint, Source, entries

LARGEST = 1 << 25  # bytes worth keeping for one purpose; more is given back at once
LINE = 64  # bytes of a cache line
CUTS = 64  # ways of cutting a room that are worth keeping
Made = TypeVar("Made")


class Cut(NamedTuple):
    """A room cut into flat tensors, and what was made of them."""

    flats: list[Tensor]
    made: dict[Hashable, object]


class Rooms(threading.local):
    """Of every thread its own buffers, by what they are for; pinned where a GPU fetches from them."""

    def __init__(self) -> None:
        self.kept: dict[object, Tensor] = {}
        self.cuts: dict[tuple, Cut] = {}
        self.latest: Cut | None = None

    def take(self, purpose: object, size: int, dtype: torch.dtype, pinned: bool = False) -> Tensor:
        """A flat tensor, not cleared: this thread's until it takes one for the same purpose again."""
        nbytes = size * dtype.itemsize
        if nbytes > LARGEST:
            return torch.empty(size, dtype=dtype)
        kept = self.kept.get(purpose)
        if kept is None or kept.numel() < nbytes or (pinned and not kept.is_pinned()):
            kept = self.kept[purpose] = torch.empty(nbytes, dtype=torch.uint8, pin_memory=pinned)
        return kept[:nbytes].view(dtype)

    def several(self, size: int, dtypes: tuple[torch.dtype, ...]) -> list[Tensor]:
        """Flat tensors of one size, not cleared: this thread's until it takes some again."""
        if (size, dtypes) not in self.cuts:
            self._cut(size, dtypes)
        self.latest = self.cuts[size, dtypes]
        return self.latest.flats

    def _cut(self, size: int, dtypes: tuple[torch.dtype, ...]) -> None:
        widths = [-(-size * dtype.itemsize // LINE) * LINE for dtype in dtypes]
        before, whole = self.kept.get("several"), self.take("several", sum(widths), torch.uint8)
        if self.kept.get("several") is not before or len(self.cuts) == CUTS:
            self.cuts = {}  # of memory that is not used any more, or too many
        parts = zip(whole.split(widths), dtypes, strict=True)
        self.cuts[size, dtypes] = Cut([part[: size * dtype.itemsize].view(dtype) for part, dtype in parts], {})

    def once(self, purpose: Hashable, flats: list[Tensor], make: Callable[[list[Tensor]], Made]) -> Made:
        """`make(flats)`; of what `several` gave it is made once, as long as this memory is used: it must not copy entries."""
        cut = self.latest
        if (
            cut is None
            or len(cut.flats) != len(flats)
            or any(a is not b for a, b in zip(cut.flats, flats, strict=True))
        ):
            return make(flats)
        if purpose not in cut.made:
            cut.made[purpose] = make(flats)
        return cut.made[purpose]

    def entries(
        self, purpose: object, source: Source, name: str, start: int, stop: int, pinned: bool = False
    ) -> Tensor:
        """As `source.entries`; of a file only until this thread reads for the same purpose again."""
        if not isinstance(source, Checkpoint):
            return entries(source, name, start, stop)
        buffer = self.take(purpose, stop - start, source.dtype(name), pinned)
        source.read_into(name, start, buffer)
        return buffer

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Afterwards this thread has given back all its buffers."""
        try:
            yield
        finally:
            self.kept, self.cuts, self.latest = {}, {}, None


ROOMS = Rooms()
