"""Models on a device, and the kernels that walk over them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from mergekit_nb.engine.feed import stacked


@cache
def kernels() -> ModuleType | None:
    """The fused kernels; None where Triton is not installed, or is none that they know."""
    try:
        from mergekit_nb.kernels.gpu import add, count, elect, rows, trim
    except (ImportError, RuntimeError, AttributeError):
        return None
    bundle = ModuleType("kernels")
    bundle.__dict__.update(add=add.add, emr=elect.emr, count=count.count, majority=trim.majority, ties=trim.ties)
    bundle.__dict__.update(tile=rows.TILE.value)
    return bundle


@dataclass(frozen=True)
class Stack:
    """Models on a device.

    Attributes:
        rows: `1 + task entry`, the base first, filled up with zeros to whole tiles.
        size: how many entries are not filled up.
    """

    rows: Tensor
    size: int

    @classmethod
    def of(cls, base: Tensor, experts: list[Tensor], device: torch.device) -> Stack:
        """Of flat tensors, as they are stored."""
        return cls(stacked(base, experts, device, kernels().tile), base.numel())

    @property
    def tasks(self) -> int:
        """How many experts there are."""
        return len(self.rows) - 1

    def zeros(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """To be added to."""
        return torch.zeros(shape, dtype=dtype, device=self.rows.device)

    def room(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """To be written: `*shape entry`, or as many bytes of eight entries for a uint8."""
        entries = self.rows.shape[1] // (8 if dtype == torch.uint8 else 1)
        return torch.empty(*shape, entries, dtype=dtype, device=self.rows.device)

    def numbers(self, values: tuple[float, ...] | Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor:
        """One number per task; ones for None."""
        values = [1.0] * self.tasks if values is None else values
        return torch.as_tensor(values, dtype=dtype).to(self.rows.device)
