"""Task vectors: what fine-tuning changed, lazy, one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.weights.adapter import Adapted
from mergekit_nb.weights.match import match
from mergekit_nb.weights.site import Block, Site, blocks
from mergekit_nb.weights.source import Source, entries, shape_of


@dataclass(frozen=True)
class TaskVectors:
    """A base and its experts; the order of the experts is the order of the tasks.

    Attributes:
        base: the weights that all experts started from.
        experts: task name -> weights.
        names: the tensors that are merged, in the order of the base; made by `TaskVectors.of`.
    """

    base: Source
    experts: Mapping[str, Source]
    names: tuple[str, ...]

    @classmethod
    def of(cls, base: Source, experts: Mapping[str, Source], **choice) -> TaskVectors:
        """The task vectors of all tensors that base and experts share; `choice` as in `weights.match.match`."""
        return cls(base, experts, match(base, experts, **choice).merged)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task names, in order."""
        return tuple(self.experts)

    def site(self, name: str) -> Site:
        """Where that tensor lives."""
        return Site(name, shape_of(self.base, name), self.tasks, self.blocks.get(name), self.base, self.experts)

    @cached_property
    def blocks(self) -> dict[str, Block]:
        """The block of every merged tensor that lies in one."""
        return blocks(self.names)

    def at(
        self, name: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "task *shape"]:
        """The task vectors of one tensor, expert minus base, computed in `dtype` on `device`.

        Raises:
            ValueError: an entry is NaN or infinite; the message names the model and the tensor.
        """
        if self.adapted:
            base = self._finite("the base", self.base[name], name, device, dtype)
            return torch.stack([self._change(task, name, base) for task in self.experts])
        return self.differences(name, *self.read(name), device, dtype).reshape(
            len(self.tasks), *shape_of(self.base, name)
        )

    @property
    def adapted(self) -> bool:
        """Whether some expert is the base with an adapter: its task vectors are then asked for whole, by `at`."""
        return any(isinstance(expert, Adapted) for expert in self.experts.values())

    def read(self, name: str, start: int = 0, stop: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """Entries start..stop of one tensor in the base and in every expert, row-major, as they are stored: 1-D.

        Raises:
            OSError: a file is gone, or was cut short since it was opened.
        """
        return entries(self.base, name, start, stop), [entries(e, name, start, stop) for e in self.experts.values()]

    def differences(
        self, name: str, base: Tensor, experts: list[Tensor], device: str | torch.device, dtype: torch.dtype
    ) -> Float[Tensor, "task n"]:
        """The task vectors of what `read` read.

        Raises:
            ValueError: as `at`.
        """
        origin = self._finite("the base", base, name, device, dtype)
        tuned = (
            self._finite(task, expert, name, device, dtype) for task, expert in zip(self.tasks, experts, strict=True)
        )
        return torch.stack([expert - origin for expert in tuned])

    def _change(self, task: str, name: str, base: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        expert = self.experts[task]
        # an adapter's change as it is: added to the base and taken off again it would be rounded, and of full rank
        change = expert.change(name, base) if isinstance(expert, Adapted) else None
        if change is None:
            return self._finite(task, expert[name], name, base.device, base.dtype) - base
        return self._finite(task, change, name, base.device, base.dtype)

    @staticmethod
    def _finite(owner: str, tensor: Tensor, name: str, device: str | torch.device, dtype: torch.dtype) -> Tensor:
        moved = (
            tensor.detach().to(device=device, non_blocking=True).to(dtype)
        )  # from pinned memory; the check below waits
        bad = ~torch.isfinite(moved)
        if bad.any():
            kind = "NaN" if moved.isnan().any() else "infinite"
            raise ValueError(
                f"{owner} has {int(bad.sum())} {kind} of {moved.numel()} weights in {name}; a broken checkpoint cannot be merged: "
                f"mend it, or leave the tensor out with exclude={name!r}"
            )
        return moved
