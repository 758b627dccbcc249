"""Writing safetensors piece by piece: a model in files of a limited size, with the index that Hugging Face's tools read.

safetensors itself writes a file from tensors that are all in memory; here a file's header is written first, and its
tensors follow in any order and in pieces. The files are the same, byte for byte.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from math import prod
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from mergekit_nb.weights.source import DTYPES, INDEX, Source, dtype_of, read_header, shape_of

SHARD = 5 * 10**9  # bytes of one file at most, as Hugging Face's own tools write them
STORED = {dtype: name for name, dtype in DTYPES.items()}
METADATA = {"__metadata__": {"format": "pt"}}


class CannotWrite(OSError):
    """A file cannot be written: the disk is full, or there is no right to."""


class Slot(NamedTuple):
    """The place of one tensor in a file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def slot_of(source: Source, name: str) -> Slot:
    """The place that a tensor takes."""
    return Slot(name, dtype_of(source, name), shape_of(source, name))


def portions(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in their order, in runs of at most `limit` bytes; a larger tensor has a run of its own. At least one run."""
    runs: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if runs[-1] and filled + size > limit:
            runs.append([])
            filled = 0
        runs[-1].append(name)
        filled += size
    return runs


def file_name(stem: str, place: int, count: int) -> str:
    """What the file of portion `place` of `count` is called."""
    return f"{stem}.safetensors" if count == 1 else f"{stem}-{place + 1:05d}-of-{count:05d}.safetensors"


def header(slots: Iterable[Slot]) -> tuple[bytes, dict[str, int]]:
    """A file's first bytes, and where every tensor begins: widest dtypes first, then by name, as safetensors does."""
    entries, begins, end = dict(METADATA), {}, 0
    for slot in sorted(slots, key=lambda slot: (-slot.dtype.itemsize, slot.name)):
        begins[slot.name], begin, end = end, end, end + slot.nbytes
        entries[slot.name] = {"dtype": STORED[slot.dtype], "shape": list(slot.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    first = len(text).to_bytes(8, "little") + text
    return first, {name: len(first) + begin for name, begin in begins.items()}


class Shard:
    """One file being written; under its name only once all of it is there. A context: what fails leaves no file.

    Args:
        file: its path; the folder is made.
        slots: what will be in it.
    """

    def __init__(self, file: Path, slots: Sequence[Slot]):
        self.file = file
        self._beside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")  # two workers may be at one file
        self._widths = {slot.name: slot.dtype for slot in slots}
        first, self._begins = header(slots)
        with _named(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = open(self._beside, "wb", buffering=0)  # noqa: SIM115 - closed by __exit__
            self._stream.write(first)
        self._lock = Lock()

    def put(self, name: str, flat: Tensor, start: int = 0) -> None:
        """Write entries of one tensor, from its entry `start` on; any thread may."""
        assert flat.dtype == self._widths[name], f"{name} is {flat.dtype}, announced as {self._widths[name]}"
        raw = flat.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        left, at = raw.data, self._begins[name] + start * flat.element_size()
        with _named(self.file):
            while left:
                count = self._write(left, at)
                left, at = left[count:], at + count

    def _write(self, content: memoryview, at: int) -> int:
        if hasattr(os, "pwrite"):  # threads need not wait for each other
            return os.pwrite(self._stream.fileno(), content, at)
        with self._lock:
            self._stream.seek(at)
            return self._stream.write(content)

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, failed: type | None, *_) -> None:
        try:
            with _named(self.file):
                self._stream.close()
                if failed is None:
                    os.replace(self._beside, self.file)
        finally:
            self._beside.unlink(missing_ok=True)


def save(file: Path, tensors: Source) -> None:
    """Write tensors that are at hand as one file."""
    with Shard(file, [slot_of(tensors, name) for name in tensors]) as shard:
        for name in tensors:
            shard.put(name, tensors[name])


def write_text(file: Path, text: str) -> None:
    """Write a small file, under its name only once all of it is there."""
    beside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    with _named(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text)
        os.replace(beside, file)


@contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"{file.name}: {error.strerror or error}") from error


def index(folder: Path, stem: str) -> None:
    """Write the index of a stem's files, from their headers; a single file needs none."""
    path = folder / stem
    files = sorted(path.parent.glob(f"{escape(path.name)}-*-of-*.safetensors"))
    headers = {file.name: read_header(file) for file in files}
    if headers:
        where = {name: file for file, entries in headers.items() for name in entries}
        ends = [entry["data_offsets"] for entries in headers.values() for entry in entries.values()]
        said = {"metadata": {"total_size": sum(end - begin for begin, end in ends)}, "weight_map": where}
        (folder / f"{stem}{INDEX}").write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n")


def stored(folder: Path, stem: str) -> Path:
    """Where the tensors of a stem lie: one file, or the index of several.

    Raises:
        ValueError: nowhere.
    """
    found = [file for file in (folder / f"{stem}.safetensors", folder / f"{stem}{INDEX}") if file.exists()]
    if not found:
        raise ValueError(f"{folder} is damaged: it lacks {stem}.safetensors")
    return found[0]
