"""Merging: a method driven over a model, piece by piece; in memory here, into a folder in `write`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from mergekit_nb.device import pick
from mergekit_nb.engine import pieces
from mergekit_nb.engine.job import Job, as_own, with_means
from mergekit_nb.engine.pieces import Gathered, Piece, Work, busy, fold, kept
from mergekit_nb.engine.plan import Plan, largest_piece, read_once
from mergekit_nb.engine.provenance import Hashes, provenance
from mergekit_nb.engine.workers import by_executor, by_threads, checked
from mergekit_nb.engine.write import write
from mergekit_nb.methods import resolve
from mergekit_nb.methods.base import Method, Totals
from mergekit_nb.progress import CancelFlag, Progress, ticker
from mergekit_nb.weights.adapter import Adapter
from mergekit_nb.weights.hashing import Digest, digest_of
from mergekit_nb.weights.match import Match, Unmatched, match
from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.modulators import Bits, LowRank, Masked
from mergekit_nb.weights.rooms import ROOMS
from mergekit_nb.weights.shards import SHARD
from mergekit_nb.weights.source import Source, shape_of
from mergekit_nb.weights.source import open as open_source
from mergekit_nb.weights.task_vectors import TaskVectors
from mergekit_nb.weights.view import Lazy

Weights = str | Path | Source | nn.Module
Result = TypeVar("Result")


def merge(
    method: str | Method,
    base: Weights,
    experts: Mapping[str, Weights],
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    executor: Executor | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    unmatched: Unmatched = "error",
    out: str | Path | None = None,
    memory: str | int | None = None,
    shard_size: str | int = SHARD,
    resume: bool = True,
    hashes: bool | Literal["sha256"] = True,
    progress: Progress = False,
    cancel: CancelFlag | None = None,
    **options,
) -> Merged:
    """Merge experts that were fine-tuned from one base.

    Args:
        method: a name in `METHODS` with its hyper-parameters as `options`, or a method object (`Dare() | Ties()`).
        base: the weights all experts started from: path, mapping or module.
        experts: task name -> weights; their order is the order of the tasks.
        device: where to compute, piece by piece; the result is on the CPU.
        dtype: compute dtype, float32 or float64, whatever the weights are stored in.
        executor: any `concurrent.futures.Executor`; the bits do not depend on it. Its units of work are tensors, and with
            `out` portions of the result, which its workers write themselves: the folder is one they all see. A portion is
            at most `shard_size` large: more workers than portions have nothing to do. None: threads.
        include, exclude: patterns for tensor names; tensors left out keep the base's value.
        unmatched: what to do with tensors that not all models have in the same shape, see `weights.match`.
        out: a folder to write the result to, piece by piece: neither the models nor the result are ever in memory whole.
            What is returned is read from there. A run that was killed is taken up where it was, by the same call.
        memory: with `out`, how much may be held beside the program itself, "2GB"; None is a quarter of what is free.
        shard_size: with `out`, how large a file of the result may be, "5GB".
        resume: False begins anew where a run was killed.
        hashes: True names XXH3 hashes of the inputs in the result, for next to nothing; "sha256" names hashes that nobody
            can forge, for half a second of a core per gigabyte; False size and time of change of the files.
        progress: True, False or a callable(done, total, text); counted in bytes read and, with `out`, written.
        cancel: anything with `is_set()`; raises `Cancelled`, and leaves nothing of `out`.

    Raises:
        ValueError, TypeError, FileNotFoundError: bad input, named, before any result is made.
        OSError: `out` cannot be written, another run writes there, or an input changed; an earlier result is still there.
    """
    executor = checked(executor)
    work, found = _prepared(method, base, experts, device, dtype, include, exclude, unmatched, options)
    if out is None:
        with ROOMS.lent():
            return _in_memory(work, found, executor, digest_of(hashes), progress, cancel)
    job = Job.of(work, found, memory, shard_size, executor is not None, digest_of(hashes))
    return write(job, out, executor, resume, progress, cancel)


def plan(
    method: str | Method,
    base: Weights,
    experts: Mapping[str, Weights],
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    executor: Executor | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    unmatched: Unmatched = "error",
    memory: str | int | None = None,
    shard_size: str | int = SHARD,
    **options,
) -> Plan:
    """What `merge(..., out=folder)` would read, write and hold; arguments and errors as there. Reads headers only."""
    work, found = _prepared(method, base, experts, device, dtype, include, exclude, unmatched, options)
    return Job.of(work, found, memory, shard_size, checked(executor) is not None, None).plan


def _prepared(method, base, experts, device, dtype, include, exclude, unmatched, options) -> tuple[Work, Match]:
    method = resolve(method, options)
    base, experts = _opened(base, experts)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is what is computed in, torch.float32 or torch.float64; got {dtype}")
    found = match(base, experts, include, exclude, unmatched)
    taus = TaskVectors(base, experts, found.merged)
    method.check_tasks(taus.tasks)
    device = pick(device)
    return Work(method, taus, device, dtype, largest_piece(device)), found


def _in_memory(
    work: Work,
    found: Match,
    executor: Executor | None,
    digest: Digest | None,
    progress: Progress,
    cancel: CancelFlag | None,
) -> Merged:
    totals, hashes, made = (), Hashes(work.taus), {}
    with ticker(progress, read_once(work) * (work.rounds + 1), f"merge by {work.method.label}", cancel, "B") as tick:
        tick(0)
        for done in range(work.rounds):
            total: dict[str, Tensor] = {}
            for run, gathered in _runs(
                executor, work, partial(work.gather, totals=totals, hashed=None if done else digest)
            ):
                fold(total, gathered.parts)
                for piece, found_here in zip(run, gathered.hashes, strict=True):
                    hashes.add(piece.name, found_here)
                    tick(work.nbytes(piece))
            totals += (total,)
        late: dict[str, Tensor] = {}
        for piece, part in _each(executor, work, partial(_own, work, totals, None if work.rounds else digest)):
            fold(late, part.parts)
            hashes.add(piece.name, part.hashes)
            made.setdefault(piece.name, []).append(part)
            tick(work.nbytes(piece))
    totals += (late,) * work.method.late
    for note in work.method.notes(work.taus, totals):
        warnings.warn(note, stacklevel=3)
    return _assembled(work, found, totals, made, provenance(work, digest, hashes.digests(digest)))


def _own(work: Work, totals: Totals, hashed: Digest | None, piece: Piece) -> pieces.Merged:
    """A merged piece without the base, in memory of its own, where its thread would use it again."""
    made = work.merge(piece, totals, hashed)
    made = made._replace(base=made.base[:0])
    return made if work.fast is None and work.device.type == "cpu" else kept(made)


def _each(executor: Executor | None, work: Work, job: Callable[[Piece], Result]) -> Iterator[tuple[Piece, Result]]:
    """`job` of every piece of the model, in order."""
    return _all(executor, work, Work.pieces, job)


def _runs(
    executor: Executor | None, work: Work, job: Callable[[list[Piece]], Gathered]
) -> Iterator[tuple[list[Piece], Gathered]]:
    """`job` of every run of pieces of the model, in order."""
    return _all(executor, work, Work.runs, job)


def _all(executor: Executor | None, work: Work, cut: Callable, job: Callable) -> Iterator[tuple]:
    """What the model is cut into, with `job` of it, in order; an executor gets a tensor at a time."""
    if executor is not None:
        for done in by_executor(executor, partial(_tensor, work, cut, job), work.taus.names):
            yield from done
        return
    items = list(cut(work, work.taus.names))
    yield from zip(items, by_threads(job, items, busy(work)), strict=True)


def _tensor(work: Work, cut: Callable, job: Callable, name: str) -> list[tuple]:
    with ROOMS.lent():
        return [(item, job(item)) for item in cut(work, [name])]


def _opened(base, experts) -> tuple[Source, dict[str, Source]]:
    if isinstance(experts, str | Path | nn.Module) or not isinstance(experts, Mapping) or _is_source(experts):
        swapped = _are_several(base)
        hint = (
            "base and experts look swapped: it is merge(method, base, experts)" if swapped else 'write {"task": expert}'
        )
        raise TypeError(f"experts is a mapping from task names to weights; got {_what(experts)}; {hint}")
    if _are_several(base):
        raise TypeError("the base is one model's weights; got a mapping of several; are base and experts swapped?")
    if not experts:
        raise ValueError('there are no experts to merge; give at least two, as {"task": expert, …}')
    if len(experts) == 1:
        warnings.warn(
            f"only one expert ({next(iter(experts))}): there is nothing to merge it with; give two or more",
            stacklevel=4,
        )
    base = open_source(base)
    if isinstance(base, Adapter):
        raise ValueError(
            f"{base.path} is an adapter, so it can be an expert but not the base; the base is its own base model"
        )
    opened = {str(task): open_source(expert) for task, expert in experts.items()}
    if len(opened) < len(experts):
        raise ValueError(f"two tasks have one name: {', '.join(map(repr, experts))} are told apart as texts")
    return base, {task: e.onto(base) if isinstance(e, Adapter) else e for task, e in opened.items()}


def _is_source(mapping: Mapping) -> bool:
    return isinstance(mapping, Lazy) or (
        all(isinstance(value, Tensor) for value in mapping.values()) and len(mapping) > 0
    )


def _are_several(base: object) -> bool:
    """Whether these are several models' weights, where one model's belong."""
    several = Mapping | str | Path | nn.Module
    return isinstance(base, Mapping) and len(base) > 0 and all(isinstance(value, several) for value in base.values())


def _what(experts: object) -> str:
    return (
        "the weights of one model" if isinstance(experts, Mapping | str | Path | nn.Module) else type(experts).__name__
    )


def _assembled(work: Work, found: Match, totals: Totals, made: dict[str, list[pieces.Merged]], said: dict) -> Merged:
    taus = work.taus
    if any(parts[0].vector is None for parts in made.values()):
        patches = {task: _low_rank(taus, found, made, t) for t, task in enumerate(taus.tasks)}
        return Merged(with_means(taus, found), {}, taus.tasks, patches, found.aliases, said)
    shapes = {name: shape_of(taus.base, name) for name in made}
    vector = {name: _joined([part.vector for part in parts]).reshape(shapes[name]) for name, parts in made.items()}
    patches, scales = {}, work.method.scales(taus, totals)
    if scales is not None or found.own:
        for t, task in enumerate(taus.tasks):
            masks = {n: _joined([part.masks[t] for part in parts]) for n, parts in made.items() if parts[0].masks}
            own = {name: taus.experts[task][name].clone() for name in found.own if name in taus.experts[task]}
            scale = 1.0 if scales is None else scales[task]
            patches[task] = Masked(Bits(masks, {n: shapes[n] for n in masks}), scale, own)
    return Merged(with_means(taus, found), vector, taus.tasks, patches, found.aliases, said)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _low_rank(taus: TaskVectors, found: Match, made: dict[str, list[pieces.Merged]], t: int) -> LowRank:
    """One task's factors; a tensor without any is the task's own."""
    expert = taus.experts[taus.tasks[t]]
    factors = {name: parts[0].factors[t] for name, parts in made.items() if parts[0].factors}
    own = [name for name in (*found.own, *(n for n in made if n not in factors)) if name in expert]
    return LowRank(factors, {name: as_own(taus, expert, name) for name in own})
