"""Which methods have compiled forms, and when one is taken. Where none is, the readable one does the work: the bits are the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.maths import histogram
from mergekit_nb.maths.compete import LARGEST_EXPONENT
from mergekit_nb.methods import Average, Emr, Pcb, TaskArithmetic, Ties
from mergekit_nb.methods.base import Method, Totals
from mergekit_nb.weights.site import Site

WORTH = 4_000_000  # entries of a model from which on compiled loops are worth the second they take to load
SOME = 1 << 14  # entries whose scores are looked at together
MERGE = 2  # what kernels.compete.doubts calls the last round


class Finished(NamedTuple):
    """What a piece was merged into.

    Attributes:
        vector: the merged vector; None where each task has its own.
        masks: per task, eight entries a byte; or None.
        factors: per task `out rank` and `rank in`, where there is no shared vector.
        parts: what measuring it gave, where the method measures late (`Method.late`).
    """

    vector: Tensor | None
    masks: list[Tensor] | None = None
    factors: list[tuple[Tensor, Tensor]] | None = None
    parts: Mapping[str, Tensor] = {}


@cache
def kernels() -> ModuleType | None:
    """The compiled loops; None where numba is not installed, or finds no folder for what it compiles."""
    try:
        from mergekit_nb.kernels import add, compete, elect, trim
    except (ImportError, RuntimeError):
        return None
    bundle = ModuleType("kernels")
    bundle.__dict__.update(add=add.add, emr=elect.emr, count=trim.count, majority=trim.majority, ties=trim.ties)
    bundle.__dict__.update(doubts=compete.doubts, count_exact=compete.count_exact, fuse=compete.fuse)
    return bundle


@dataclass(frozen=True)
class Fast(ABC):
    """A method's compiled form, on pieces of tensors as they are stored. None instead of a result: ask the method itself."""

    method: Method
    suits: ClassVar[type[Method]]

    def ready(self) -> bool:
        """Whether these hyper-parameters are compiled."""
        return True

    def measure(self, site: Site, base: Tensor, experts: list[Tensor], totals: Totals) -> dict[str, Tensor] | None:
        """As `Method.measure`, of flat tensors in any floating dtype."""
        return None

    @abstractmethod
    def finish(self, site: Site, base: Tensor, experts: list[Tensor], totals: Totals) -> Finished | None:
        """As `Method.merge`, in float32, flat; and with it the late round."""


def choose(method: Method, size: int, device: torch.device, dtype: torch.dtype) -> Fast | None:
    """The compiled form to use for a model of `size` entries, if there is one.

    Only float32 on the CPU is compiled; small models are merged sooner than compiled code is loaded.
    """
    if device.type != "cpu" or dtype != torch.float32 or size < WORTH or kernels() is None:
        return None
    fast = next((form(method) for form in FORMS if type(method) is form.suits), None)
    return fast if fast is not None and fast.ready() else None


class _Rows:
    """Flat float32 tensors and where they lie; they are kept alive while they are looked at."""

    def __init__(self, base: Tensor, experts: list[Tensor]):
        self.tensors = [t.detach().to(torch.float32).contiguous() for t in (base, *experts)]
        self.addresses = np.array([t.data_ptr() for t in self.tensors], np.int64)
        self.size, self.tasks = base.numel(), len(experts)


def _finite(top: int) -> bool:
    return top < torch.tensor(torch.inf).view(torch.int32).item()


def _counted(rows: _Rows, prefix: Tensor | None) -> Tensor | None:
    """`histogram.count` of magnitudes, in its first round or, with the prefixes found, in its second."""
    counts = torch.zeros(rows.tasks, 1 << histogram.DIGIT, dtype=torch.int64)
    first = np.empty(0, np.int32) if prefix is None else prefix.to(torch.int32).numpy()
    top = kernels().count(rows.addresses, rows.size, first, counts.numpy())
    return counts if _finite(top) else None


def _numbers(values: tuple[float, ...] | Tensor | None, tasks: int) -> np.ndarray:
    return np.ones(tasks, np.float32) if values is None else np.asarray(values, np.float32)


class FastSum(Fast):
    """Task arithmetic."""

    suits = TaskArithmetic

    def finish(self, site, base, experts, totals):
        return self._added(_Rows(base, experts), self.method.weights, self.method.scale, 1)

    def _added(self, rows: _Rows, weights, scale: float, divisor: int) -> Finished | None:
        vector = torch.empty(rows.size)
        weights = _numbers(weights, rows.tasks)
        scale, divisor = np.float32(scale), np.float32(divisor)
        top = kernels().add(rows.addresses, rows.size, weights, scale, divisor, vector.numpy())
        return Finished(vector) if _finite(top) else None


class FastAverage(FastSum):
    """Averaging."""

    suits = Average

    def finish(self, site, base, experts, totals):
        return self._added(_Rows(base, experts), None, 1, len(experts))


