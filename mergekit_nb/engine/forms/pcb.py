"""PCB-Merging, compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.engine.forms.form import Fast, Finished, Rows, counted, finite, kernels, numbers
from mergekit_nb.maths import histogram
from mergekit_nb.maths.compete import LARGEST_EXPONENT
from mergekit_nb.methods import Pcb
from mergekit_nb.methods.base import Totals

SOME = 1 << 14  # entries whose scores are looked at together
MERGE = 2  # what kernels.compete.doubts calls the last round


class Known(NamedTuple):
    """What PCB's earlier rounds have found, by task."""

    low: np.ndarray
    high: np.ndarray
    prefixes: np.ndarray
    cut: np.ndarray
    top: np.ndarray


@dataclass(frozen=True)
class FastPcb(Fast):
    """PCB-Merging as its authors' first variant and their language code have it; exp and tanh are torch's own."""

    _found: dict = field(default_factory=dict, compare=False, repr=False)
    suits = Pcb

    def ready(self):
        return self.method.variant in ("A", "B")

    def measure(self, site, base, experts, totals):
        rows, first = Rows(base, experts), self.method._range_rounds(torch.float32)
        if rows.tasks > LARGEST_EXPONENT:
            return None
        if len(totals) < first:
            counts = self._ranges(rows, totals)
            return None if counts is None else {"size": torch.tensor(site.size), "range": counts}
        known, done = self._known(totals), len(totals) - first
        counts = torch.zeros(2, rows.tasks, 1 << histogram.DIGIT, dtype=torch.int64)
        for _, size, scores, places in self._exact(rows, done, known, counts[0]):
            if scores is None:
                return None
            kernels().count_exact(scores, places, size, known.prefixes, done, counts.numpy())
        if done == 0:
            counts[1] = counts[0]
        return {"scores": counts}

    def finish(self, site, base, experts, totals):
        rows = Rows(base, experts)
        if rows.tasks > LARGEST_EXPONENT:
            return None
        known, scale = self._known(totals), self.method.scale
        scales = numbers(scale if isinstance(scale, tuple) else (scale,) * rows.tasks, rows.tasks)
        vector, weights = torch.empty(rows.size), np.empty((rows.tasks, min(SOME, rows.size)), np.float32)
        for start, size, scores, places in self._exact(rows, MERGE, known, torch.empty(0, 0, dtype=torch.int64)):
            if scores is None:
                return None
            ends = (rows.addresses, start, size, known.low, known.high)
            kernels().fuse(*ends, scores, places, known.cut, known.top, scales, weights, vector.numpy())
        return Finished(vector)

    def _ranges(self, rows: Rows, totals: Totals) -> Tensor | None:
        """Counts towards the magnitudes that task vectors are clipped to: `2 task 65536`."""
        found = self._once(totals, self._range_prefixes) if totals else [None]
        counts = [counted(rows, prefix) for prefix in found]
        return None if any(c is None for c in counts) else torch.stack(counts if totals else counts * 2)

    def _range_prefixes(self, totals: Totals) -> list[Tensor]:
        return histogram.prefixes([total["range"] for total in totals], self.method._clip_ranks(totals))

    def _exact(self, rows: Rows, phase: int, known: Known, counts: Tensor) -> Iterator[tuple]:
        """Start and size of some entries, the scores that matter, exactly, and whose they are; no scores of broken ones."""
        room = rows.tasks * min(SOME, rows.size)
        places = np.empty(room, np.int32)
        exponents, products = torch.empty(room), torch.empty(room)
        for start in range(0, rows.size, SOME):
            size = min(SOME, rows.size - start)
            found, top = kernels().doubts(
                rows.addresses, start, size, known.low, known.high, phase, known.prefixes, known.cut,
                counts.numpy(), places, exponents.numpy(), products.numpy(),
            )  # fmt: skip
            scores = torch.exp(exponents[:found]).mul_(torch.tanh(products[:found])).numpy()
            yield start, size, scores if finite(top) else None, places[:found]

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
        return Known(low.numpy(), high.numpy(), torch.stack(found).numpy(), *ends)

    def _once(self, totals: Totals, find: Callable[[Totals], Any]) -> Any:
        """What the totals say: found once, not for every piece."""
        if self._found.get("totals") is not totals:
            self._found.update(totals=totals, value=find(totals))
        return self._found["value"]
