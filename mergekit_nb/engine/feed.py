"""Getting pieces to a GPU and back: every thread has a stream of its own, so one copies while another computes.

Nothing of this has run on a GPU yet.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

DIRECT = (torch.float32, torch.float16, torch.bfloat16)  # dtypes that kernels read as they are


class Streams(threading.local):
    """Of every thread its own stream to each device."""

    def __init__(self) -> None:
        self.kept: dict[torch.device, torch.cuda.Stream] = {}

    def to(self, device: torch.device) -> torch.cuda.Stream:
        """This thread's stream to a GPU."""
        if device not in self.kept:
            self.kept[device] = torch.cuda.Stream(device)
        return self.kept[device]


STREAMS = Streams()


@contextmanager
def lane(device: torch.device) -> Iterator[None]:
    """Whatever this thread copies and computes on a GPU within goes through its own stream; elsewhere nothing changes.

    At the end all of it is done, also where something failed: what was copied from may be overwritten.
    """
    if device.type != "cuda":
        yield
        return
    with torch.cuda.stream(STREAMS.to(device)):
        try:
            yield
        finally:
            _wait()


def common(base: Tensor, experts: list[Tensor]) -> torch.dtype:
    """The dtype that a stack of these models has: theirs, if they all have one that kernels read, else float32."""
    dtypes = {flat.dtype for flat in (base, *experts)}
    return base.dtype if len(dtypes) == 1 and base.dtype in DIRECT else torch.float32


def stacked(base: Tensor, experts: list[Tensor], device: torch.device, tile: int) -> Tensor:
    """Flat models on the device, `1 + task entry` in their `common` dtype, filled up with zeros to a multiple of `tile`.

    From pinned memory the copies are only begun here: they are done when a kernel of the same stream reads them.
    """
    size = base.numel()
    rows = torch.empty(1 + len(experts), -(-size // tile) * tile, dtype=common(base, experts), device=device)
    rows[:, size:].zero_()
    for row, flat in zip(rows, (base, *experts), strict=True):
        row[:size].copy_(flat.detach(), non_blocking=True)
    return rows


def home(*tensors: Tensor) -> list[Tensor]:
    """These tensors on the CPU; of a GPU all at once, into pinned memory, and without spinning meanwhile.

    torch uses pinned memory again once it is dropped: what is kept for long should be copied.
    """
    if all(tensor.device.type != "cuda" for tensor in tensors):
        return [tensor.cpu() for tensor in tensors]
    pinned = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for mine, theirs in zip(pinned, tensors, strict=True):
        mine.copy_(theirs, non_blocking=True)
    _wait()
    return pinned


def _wait() -> None:
    """Until this thread's stream has done all; the thread sleeps, so that another may have its core."""
    done = torch.cuda.Event(blocking=True)
    done.record()
    done.synchronize()
