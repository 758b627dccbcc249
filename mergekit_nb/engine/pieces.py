"""The smallest piece of work: some entries of one tensor, read from every model, then measured or merged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.engine.fast import choose
from mergekit_nb.engine.feed import lane
from mergekit_nb.engine.forms.form import Fast, Finished, fold
from mergekit_nb.engine.read import Reader
from mergekit_nb.engine.stored import stored
from mergekit_nb.engine.workers import threads
from mergekit_nb.methods.base import Method, Totals, size_of
from mergekit_nb.weights.hashing import HASHED, Digest, digest, parts_of
from mergekit_nb.weights.modulators import pack
from mergekit_nb.weights.rooms import ROOMS
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.source import dtype_of, shape_of
from mergekit_nb.weights.task_vectors import TaskVectors

RUN = 1 << 21  # entries whose counts are added up where they lie: clearing and adding 65 536 counts a task takes time
WORTH = 1 << 22  # entries of a model from which on threads are worth their start


class Piece(NamedTuple):
    """Entries start..stop of one tensor, row-major; `start` is a multiple of 65 536."""

    name: str
    start: int
    stop: int


class Measured(NamedTuple):
    """What measuring one piece gave.

    Attributes:
        parts: numbers that add up over pieces.
        hashes: of the base's piece and of every expert's, where they were asked for.
    """

    parts: dict[str, Tensor]
    hashes: list[bytes]


class Gathered(NamedTuple):
    """What measuring or writing several pieces gave: numbers that add up; as `Measured.hashes`, piece by piece; bytes written."""

    parts: dict[str, Tensor]
    hashes: list[list[bytes]]
    written: int = 0


class Merged(NamedTuple):
    """What merging one piece gave, flat and on the CPU; its tensors are its thread's until it merges the next: see `kept`.

    Attributes:
        base: the base's entries, as stored.
        vector: the merged task vector: in the base's dtype where there are masks, else in the compute dtype; or base and
            vector together, in the base's dtype; None where each task has its own.
        masks: per task, eight entries a byte; or None.
        factors: per task `out rank` and `rank in`, where there is no shared vector.
        hashes: as `Measured.hashes`.
        parts: as `Measured.parts`, of a last round that `merge` does not wait for (`Method.late`).
    """

    base: Tensor
    vector: Tensor | None
    masks: list[Tensor] | None
    factors: list[tuple[Tensor, Tensor]] | None
    hashes: list[bytes]
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class Work:
    """A method, the models it merges, and where it computes: all that a worker has to know. Picklable.

    Attributes:
        most: entries of one piece, a multiple of 65 536; methods that need whole tensors get them whole.
    """

    method: Method
    taus: TaskVectors
    device: torch.device
    dtype: torch.dtype
    most: int

    @property
    def rounds(self) -> int:
        """How many rounds of measuring come before the merge."""
        return self.method.rounds(self.dtype) - self.method.late

    @cached_property
    def fast(self) -> Fast | None:
        """The method's compiled form, where there is one for this model and device."""
        return None if self.taus.adapted else choose(self.method, size_of(self.taus), self.device, self.dtype)

    @cached_property
    def reader(self) -> Reader:
        """What reads its models."""
        sources = (self.taus.base, *self.taus.experts.values())
        return Reader(sources, self.device.type == "cuda", self.fast is not None and self.device.type == "cpu")

    @cached_property
    def _known(self) -> dict[str, tuple[Site, int]]:
        return {}

    def _tensor(self, name: str) -> tuple[Site, int]:
        """Where a tensor lives, and how many bytes one entry of it takes in all models: found once, not for every piece."""
        if name not in self._known:
            sources = (self.taus.base, *self.taus.experts.values())
            self._known[name] = self.taus.site(name), sum(dtype_of(source, name).itemsize for source in sources)
        return self._known[name]

    def __getstate__(self) -> dict:
        own = ("fast", "reader", "told", "_known")  # every worker finds its own
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def pieces(self, names: Iterable[str]) -> Iterator[Piece]:
        """All pieces of these tensors, in order; an empty tensor is one piece."""
        for name in names:
            size = self.size(name)
            step = self.most if self.method.grain == "entry" and not self.taus.adapted else max(size, 1)
            yield from (Piece(name, i, min(i + step, size)) for i in range(0, max(size, 1), step))

    def runs(self, names: Iterable[str]) -> Iterator[list[Piece]]:
        """All pieces of these tensors, in order: those together that `gather` is best asked for at once."""
        run, room = [], RUN if self.fast is not None else 0
        for piece in self.pieces(names):
            if run and sum(p.stop - p.start for p in (*run, piece)) > room:
                yield run
                run = []
            run.append(piece)
        if run:
            yield run

    def size(self, name: str) -> int:
        """Number of entries of one tensor."""
        return self._tensor(name)[0].size

    def nbytes(self, piece: Piece) -> int:
        """How many bytes are read for a piece."""
        return (piece.stop - piece.start) * self._tensor(piece.name)[1]

    @torch.no_grad()
    def measure(self, piece: Piece, totals: Totals, hashed: Digest | None = None) -> Measured:
        """One piece in one measuring round; also runs in worker threads and processes, so it sets its own grad mode."""
        with lane(self.device):
            return fitting(self, Work._measure, piece, totals, hashed)

    @torch.no_grad()
    def gather(self, run: list[Piece], totals: Totals, hashed: Digest | None = None) -> Gathered:
        """Several pieces in one measuring round, added up in place where the compiled form can."""
        parts, found = {}, []
        for piece in run:
            if self.fast is None or self.device.type != "cpu":  # whose memory may be too small: see `fitting`
                made = self.measure(piece, totals, hashed)
                fold(parts, made.parts)
                found.append(made.hashes)
                continue
            base, experts = self._read(piece)
            if not self.fast.add(self._site(piece), base, experts, totals, parts):
                fold(parts, self.method.measure(self._site(piece), self._stack(piece, base, experts), totals))
            found.append(_hashes(base, experts, hashed))
        return Gathered(parts, found)

    @torch.no_grad()
    def merge(self, piece: Piece, totals: Totals, hashed: Digest | None = None, adding: bool = False) -> Merged:
        """One piece in the last round; `adding`: base and vector together."""
        with lane(self.device):
            return fitting(self, Work._merge, piece, totals, hashed, adding)

    def _measure(self, piece: Piece, totals: Totals, hashed: Digest | None) -> Measured:
        base, experts = self._read(piece)
        site = self._site(piece)
        parts = self.fast and self.fast.measure(site, base, experts, totals)
        if parts is None:
            parts = self.method.measure(site, self._stack(piece, base, experts), totals)
        return Measured(dict(parts), _hashes(base, experts, hashed))

    def _merge(self, piece: Piece, totals: Totals, hashed: Digest | None, adding: bool = False) -> Merged:
        base, experts = self._read(piece)
        done = self.fast and self.fast.finish(self._site(piece), base, experts, totals)
        vector, masks, factors, parts = done or self._readable(piece, base, experts, totals)
        if vector is not None:
            dtype = base.dtype if adding or masks is not None else self.dtype
            vector = stored(self.method, piece.name, base, vector.flatten(), dtype, adding, self.fast is not None)
        return Merged(base.cpu(), vector, masks, factors, _hashes(base, experts, hashed), dict(parts))

    def _readable(self, piece: Piece, base: Tensor, experts: list[Tensor], totals: Totals) -> Finished:
        site, stack = self._site(piece), self._stack(piece, base, experts)
        made = self.method.merge(site, stack, totals)
        parts = self.method.measure(site, stack, totals) if self.method.late else {}
        if isinstance(made, Tensor):
            return Finished(made, None, None, parts)
        if isinstance(made, list):
            factors = [tuple(factor.to(base.dtype).cpu() for factor in pair) for pair in made]
            return Finished(None, None, factors, parts)
        vector, masks = made
        return Finished(vector, [pack(mask).cpu() for mask in masks], None, parts)

    def _read(self, piece: Piece) -> tuple[Tensor, list[Tensor]]:
        """As `TaskVectors.read`; of files only until this thread reads again."""
        base, *experts = self.reader.read(*piece)
        return base, experts

    def _whole(self, piece: Piece) -> bool:
        return piece.start == 0 and piece.stop == self.size(piece.name)

    def _site(self, piece: Piece) -> Site:
        site, _ = self._tensor(piece.name)
        return site if self._whole(piece) else site.piece(piece.start, piece.stop)

    def _stack(self, piece: Piece, base: Tensor, experts: list[Tensor]) -> Tensor:
        if self.taus.adapted:
            return self.taus.at(piece.name, self.device, self.dtype)
        stack = self.taus.differences(piece.name, base, experts, self.device, self.dtype)
        return stack.reshape(len(experts), *shape_of(self.taus.base, piece.name)) if self._whole(piece) else stack