class FastEmr(Fast):
    """EMR-Merging: what it measures and what it merges come from one walk."""

    suits = Emr

    def finish(self, site, base, experts, totals):
        rows = _Rows(base, experts)
        vector = torch.empty(rows.size)
        packed = torch.empty(rows.tasks, -(-rows.size // 8), dtype=torch.uint8)
        sums = torch.zeros(2, rows.tasks, 256, dtype=torch.int64)
        tie = np.float32({"negative": -1, "zero": 0, "positive": 1}[self.method.tie])
        top = kernels().emr(rows.addresses, rows.size, tie, vector.numpy(), packed.numpy(), *sums.numpy())
        return Finished(vector, list(packed), None, {site.name: sums[..., None]}) if _finite(top) else None

    def measure(self, site, base, experts, totals):
        done = self.finish(site, base, experts, totals)
        return done and done.parts


@dataclass(frozen=True)
class FastTies(Fast):
    """TIES-Merging with the authors' trim and election, and mergekit's and PEFT's per tensor."""

    _found: dict = field(default_factory=dict, compare=False, repr=False)
    suits = Ties

    def ready(self):
        method = self.method
        known = method.elect == "mass" and method.merge_as in ("dis-mean", "dis-sum")
        return known and (method.scope in ("model", "tensor") or method.density == 1)

    def measure(self, site, base, experts, totals):
        method, rows, done = self.method, _Rows(base, experts), len(totals)
        if done == method._trim_rounds(torch.float32):
            voting = _numbers(self._voting(), rows.tasks)
            top, signs = kernels().majority(rows.addresses, rows.size, *self._kept(rows, totals), voting)
            return {"signs": torch.tensor(signs)} if _finite(top) else None
        counts = _counted(rows, self._prefix(totals, done))
        return None if counts is None else {"counts": counts, "size": torch.tensor(site.size)}

    def finish(self, site, base, experts, totals):
        method, rows = self.method, _Rows(base, experts)
        kept = self._kept(rows, totals)
        if kept is None:
            return None
        vector, ones = torch.empty(rows.size), torch.zeros(1)
        fill = np.float32(method._zeros_settled(ones, totals).item())
        shares = method._share(torch.empty(rows.tasks)).numpy() if method.merge_as == "dis-mean" else _numbers((), 0)
        voting, weights = _numbers(self._voting(), rows.tasks), _numbers(method.weights, rows.tasks)
        numbers = (voting, weights, shares, fill, np.float32(method.scale), vector.numpy())
        top = kernels().ties(rows.addresses, rows.size, *kept, *numbers)
        return Finished(vector) if _finite(top) else None

    def _voting(self) -> tuple[float, ...] | None:
        return self.method.weights if self.method.divide_by == "weights" else None

    def _kept(self, rows: _Rows, totals: Totals) -> tuple[np.ndarray, np.ndarray] | None:
        """Every task's threshold, and how many entries equal to it stay: as a rule all."""
        every = np.full(rows.tasks, rows.size)
        if self.method.density == 1:
            return np.zeros(rows.tasks, np.float32), every
        if self.method.scope == "tensor":
            return self._kept_of_tensor(rows)
        prefix = self._prefix(totals, self.method._trim_rounds(torch.float32))
        return histogram.value(prefix, torch.float32).numpy(), every

    def _prefix(self, totals: Totals, done: int) -> Tensor | None:
        """The digits found in `done` rounds: looked for once, not for every piece."""
        if self._found.get("totals") is not totals:
            self._found.update(totals=totals, prefix=self.method._prefix(totals, done)[0])
        return self._found["prefix"]

    def _kept_of_tensor(self, rows: _Rows) -> tuple[np.ndarray, np.ndarray] | None:
        """Exactly int(n * density) stay: those above the threshold, and the first of those equal to it."""
        keep = int(rows.size * self.method.density)
        if keep == 0:
            return np.full(rows.tasks, np.inf, np.float32), np.zeros(rows.tasks, np.int64)
        rank = torch.full((rows.tasks,), rows.size - keep + 1)
        prefix = None
        for _ in range(histogram.rounds(torch.float32)):
            counts = _counted(rows, prefix)
            if counts is None:
                return None
            prefix, rank = histogram.descend(counts, rank, prefix)
        same = counts.gather(1, (prefix & (1 << histogram.DIGIT) - 1)[:, None]).squeeze(1)
        return histogram.value(prefix, torch.float32).numpy(), (same - rank + 1).numpy()


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
        rows, first = _Rows(base, experts), self.method._range_rounds(torch.float32)
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
        rows = _Rows(base, experts)
        if rows.tasks > LARGEST_EXPONENT:
            return None
        known, scale = self._known(totals), self.method.scale
        scales = _numbers(scale if isinstance(scale, tuple) else (scale,) * rows.tasks, rows.tasks)
        vector, weights = torch.empty(rows.size), np.empty((rows.tasks, min(SOME, rows.size)), np.float32)
        for start, size, scores, places in self._exact(rows, MERGE, known, torch.empty(0, 0, dtype=torch.int64)):
            if scores is None:
                return None
            ends = (rows.addresses, start, size, known.low, known.high)
            kernels().fuse(*ends, scores, places, known.cut, known.top, scales, weights, vector.numpy())
        return Finished(vector)

    def _ranges(self, rows: _Rows, totals: Totals) -> Tensor | None:
        """Counts towards the magnitudes that task vectors are clipped to: `2 task 65536`."""
        found = self._once(totals, self._range_prefixes) if totals else [None]
        counts = [_counted(rows, prefix) for prefix in found]
        return None if any(c is None for c in counts) else torch.stack(counts if totals else counts * 2)

    def _range_prefixes(self, totals: Totals) -> list[Tensor]:
        return histogram.prefixes([total["range"] for total in totals], self.method._clip_ranks(totals))

    def _exact(self, rows: _Rows, phase: int, known: Known, counts: Tensor) -> Iterator[tuple]:
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
            yield start, size, scores if _finite(top) else None, places[:found]

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


FORMS: list[type[Fast]] = [FastSum, FastAverage, FastEmr, FastTies, FastPcb]
