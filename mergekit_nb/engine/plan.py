"""What a merge will read, write and hold, known before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from operator import attrgetter

import torch

from mergekit_nb.engine import budget
from mergekit_nb.engine.forms.form import KINDS
from mergekit_nb.engine.pieces import Work, most_entries
from mergekit_nb.weights.hashing import HASHED
from mergekit_nb.weights.match import Match
from mergekit_nb.weights.source import dtype_of, nbytes_of, shape_of

RESULTS = 3  # vectors of one task that a compiled form makes, at most
# entries of a piece: on a CPU those of nine models and their result lie in its caches; a GPU is asked more seldom
LARGEST = {"cpu": 1 << 17}
ELSEWHERE = 1 << 19
TOTALS = 64 * 10**6  # bytes for what the rounds add up to: counts of 65 536 digits a task


@dataclass(frozen=True)
class Plan:
    """What a merge into a folder does.

    Attributes:
        method: its name.
        rounds: times the tensors that are merged are read: measuring rounds and the merge.
        reads: bytes read, in all rounds together.
        writes: bytes written, without low-rank factors, whose ranks are found on the way.
        holds: bytes of memory it takes beside the program itself, in this process or in each worker: an estimate.
        files: portions that the result is written in.
        threads: threads that work at once in this process.
        most: entries of one piece of a tensor.
        whole: whether the method needs whole tensors.
    """

    method: str
    rounds: int
    reads: int
    writes: int
    holds: int
    files: int
    threads: int
    most: int
    whole: bool

    def __str__(self) -> str:
        rounds = f"in {self.rounds} rounds" if self.rounds > 1 else "once"
        files = f"{self.files} portions" if self.files > 1 else "one portion"
        pieces = "whole tensors" if self.whole else f"pieces of {self.most:,} entries"
        threads = f"{self.threads} threads" if self.threads > 1 else "one thread"
        return (
            f"{self.method}: reads {budget.said(self.reads)} ({rounds}), writes {budget.said(self.writes)} ({files}), "
            f"holds about {budget.said(self.holds)} ({pieces}, {threads})"
        )


def largest_piece(device: torch.device) -> int:
    """Entries of a piece beyond which larger ones are no faster."""
    return LARGEST.get(device.type, ELSEWHERE)


def read_once(work: Work) -> int:
    """Bytes of all tensors that are merged, in base and experts."""
    sources = (work.taus.base, *work.taus.experts.values())
    return sum(nbytes_of(source, name) for name in work.taus.names for source in sources)


def entry_bytes(work: Work) -> int:
    """Bytes that one entry takes while it is merged: as stored in every model, and in the method's intermediate results."""
    sources, tasks = (work.taus.base, *work.taus.experts.values()), len(work.taus.tasks)
    compiled = work.fast is not None and work.device.type == "cpu"
    width = _compiled if compiled else attrgetter("itemsize")
    read = max(sum(width(dtype_of(source, name)) for source in sources) for name in work.taus.names)
    return read + (
        RESULTS * work.dtype.itemsize + tasks if compiled else work.method.stacks * tasks * work.dtype.itemsize
    )


def _compiled(stored: torch.dtype) -> int:
    """Bytes of an entry that compiled loops read; as it is stored, and again in float32 where they do not read that."""
    return stored.itemsize if stored in KINDS else stored.itemsize + torch.float32.itemsize


def fitting(work: Work, memory: str | int | None, threads: int) -> tuple[int, int, int]:
    """Entries of a piece, threads and bytes held, for a budget; without one, for a quarter of what is free.

    Args:
        threads: how many there may be; fewer where the budget is small.

    Raises:
        ValueError: the budget is too small for the smallest piece; it says what is needed.
    """
    width, free = entry_bytes(work), budget.free()
    largest = max(prod(shape_of(work.taus.base, name)) for name in work.taus.names)
    least = min(largest, HASHED) if work.method.grain == "entry" else largest
    needed = TOTALS + least * width
    given = max(free // budget.SHARE, needed) if memory is None else budget.parse(memory)
    if given < needed or (memory is None and needed > free):
        raise ValueError(
            _too_little(work, f"memory={memory!r}" if memory else f"{budget.said(free)} of free memory", needed)
        )
    threads = max(min(threads, (given - TOTALS) // (least * width)), 1)
    if work.method.grain == "tensor":
        return HASHED, threads, TOTALS + threads * largest * width
    most = min(most_entries((given - TOTALS) // threads, width), largest_piece(work.device))
    return most, threads, TOTALS + threads * min(most, largest) * width


def _too_little(work: Work, have: str, needed: int) -> str:
    kind = "pieces" if work.method.grain == "entry" else "whole tensors"
    enough = budget.said(needed * 1.05).replace(" ", "")
    return (
        f"{have} cannot hold {work.method.label} of {len(work.taus.tasks)} experts in {kind}: that takes "
        f'{budget.said(needed)}; give memory="{enough}" or more'
    )


def written(work: Work, found: Match, patched: bool, masked: bool) -> int:
    """Bytes of the result: one model; or base, shared vector, masks and the tasks' own tensors."""
    base, experts = work.taus.base, work.taus.experts
    model = sum(nbytes_of(base, name) for name in base if name not in found.aliases)
    if not patched:
        return model
    sizes = {name: prod(shape_of(base, name)) for name in work.taus.names}
    width = {name: dtype_of(base, name).itemsize if masked else work.dtype.itemsize for name in sizes}
    masks = sum(-(-size // 8) for size in sizes.values()) * len(experts) * masked
    own = sum(nbytes_of(expert, name) for expert in experts.values() for name in found.own if name in expert)
    return model + sum(size * width[name] for name, size in sizes.items()) + masks + own
