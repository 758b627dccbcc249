"""The desk beside a result: one run at a time works there, a killed one is taken up again, and nothing is half there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mergekit_nb.engine.job import Job
from mergekit_nb.engine.provenance import versions
from mergekit_nb.progress import Cancelled
from mergekit_nb.weights.adapter import Adapted
from mergekit_nb.weights.shards import write_text
from mergekit_nb.weights.source import Checkpoint, Source

JOURNAL, LOCK = "journal.json", "lock"
MEND = "resume=False (--fresh) begins anew"


@contextmanager
def desk_of(folder: Path, job: Job, resume: bool) -> Iterator[Path]:
    """The folder in which a result is made, `.NAME.part` beside it; it is gone once the result is in place.

    After an error that may pass (a full disk, an interrupt) it stays, if all inputs are files; after any other, and after
    `Cancelled`, it does not. A killed process leaves it in any case.

    Raises:
        OSError: another run is at it; inputs changed since it was left, or it was left by another merge.
    """
    desk = folder.with_name(f".{folder.name}.part")
    with _locked(desk, folder):
        said = identity(job)
        _begin(desk, folder, said, resume)
        keep = said is not None
        try:
            yield desk
            keep = False
        except (Cancelled, ValueError, TypeError):
            keep = False
            raise
        finally:
            if not keep:
                shutil.rmtree(desk, ignore_errors=True)


def identity(job: Job) -> dict | None:
    """What must be the same for a merge to be taken up again; None where an input is no file, so that nothing tells."""
    taus = job.work.taus
    inputs = {owner: stamps(source) for owner, source in {"the base": taus.base, **taus.experts}.items()}
    if None in inputs.values():
        return None
    layout = json.dumps([job.kind, job.runs, job.found.aliases, job.found.own, job.found.mean, taus.names])
    said = {
        "method": job.work.method.label,
        "options": job.work.method.options(),
        "tensors and files": hashlib.sha256(layout.encode()).hexdigest(),
        "device": job.work.device.type,
        "dtype": str(job.work.dtype),
        "hashes": job.digest,
        "versions": versions(),
        "inputs": inputs,
    }
    return json.loads(json.dumps(said))


def stamps(source: Source) -> dict[str, list[int]] | None:
    """Size and time of change of every file of a checkpoint."""
    source = source.adapter.tensors if isinstance(source, Adapted) else source  # its base is an input of its own
    if not isinstance(source, Checkpoint):
        return None
    found = {str(file.resolve()): file.stat() for file in source.files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found.items()}


def unchanged(job: Job, begun: dict | None) -> None:
    """Raise OSError where an input file is not as it was when the merge began."""
    if begun is not None and (others := _changed(begun, identity(job) or {})):
        raise OSError(
            f"{', '.join(others)} changed while it was merged: nothing was written; begin again when it is whole"
        )


@contextmanager
def _locked(desk: Path, folder: Path) -> Iterator[None]:
    try:
        desk.mkdir(exist_ok=True)
        lock = FileLock(desk / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise OSError(f"another run is writing to {folder}: wait for it, or name another folder") from None
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def _begin(desk: Path, folder: Path, said: dict | None, resume: bool) -> None:
    if (desk / "earlier").exists() and not folder.exists():  # killed between two renames
        (desk / "earlier").rename(folder)
    begun = _read(desk / JOURNAL)
    going_on = begun is not None and (desk / "new").exists() and resume and said is not None
    if going_on and begun != said:
        raise OSError(_differs(begun, said, folder))
    if not going_on:
        _clear(desk)
        if said is not None:
            write_text(desk / JOURNAL, json.dumps(said, indent=1))
    (desk / "stop").unlink(missing_ok=True)
    (desk / "new").mkdir(exist_ok=True)


def _read(journal: Path) -> dict | None:
    try:
        return json.loads(journal.read_text())
    except FileNotFoundError:
        return None


def _clear(desk: Path) -> None:
    for path in desk.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _differs(begun: dict, said: dict, folder: Path) -> str:
    if others := _changed(begun, said):
        return f"{', '.join(others)} changed since the merge to {folder} was begun and left unfinished; {MEND}"
    keys = [key for key in said if key != "inputs" and begun.get(key) != said[key]] or ["inputs"]
    return f"another merge to {folder} was begun and left unfinished (other {', '.join(keys)}); {MEND}"


def _changed(begun: dict, said: dict) -> list[str]:
    """The models that lie in the same files as before, with other contents."""
    before, now = begun.get("inputs", {}), said.get("inputs", {})
    return [o for o in before if o in now and set(before[o]) == set(now[o]) and before[o] != now[o]]
