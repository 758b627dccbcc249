"""Reading one piece of every model, into memory that its thread uses again and again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.engine.forms.form import kernels
from mergekit_nb.weights.rooms import LARGEST, LINE, ROOMS
from mergekit_nb.weights.source import Checkpoint, Source

OPEN = 64  # files at most that stay open


class Opened:
    """An open file; closed when nobody has it any more."""

    def __init__(self, file: Path):
        self.number = os.open(file, os.O_RDONLY)

    def __del__(self) -> None:
        if "number" in self.__dict__:
            os.close(self.number)


class Where(NamedTuple):
    """Where one tensor lies in every model: file, first byte and dtype."""

    files: list[Path]
    begins: np.ndarray
    dtypes: tuple[torch.dtype, ...]
    widths: np.ndarray


@dataclass(frozen=True)
class Reader:
    """Reads pieces of models; of files by one compiled call, where there is one.

    Attributes:
        sources: the base and every expert.
        pinned: into memory that a GPU fetches from.
        compiled: whether compiled code is loaded anyway.
    """

    sources: tuple[Source, ...]
    pinned: bool
    compiled: bool
    _alone: Lock = field(default_factory=Lock, repr=False, compare=False)

    @cached_property
    def _together(self) -> bool:
        """Whether all are files, and compiled code reads them."""
        files = all(type(source) is Checkpoint for source in self.sources)
        return files and self.compiled and not self.pinned and kernels().read is not None

    @cached_property
    def _files(self) -> dict[Path, Opened]:
        return {}

    @cached_property
    def _known(self) -> dict[str, Where]:
        return {}

    def read(self, name: str, start: int, stop: int) -> list[Tensor]:
        """Entries start..stop of one tensor in every model, flat, as stored; of files only until this thread reads again.

        Raises:
            OSError: a file was gone before it was read, or was cut short since it was opened.
        """
        if self._together:
            where = self._where(name)
            if int(where.widths.sum()) * (stop - start) + LINE * len(self.sources) <= LARGEST:
                return self._read(where, name, start, stop - start)
        return [ROOMS.entries(i, source, name, start, stop, self.pinned) for i, source in enumerate(self.sources)]

    def _where(self, name: str) -> Where:
        if name not in self._known:
            stored = [source.where(name) for source in self.sources]
            dtypes = tuple(source.dtype(name) for source in self.sources)
            widths = np.array([dtype.itemsize for dtype in dtypes], np.int64)
            self._known[name] = Where([file for file, _ in stored], np.array([at for _, at in stored]), dtypes, widths)
        return self._known[name]

    def _read(self, where: Where, name: str, start: int, size: int) -> list[Tensor]:
        flats = ROOMS.several(size, where.dtypes)
        addresses = ROOMS.once("addresses", flats, _addresses)
        opened = [self._opened(file) for file in where.files]
        numbers = np.array([file.number for file in opened], np.int64)
        missed = kernels().read(numbers, where.begins + start * where.widths, size * where.widths, addresses)
        if missed >= 0:  # this one says what is wrong, if it still is; those after it were not read
            for source, flat in zip(self.sources[missed:], flats[missed:], strict=True):
                source.read_into(name, start, flat)
        return flats

    def _opened(self, file: Path) -> Opened:
        with self._alone:
            found = self._files.get(file)
            if found is None:
                while len(self._files) >= OPEN:
                    self._files.pop(next(iter(self._files)))  # a thread that reads it has it still
                found = self._files[file] = Opened(file)
            return found


def _addresses(flats: list[Tensor]) -> np.ndarray:
    return np.array([flat.data_ptr() for flat in flats], np.int64)
