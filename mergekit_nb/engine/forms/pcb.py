"""PCB-Merging, compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.engine.forms.form import Fast, Finished, Rows, finite, kernels, numbers, zeros
from mergekit_nb.maths import histogram
from mergekit_nb.maths.compete import LARGEST_EXPONENT
from mergekit_nb.methods import Pcb
from mergekit_nb.methods.base import Totals
from mergekit_nb.weights.rooms import ROOMS

ROOM = 1 << 15  # doubts at a time; torch takes threads of its own for more
MERGE = 2  # the phase of kernels.compete.find after its two of counting


class Known(NamedTuple):
    """What PCB's earlier rounds have found, by task.

    Attributes:
        low, high: float32 `task`; what magnitudes are clipped to.
        prefixes: int32 `2 task`; the first digits of the cut and of the highest score, in the rounds that look for more.
        cut, top: float32 `task`; the score at and below which entries are dropped, and the highest; infinite where a task
            weighs nothing.
    """

    low: np.ndarray
    high: np.ndarray
    prefixes: np.ndarray
    cut: np.ndarray
    top: np.ndarray


class Doubts(NamedTuple):
    """Entries whose scores have to be exact: which, of which task, and what their scores are made of.

    Attributes:
        places: int32, counted from the first entry looked at.
        ends: int32; of every block of entries and in it of every task, where its doubts end.
        clipped: float32.
        exponents, products: float32, the arguments of exp and tanh.
    """

    places: np.ndarray
    ends: np.ndarray
    clipped: np.ndarray
    exponents: np.ndarray
    products: np.ndarray

    @classmethod
    def room(cls, size: int, runs: int) -> Doubts:
        """Room for so many of so many blocks and tasks: this thread's until it asks again."""
        room = ROOMS.take("doubts", 4 * size + runs, torch.int32).numpy()
        places, *values = room[: 4 * size].reshape(4, size)
        return cls(places, room[4 * size :], *(part.view(np.float32) for part in values))

    def first(self, found: int, runs: int) -> Doubts:
        """The first so many, of the first so many blocks and tasks."""
        places, ends, *values = self
        return Doubts(places[:found], ends[:runs], *(part[:found] for part in values))

    def scores(self) -> np.ndarray:
        """Their scores, by torch's own exp and tanh; the arguments are overwritten."""
        return torch.from_numpy(self.exponents).exp_().mul_(torch.from_numpy(self.products).tanh_()).numpy()


@dataclass(frozen=True)
class FastPcb(Fast):
    """PCB-Merging as its authors' first variant and their language code have it; exp and tanh are torch's own."""

    _found: dict = field(default_factory=dict, compare=False, repr=False)
    suits = Pcb

    def ready(self):
        return self.method.variant in ("A", "B")

    def measure(self, site, base, experts, totals):
        parts: dict[str, Tensor] = {}
        return parts if self.add(site, base, experts, totals, parts) else None

    def add(self, site, base, experts, totals, parts):
        rows, before = Rows.of(base, experts), self.method._range_rounds(torch.float32)
        if rows.tasks > LARGEST_EXPONENT:
            return False
        name, ranks = "scores" if len(totals) >= before else "range", 1 if len(totals) in (0, before) else 2
        counts = parts.get(name)
        counts = zeros(ranks, rows.tasks, 1 << histogram.DIGIT) if counts is None else counts
        count = self._count_scores if name == "scores" else self._count_range
        if not count(rows, totals, 1, counts.numpy()):
            count(rows, totals, -1, counts.numpy())
            return False
        parts[name] = counts
        if name == "range":
            parts["size"] = torch.tensor(site.size) + parts.get("size", 0)
        return True

    def finish(self, site, base, experts, totals):
        rows = Rows.of(base, experts)
        if rows.tasks > LARGEST_EXPONENT:
            return None
        known, scale = self._known(totals), self.method.scale
        scales = numbers(scale if isinstance(scale, tuple) else (scale,) * rows.tasks, rows.tasks)
        vector = ROOMS.take("vector", rows.size, torch.float32)
        for here, doubts in self._doubts(rows, MERGE, known, 1, np.empty((0, 0, 0), np.int64)):
            if doubts is None:
                return None
            whose = (doubts.places, doubts.ends, doubts.clipped)
            kernels().fuse(doubts.scores(), *whose, known, scales, vector[here].numpy())
        return Finished(vector)

    def _count_range(self, rows: Rows, totals: Totals, step: int, counts: np.ndarray) -> bool:
        """Counts towards the magnitudes that task vectors are clipped to; False where weights are broken."""
        if not totals:
            return finite(kernels().count(rows.addresses, rows.size, np.empty(0, np.int32), step, counts[0]))
        prefixes = self._once(totals, self._range_prefixes)
        return finite(kernels().count_ends(rows.addresses, rows.size, prefixes, step, counts))

    def _count_scores(self, rows: Rows, totals: Totals, step: int, counts: np.ndarray) -> bool:
        """Counts towards the threshold and the highest score; False where weights are broken."""
        known, done = self._known(totals), len(totals) - self.method._range_rounds(torch.float32)
        for _, doubts in self._doubts(rows, done, known, step, counts):
            if doubts is None:
                return False
            kernels().count_exact(doubts.scores(), doubts.ends, known.prefixes, done, step, counts)
        return True

    def _range_prefixes(self, totals: Totals) -> np.ndarray:
        found = histogram.prefixes([total["range"] for total in totals], self.method._clip_ranks(totals))
        return torch.stack(found).to(torch.int32).numpy()

    def _doubts(
        self, rows: Rows, phase: int, known: Known, step: int, counts: np.ndarray
    ) -> Iterator[tuple[slice, Doubts | None]]:
        """Some entries after others, and of them those whose scores have to be exact; at last None where weights are broken."""
        part = kernels().PART
        room = Doubts.room(max(ROOM, rows.tasks * part), rows.tasks * -(-rows.size // part))
        start, top = 0, 0
        while start < rows.size and finite(top):
            stop, found, top = kernels().find(rows.addresses, start, rows.size, phase, known, step, counts, room)
            runs = rows.tasks * -(-(stop - start) // part)
            yield slice(start, stop), room.first(found, runs) if finite(top) else None
            start = stop

    def _known(self, totals: Totals) -> Known:
        return self._once(totals, self._know)

    def _know(self, totals: Totals) -> Known:
        method, first = self.method, self.method._range_rounds(torch.float32)
        low, high = method._range(totals, torch.float32)
        counted = [total["scores"] for total in totals[first:]]
        found = (
            histogram.prefixes(counted, method._cut_ranks(totals)) if counted else [torch.zeros(len(low)).long()] * 2
        )
        cut, top = (histogram.value(prefix, torch.float32, signed=True) for prefix in found)
        weightless = ~method.varied(totals, torch.float32)
        ends = (t.masked_fill(weightless, torch.inf).numpy() for t in (cut, top))
        return Known(low.numpy(), high.numpy(), torch.stack(found).to(torch.int32).numpy(), *ends)

    def _once(self, totals: Totals, find: Callable[[Totals], Any]) -> Any:
        """What the totals say: found once, not for every piece."""
        if self._found.get("totals") is not totals:
            self._found.update(totals=totals, value=find(totals))
        return self._found["value"]
