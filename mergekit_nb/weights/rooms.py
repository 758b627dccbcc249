"""Memory that each thread reads into again and again: fresh pages cost more than reading them does."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from mergekit_nb.weights.source import Checkpoint, Source, entries

LARGEST = 1 << 22  # bytes worth keeping; more is given back at once


class Rooms(threading.local):
    """Of every thread its own buffers, one for each model that is read; pinned where a GPU fetches from them."""

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}

    def entries(self, place: int, source: Source, name: str, start: int, stop: int, pinned: bool = False) -> Tensor:
        """As `source.entries`; of a file only until this thread reads for the same `place` again."""
        if not isinstance(source, Checkpoint):
            return entries(source, name, start, stop)
        dtype = source.dtype(name)
        size = (stop - start) * dtype.itemsize
        if size > LARGEST:
            return entries(source, name, start, stop)
        kept = self.kept.get(place)
        if kept is None or kept.numel() < size or (pinned and not kept.is_pinned()):
            self.kept[place] = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        buffer = self.kept[place][:size].view(dtype)
        source.read_into(name, start, buffer)
        return buffer
