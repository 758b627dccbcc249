"""What a compiled form of a method is, and what all forms share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.maths import histogram
from mergekit_nb.methods.base import Method, Totals
from mergekit_nb.weights.rooms import ROOMS
from mergekit_nb.weights.site import Site


class Finished(NamedTuple):
    """What a piece was merged into. A compiled form's tensors are its thread's until it merges the next piece.

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
        from mergekit_nb.kernels import add, compete, elect, store, trim
    except (ImportError, RuntimeError):
        return None
    bundle = ModuleType("kernels")
    bundle.__dict__.update(add=add.add, emr=elect.emr, count=trim.count, majority=trim.majority, ties=trim.ties)
    bundle.__dict__.update(count_ends=compete.count_ends, find=compete.find, PART=compete.PART)
    bundle.__dict__.update(count_exact=compete.count_exact, fuse=compete.fuse)
    bundle.between = trim.between
    bundle.store, bundle.read = store.store, None
    if os.name == "posix":
        from mergekit_nb.kernels import read

        bundle.read = read.read
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

    def add(self, site: Site, base: Tensor, experts: list[Tensor], totals: Totals, parts: dict[str, Tensor]) -> bool:
        """What `measure` gives, added to the parts of other pieces; False, and nothing added: ask the method itself."""
        found = self.measure(site, base, experts, totals)
        fold(parts, found or {})
        return found is not None

    @abstractmethod
    def finish(self, site: Site, base: Tensor, experts: list[Tensor], totals: Totals) -> Finished | None:
        """As `Method.merge`, in float32, flat; and with it the late round."""


INFINITE = torch.tensor(torch.inf).view(torch.int32).item()
KINDS = {torch.float32: 0, torch.bfloat16: 1}  # as in kernels.rows


class Rows:
    """Flat tensors, where they lie and how they are stored; they are kept alive while they are looked at."""

    def __init__(self, flats: list[Tensor]):
        self.tensors = [_compiled(t.detach()).contiguous() for t in flats]
        self.addresses = np.array([(t.data_ptr(), KINDS[t.dtype]) for t in self.tensors], np.int64)
        self.size, self.tasks = flats[0].numel(), len(flats) - 1

    @classmethod
    def of(cls, base: Tensor, experts: list[Tensor]) -> Rows:
        """The rows of a piece."""
        flats = [base, *experts]
        return ROOMS.once(cls, flats, cls) if all(flat.dtype in KINDS for flat in flats) else cls(flats)


def _compiled(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in KINDS else tensor.to(torch.float32)


def finite(top: int) -> bool:
    """Whether the largest magnitude, of which these are the bits, is a number."""
    return top < INFINITE


def fold(total: dict[str, Tensor], parts: Mapping[str, Tensor]) -> None:
    """Add what one more piece was measured to be. In numpy: torch would wake a thread a core, while all are busy."""
    for key, value in parts.items():
        if key in total:
            np.add(total[key].numpy(), value.numpy(), out=total[key].numpy())
        else:
            total[key] = torch.from_numpy(value.numpy().copy())


def zeros(*shape: int) -> Tensor:
    """Counts to begin with: int64."""
    return torch.from_numpy(np.zeros(shape, np.int64))


def counted(rows: Rows, prefix: Tensor | None, counts: Tensor | None = None) -> Tensor | None:
    """`histogram.count` of magnitudes, in its first round or, with the prefixes found, in its second.

    Args:
        counts: `task 65536`, of other pieces: they are added to, and handed back. Where it gives None they are as before.
    """
    counts = zeros(rows.tasks, 1 << histogram.DIGIT) if counts is None else counts
    first = np.empty(0, np.int32) if prefix is None else prefix.to(torch.int32).numpy()
    if finite(kernels().count(rows.addresses, rows.size, first, 1, counts.numpy())):
        return counts
    kernels().count(rows.addresses, rows.size, first, -1, counts.numpy())
    return None


def numbers(values: tuple[float, ...] | Tensor | None, tasks: int) -> np.ndarray:
    return np.ones(tasks, np.float32) if values is None else np.asarray(values, np.float32)