def _hashes(base: Tensor, experts: list[Tensor], kind: Digest | None) -> list[bytes]:
    if kind is None:
        return []
    parts = ROOMS.once("hashed", [base, *experts], _parts)
    return [b"".join(digest(kind, part) for part in flat) for flat in parts]


def _parts(flats: list[Tensor]) -> list[list[np.ndarray]]:
    return [parts_of(flat) for flat in flats]


def fitting(work: Work, do: Callable, piece: Piece, *rest) -> Measured | Merged:
    """`do` of a piece. Where the device's memory is too small, of its halves; where even for the smallest, on the CPU."""
    try:
        return do(work, piece, *rest)
    except torch.OutOfMemoryError:
        if work.device.type == "cpu":
            raise
    if work.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = piece.start + (piece.stop - piece.start) // 2 // HASHED * HASHED
    if work.method.grain == "entry" and middle > piece.start:
        halves = (piece._replace(stop=middle), piece._replace(start=middle))
        return joined(*(kept(fitting(work, do, half, *rest)) for half in halves))
    if work.__dict__.setdefault("told", piece) is piece:  # once a merge is enough
        warnings.warn(
            f"{work.device} has too little free memory for {piece.name}: merged on the CPU instead", stacklevel=2
        )
    return do(replace(work, device=torch.device("cpu")), piece, *rest)


