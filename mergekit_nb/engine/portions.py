"""The portions of a result: the unit of work of a merge into a folder. A worker reads, merges and writes one by itself."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mergekit_nb.engine import pieces
from mergekit_nb.engine.job import Job
from mergekit_nb.engine.pieces import Gathered, Piece, fold
from mergekit_nb.engine.provenance import Hashes
from mergekit_nb.engine.workers import by_threads
from mergekit_nb.methods.base import Totals
from mergekit_nb.progress import Cancelled, Tick
from mergekit_nb.weights.disk import LEFT, MASK, OWN, RIGHT, patch_stem
from mergekit_nb.weights.hashing import HASHED, Digest
from mergekit_nb.weights.rooms import ROOMS
from mergekit_nb.weights.shards import Shard, file_name, save, slot_of, write_text
from mergekit_nb.weights.source import Source, entries, shape_of
from mergekit_nb.weights.source import open as open_source
from mergekit_nb.weights.view import Under

STEP = 16 * HASHED  # entries copied at once


@dataclass(frozen=True)
class Portions:
    """What workers do with a job, in a folder that they all see: measure a portion, or write it.

    Attributes:
        desk: that folder. What a portion was measured to be, its hashes and its files lie there once it is done.
        threads: how many work at one portion.
    """

    job: Job
    desk: Path
    threads: int

    @property
    def stop(self) -> Path:
        """What tells all workers to stop, once it is there."""
        return self.desk / "stop"

    def measured(self, place: int, done: int) -> Path:
        """Where the numbers of a portion lie, of the round after `done` others."""
        return self.desk / f"round-{done}" / f"{place:05d}.safetensors"

    def hashes(self, place: int) -> Path:
        """Where the hashes of what was read for a portion lie."""
        return self.desk / "hashes" / f"{place:05d}.json"

    def written(self, place: int) -> Path:
        """What is there once all files of a portion are."""
        return self.desk / "written" / f"{place:05d}"

    def total(self, done: int) -> Path:
        """Where the sums of a round lie."""
        return self.desk / f"total-{done}.safetensors"

    def totals(self, done: int) -> Totals:
        """The sums of the first rounds."""
        return tuple(load_file(self.total(earlier)) for earlier in range(done))

    def measure(self, place: int, done: int, tick: Tick | None = None) -> None:
        """One portion in the measuring round after `done` others."""
        hashes, digest = Hashes(self.job.work.taus), None if done else self.job.digest
        work = partial(self.job.work.gather, totals=self.totals(done), hashed=digest)
        parts = self._each(place, work, hashes, tick)
        if done == 0:
            write_text(self.hashes(place), json.dumps(hashes.digests(self.job.digest)))
        save(self.measured(place, done), parts)

    def write(self, place: int, tick: Tick | None = None) -> None:
        """The files of one portion."""
        work, hashes = self.job.work, Hashes(self.job.work.taus)
        first = work.rounds == 0
        scratch = self.desk / "factors" / uuid.uuid4().hex
        with ExitStack() as files:
            shards = self._shards(files, place)
            self._copy(place, shards, tick or _ignore)
            digest = self.job.digest if first else None
            write = partial(self._write_run, shards, scratch, self.totals(work.rounds), digest)
            late = self._each(place, write, hashes, tick)
            if self.job.kind == "factors":
                self._write_factors(files, place, scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        if first:
            write_text(self.hashes(place), json.dumps(hashes.digests(self.job.digest)))
        if work.method.late:
            save(self.measured(place, work.rounds), late)
        write_text(self.written(place), "")

    def _each(
        self, place: int, work: Callable[[list[Piece]], Gathered], hashes: Hashes, tick: Tick | None
    ) -> dict[str, Tensor]:
        """`work` of every run of pieces of the portion; their parts, added up."""
        parts: dict[str, Tensor] = {}
        runs = list(self.job.work.runs(self.job.merged(place)))
        with ROOMS.lent(), closing(by_threads(work, runs, self.threads)) as results:
            for run, made in zip(runs, results, strict=True):
                fold(parts, made.parts)
                for piece, found in zip(run, made.hashes, strict=True):
                    hashes.add(piece.name, found)
                    self._go_on(piece, tick)
                (tick or _ignore)(made.written)
        return parts

    def _write_run(
        self, shards: dict[str, Shard], scratch: Path, totals: Totals, hashed: Digest | None, run: list[Piece]
    ) -> Gathered:
        """Merge pieces and write them, in one thread: the memory of one is used again for the next. Masks are written run by run."""
        parts, hashes, written, masks = {}, [], 0, {}
        for piece in run:
            made = self.job.work.merge(piece, totals, hashed, adding=self.job.kind == "model")
            if made.factors:
                save(scratch / f"{uuid.uuid4().hex}.safetensors", _named(piece.name, made.factors))
            for stem, key, begin, flat in self._parts(piece, made):
                shards[stem].put(key, flat, begin)
                written += flat.numel() * flat.element_size()
            for task, mask in zip(self.job.work.taus.tasks, made.masks or (), strict=False):
                masks.setdefault((task, piece.name), (piece.start // 8, []))[1].append(mask.numpy().copy())
                written += mask.numel()
            fold(parts, made.parts)
            hashes.append(made.hashes)
        for (task, name), (begin, some) in masks.items():
            shards[patch_stem(task)].put(MASK + name, torch.from_numpy(np.concatenate(some)), begin)
        return Gathered(parts, hashes, written)

    def _go_on(self, piece: Piece, tick: Tick | None) -> None:
        """Count a piece that was read; raise Cancelled where nobody counts and all is to stop."""
        if tick is None and self.stop.exists():
            raise Cancelled("another portion failed, or all was cancelled")
        (tick or _ignore)(self.job.work.nbytes(piece))

    def _shards(self, files: ExitStack, place: int) -> dict[str, Shard]:
        """The portion's files, by stem; a stem without tensors has none but the first."""
        new, count = self.desk / "new", len(self.job.runs)
        return {
            stem: files.enter_context(Shard(new / file_name(stem, place, count), slots))
            for stem, slots in self.job.slots(place).items()
            if slots or place == 0
        }

    def _copy(self, place: int, shards: dict[str, Shard], tick: Tick) -> None:
        """What is not merged: the base's own tensors, and in patches the experts'."""
        job, merged = self.job, set(self.job.merged(place))
        for name in job.runs[place]:
            if name not in merged:
                _stream(job.whole, name, shards[job.shared], name, tick)
        if job.kind in ("masks", "own"):
            for task, expert in job.work.taus.experts.items():
                for name in job.own(place, expert):
                    _stream(expert, name, shards[patch_stem(task)], OWN + name, tick)

    def _parts(self, piece: Piece, made: pieces.Merged) -> list[tuple[str, str, int, Tensor]]:
        """Stem, name, place and entries of all that a piece was merged into, but masks."""
        name, start = piece.name, piece.start
        parts = [(self.job.shared, name, start, made.vector if self.job.kind == "model" else made.base)]
        if self.job.kind in ("masks", "own"):
            parts.append(("vector", name, start, made.vector))
        return parts

    def _write_factors(self, files: ExitStack, place: int, scratch: Path) -> None:
        """Every task's factors, from where they were put; a tensor without any is the task's own."""
        job, taus = self.job, self.job.work.taus
        made = open_source(scratch) if scratch.exists() else {}
        for t, task in enumerate(taus.tasks):
            factors = Under(made, f"{t}/") if made else {}
            alone = [n for n in job.merged(place) if LEFT + n not in factors]
            expert = taus.experts[task]
            tensors = dict(factors) | {OWN + n: job.as_own(expert, n) for n in (*job.own(place, expert), *alone)}
            if tensors or place == 0:
                file = self.desk / "new" / file_name(patch_stem(task), place, len(job.runs))
                shard = files.enter_context(Shard(file, [slot_of(tensors, name) for name in tensors]))
                for name, tensor in tensors.items():
                    shard.put(name, tensor)


def _stream(source: Source, name: str, shard: Shard, key: str, tick: Tick) -> None:
    size = 1
    for side in shape_of(source, name):
        size *= side
    for start in range(0, size, STEP):
        flat = entries(source, name, start, min(start + STEP, size))
        shard.put(key, flat, start)
        tick(flat.numel() * flat.element_size())


def _named(name: str, factors: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    sides = ((LEFT, 0), (RIGHT, 1))
    return {f"{t}/{side}{name}": pair[i] for t, pair in enumerate(factors) for side, i in sides}


def _ignore(n: int = 1, before: bool = False) -> None:
    """Nobody counts."""
