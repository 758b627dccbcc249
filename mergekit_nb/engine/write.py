"""Merging into a folder: the result is written portion by portion; neither it nor the models are ever in memory whole."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor
from tqdm.auto import tqdm

from mergekit_nb.engine import budget
from mergekit_nb.engine.job import Job
from mergekit_nb.engine.journal import desk_of, identity, unchanged
from mergekit_nb.engine.pieces import fold
from mergekit_nb.engine.portions import Portions
from mergekit_nb.engine.provenance import provenance
from mergekit_nb.engine.workers import by_executor
from mergekit_nb.methods.base import Totals
from mergekit_nb.progress import CancelFlag, Progress, Tick, ticker
from mergekit_nb.weights.disk import finish, free, replace, unwritten
from mergekit_nb.weights.merged import Merged, load
from mergekit_nb.weights.shards import CannotWrite, save
from mergekit_nb.weights.source import nbytes_of

log = logging.getLogger("mergekit_nb")


def write(
    job: Job, out: str | Path, executor: Executor | None, resume: bool, progress: Progress, cancel: CancelFlag | None
) -> Merged:
    """Do a job; the merge as it then lies in the folder. See `merge`."""
    folder, plan = free(out), job.plan
    try:
        with desk_of(folder, job, resume) as desk:
            _room(folder, desk, plan.writes)
            log.info("%s", plan)
            if progress is True:
                tqdm.write(str(plan), file=sys.stderr)
            portions, begun = Portions(job, desk.absolute(), plan.threads), identity(job)
            with ticker(progress, plan.reads + plan.writes, f"merge by {plan.method}", cancel, "B") as tick:
                totals = _rounds(portions, executor, tick, partial(unchanged, job, begun))
            _finish(portions, totals)
            replace(desk, folder)
    except CannotWrite as error:
        raise unwritten(folder, error) from error
    return load(folder)


def _room(folder: Path, desk: Path, needed: int) -> None:
    there = sum(file.stat().st_size for file in (desk / "new").rglob("*.safetensors"))
    free_here = shutil.disk_usage(desk).free
    if needed - there > free_here:
        raise OSError(
            f"{folder} needs {budget.said(needed - there)} on its disk, and {budget.said(free_here)} are free there; "
            "nothing was written"
        )


def _rounds(portions: Portions, executor: Executor | None, tick: Tick, check: Callable[[], None]) -> Totals:
    """All rounds and the writing, each portion once: what a killed run has done is not done again. The totals."""
    work = portions.job.work
    tick(0)
    for done in range(work.rounds):
        if not portions.total(done).exists():
            run = partial(portions.measure, done=done)
            _all(portions, executor, run, partial(portions.measured, done=done), tick, writing=False)
            check()
            _sum(portions, done)
            shutil.rmtree(
                portions.measured(0, done).parent, ignore_errors=True
            )  # megabytes a portion, on the disk of the result
        else:
            tick(sum(_size(portions, place, False) for place in range(len(portions.job.runs))), before=True)
    _all(portions, executor, portions.write, portions.written, tick, writing=True)
    check()
    if work.method.late:
        _sum(portions, work.rounds)
    return portions.totals(work.rounds + work.method.late)


def _all(
    portions: Portions, executor: Executor | None, run: Callable, mark: Callable[[int], Path], tick: Tick, writing: bool
) -> None:
    """`run` every portion that is not marked as done; an executor's workers report whole portions."""
    places = range(len(portions.job.runs))
    left = [place for place in places if not mark(place).exists()]
    tick(sum(_size(portions, place, writing) for place in places if place not in left), before=True)
    if executor is None:
        for place in left:
            run(place, tick=tick)
    elif left:
        _by_workers(
            portions, executor, run, left, lambda place: tick(_size(portions, place, writing)), partial(tick, 0)
        )


def _by_workers(
    portions: Portions,
    executor: Executor,
    run: Callable,
    left: list[int],
    done: Callable[[int], None],
    listen: Callable[[], None],
) -> None:
    """`run` these portions elsewhere; when one fails or all is cancelled, the others stop at their next run of pieces."""

    def stopping(look: Callable, *args) -> None:
        try:
            look(*args)
        except BaseException:
            portions.stop.touch()
            raise

    with closing(by_executor(executor, run, left, partial(stopping, listen))) as results:
        for place, _ in zip(left, results, strict=True):
            stopping(done, place)


def _size(portions: Portions, place: int, writing: bool) -> int:
    """What a portion counts for: bytes read, and written."""
    job = portions.job
    sources = (job.work.taus.base, *job.work.taus.experts.values())
    read = sum(nbytes_of(source, name) for name in job.merged(place) for source in sources)
    return read + writing * sum(slot.nbytes for slots in job.slots(place).values() for slot in slots)


def _sum(portions: Portions, done: int) -> None:
    """Add up what the portions were measured to be, in their order."""
    total: dict[str, Tensor] = {}
    for place in range(len(portions.job.runs)):
        fold(total, load_file(portions.measured(place, done)))
    save(portions.total(done), total)


def _finish(portions: Portions, totals: Totals) -> None:
    """Indexes, recipe and warnings, once all files are there."""
    job, taus = portions.job, portions.job.work.taus
    new = portions.desk / "new"
    for left in new.rglob(".*.part"):  # of a worker that died
        left.unlink()
    for note in job.work.method.notes(taus, totals):
        warnings.warn(note, stacklevel=4)
    digests: list[dict[str, str]] = [{} for _ in range(len(taus.tasks) + 1)]
    for place in range(len(job.runs)):
        for owner, more in zip(digests, json.loads(portions.hashes(place).read_text()), strict=True):
            owner.update(more)
    recipe = {
        **provenance(job.work, job.digest, digests),
        "tasks": list(taus.tasks),
        "aliases": dict(job.found.aliases),
    }
    merged = [] if job.kind == "factors" else list(taus.names)
    finish(new, recipe, merged, _scales(job, totals))


def _scales(job: Job, totals: Totals) -> dict[str, float | None]:
    if job.kind == "model":
        return {}
    if job.kind == "factors":
        return dict.fromkeys(job.work.taus.tasks)
    return job.work.method.scales(job.work.taus, totals) or dict.fromkeys(job.work.taus.tasks, 1.0)