def kept(made: Measured | Merged) -> Measured | Merged:
    """What a piece gave, in memory of its own."""
    if isinstance(made, Measured):
        return made
    vector = None if made.vector is None else made.vector.clone()
    masks = None if made.masks is None else [mask.clone() for mask in made.masks]
    return made._replace(base=made.base.clone(), vector=vector, masks=masks)


def joined(one: Measured | Merged, other: Measured | Merged) -> Measured | Merged:
    """What two pieces that follow each other gave, as if they were one."""
    parts: dict[str, Tensor] = {}
    fold(parts, one.parts)
    fold(parts, other.parts)
    hashed = [first + second for first, second in zip(one.hashes, other.hashes, strict=True)]
    if isinstance(one, Measured):
        return Measured(parts, hashed)
    masks = None if one.masks is None else list(map(torch.cat, zip(one.masks, other.masks, strict=True)))
    base, vector = torch.cat([one.base, other.base]), torch.cat([one.vector, other.vector])
    return Merged(base, vector, masks, None, hashed, parts)


def busy(work: Work) -> int:
    """How many threads of this process a merge uses: pieces run side by side, whole tensors use torch's unless compiled.

    A GPU is fed by two: one reads into its pinned memory while the other's piece is computed.
    """
    if size_of(work.taus) < WORTH or (work.method.grain == "tensor" and work.fast is None):
        return 1
    return {"cpu": threads(), "cuda": 2}.get(work.device.type, 1)


def most_entries(bytes_at_hand: int, bytes_an_entry: int) -> int:
    """How many entries a piece may have: a multiple of 65 536, at least that."""
    return max(bytes_at_hand // bytes_an_entry // HASHED, 1) * HASHED
