"""A merge into files: which tensors go into which file, and what all of it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal

import torch
from torch import Tensor

from mergekit_nb.engine import budget
from mergekit_nb.engine.pieces import Work, busy
from mergekit_nb.engine.plan import Plan, fitting, read_once, written
from mergekit_nb.weights.disk import MASK, OWN, patch_stem, runs_of
from mergekit_nb.weights.hashing import Digest
from mergekit_nb.weights.match import Match
from mergekit_nb.weights.shards import Slot, slot_of
from mergekit_nb.weights.source import Source, dtype_of, shape_of
from mergekit_nb.weights.task_vectors import TaskVectors
from mergekit_nb.weights.view import Over

Kind = Literal["model", "masks", "own", "factors"]


@dataclass(frozen=True)
class Job:
    """A merge into files.

    Attributes:
        work: what is done to every piece.
        found: which tensors are merged, and what becomes of the others.
        whole: the base, with the means of what is not merged.
        runs: names of the tensors of every portion.
        kind: what is written: one "model"; or base, shared vector and for every task "masks", its "own" tensors, or
            "factors".
        plan: what it takes.
        digest: how the inputs are hashed, if they are.
    """

    work: Work
    found: Match
    whole: Source
    runs: list[list[str]]
    kind: Kind
    plan: Plan
    digest: Digest | None

    @classmethod
    def of(
        cls,
        work: Work,
        found: Match,
        memory: str | int | None,
        shard_size: str | int,
        handed_in: bool,
        digest: Digest | None,
    ) -> Job:
        """The job, cut to fit the memory.

        Args:
            handed_in: whether an executor does it, whose workers have one thread each.

        Raises:
            ValueError: the memory is too little, or no number of bytes.
        """
        most, threads, holds = fitting(work, memory, 1 if handed_in else busy(work))
        whole, kind = with_means(work.taus, found), kind_of(work, found)
        runs = runs_of(whole, found.aliases, budget.parse(shard_size, "shard_size"))
        rounds = work.rounds + 1
        writes = written(work, found, kind != "model", kind == "masks")
        reads = rounds * read_once(work)
        plan = Plan(
            work.method.label, rounds, reads, writes, holds, len(runs), threads, most, work.method.grain != "entry"
        )
        return cls(replace(work, most=most), found, whole, runs, kind, plan, digest)

    @property
    def shared(self) -> str:
        """The stem of the files that hold the base, or the whole model."""
        return "model" if self.kind == "model" else "base"

    @cached_property
    def _merged(self) -> frozenset[str]:
        return frozenset(self.work.taus.names)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, run in enumerate(self.runs) for name in run}

    def merged(self, place: int) -> list[str]:
        """The tensors of a portion that are merged."""
        return [name for name in self.runs[place] if name in self._merged]

    def own(self, place: int, expert: Source) -> list[str]:
        """The tensors that a task takes from its own expert and that lie in this portion: unknown to the base, in the last."""
        last = len(self.runs) - 1
        return [name for name in self.found.own if name in expert and self._place.get(name, last) == place]

    def as_own(self, expert: Source, name: str) -> Tensor:
        """An expert's tensor as it is kept beside factors: in the base's dtype, where the base has it."""
        return as_own(self.work.taus, expert, name)

    def slots(self, place: int) -> dict[str, list[Slot]]:
        """What is in the files of a portion, by stem; of factors, whose shapes are found on the way, only what is shared."""
        slots = {self.shared: [slot_of(self.whole, name) for name in self.runs[place]]}
        if self.kind == "model":
            return slots
        if self.kind == "factors":
            return {**slots, "vector": []}
        slots["vector"] = [self._vector(name) for name in self.merged(place)]
        for task, expert in self.work.taus.experts.items():
            own = [slot_of(expert, name)._replace(name=OWN + name) for name in self.own(place, expert)]
            slots[patch_stem(task)] = own + (self._masks(place) if self.kind == "masks" else [])
        return slots

    def _vector(self, name: str) -> Slot:
        stored = dtype_of(self.whole, name) if self.kind == "masks" else self.work.dtype
        return Slot(name, stored, shape_of(self.whole, name))

    def _masks(self, place: int) -> list[Slot]:
        sizes = {name: prod(shape_of(self.whole, name)) for name in self.merged(place)}
        return [Slot(MASK + name, torch.uint8, (-(-size // 8),)) for name, size in sizes.items()]


def kind_of(work: Work, found: Match) -> Kind:
    """What a merge leaves, before any is made."""
    if work.method.leaves == "low-rank patches":
        return "factors"
    if "masks" in work.method.leaves:
        return "masks"
    return "own" if found.own else "model"


def with_means(taus: TaskVectors, found: Match) -> Source:
    """The base, with the mean of the experts where that was asked for."""
    if not found.mean:
        return taus.base
    means = {}
    for name in found.mean:
        having = [expert[name] for expert in taus.experts.values() if name in expert]
        means[name] = torch.stack([t.to(torch.float64) for t in having]).mean(0).to(having[0].dtype)
    return Over(taus.base, means)


def as_own(taus: TaskVectors, expert: Source, name: str) -> Tensor:
    """An expert's tensor as it is kept beside factors: in the base's dtype, where the base has it; a copy."""
    kept: Mapping[str, Tensor] = taus.base if name in taus.base else expert
    return expert[name].detach().to(dtype_of(kept, name), copy=True)
