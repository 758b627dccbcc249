"""How a merge was made: method, options, versions, and the hashes of all that went in."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import UTC, datetime

from mergekit_nb.engine.pieces import Work
from mergekit_nb.weights.adapter import Adapted
from mergekit_nb.weights.hashing import Digest, digest, fingerprint
from mergekit_nb.weights.source import Checkpoint, Source
from mergekit_nb.weights.task_vectors import TaskVectors

VERSIONED = ("mergekit-nb", "torch", "safetensors")


class Hashes:
    """Hashes of the tensors that are merged, collected while they are read: in the base and in every expert."""

    def __init__(self, taus: TaskVectors):
        self._joined: list[dict[str, bytes]] = [{} for _ in range(len(taus.tasks) + 1)]

    def add(self, name: str, hashes: list[bytes]) -> None:
        """One more piece of a tensor, in order: of the base, then of every expert; nothing where none were made."""
        for owner, more in zip(self._joined, hashes, strict=False):
            owner[name] = owner.get(name, b"") + more

    def digests(self, kind: Digest | None) -> list[dict[str, str]]:
        """The hash of every tensor's hashes, of the base and of every expert, in hex; nothing where none were made."""
        return [
            {name: digest(kind, joined).hex() for name, joined in owner.items()} if kind else {}
            for owner in self._joined
        ]


def versions() -> dict[str, str]:
    """What did it."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in VERSIONED}}


def provenance(work: Work, kind: Digest | None, digests: list[dict[str, str]]) -> dict:
    """What is noted of a merge; tensors without a digest are read for theirs. Without a kind of hash nothing is read."""

    def origin(source: Source, known: dict[str, str]) -> dict:
        path = {"path": str(source.path)} if isinstance(source, Checkpoint | Adapted) else {}
        return {**path, **({kind: fingerprint(source, kind, known)} if kind else _stamp(source))}

    experts = zip(work.taus.experts.items(), digests[1:], strict=True)
    inputs = {
        "base": origin(work.taus.base, digests[0]),
        "experts": {task: origin(expert, known) for (task, expert), known in experts},
    }
    return {"method": work.method.label, "options": work.method.options(), "versions": versions(), "inputs": inputs}


def _stamp(source: Source) -> dict:
    """Size and time of change of a checkpoint's files, instead of a hash."""
    if not isinstance(source, Checkpoint):
        return {}
    stats = [file.stat() for file in source.files]
    changed = datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC).isoformat(timespec="seconds")
    return {"bytes": sum(stat.st_size for stat in stats), "changed": changed}
