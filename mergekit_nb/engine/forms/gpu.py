"""What fused forms for a GPU share: models stacked on the device, one kernel a piece, and the way back.

None of them has run on a GPU yet: their kernels give the readable form's bits in Triton's interpreter and compile for
NVIDIA's 7.5, 8.0 and 9.0. So on a user's GPU they have to earn their place first, see `forms.trust`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mergekit_nb.engine.feed import common, home, lane
from mergekit_nb.engine.forms.form import Fast, Finished, finite
from mergekit_nb.engine.forms.stack import Stack, kernels
from mergekit_nb.engine.forms.trust import trusted
from mergekit_nb.maths import histogram
from mergekit_nb.methods.base import Totals
from mergekit_nb.weights.site import Site

CUDA = torch.device("cuda")


@dataclass(frozen=True)
class OnGpu(Fast):
    """A method's fused form: `finished` and `measured` are told of models that are on the device already.

    The merged vector stays there; all else is on the CPU.
    """

    device: torch.device = CUDA

    def measure(self, site, base, experts, totals):
        return self._run(self.measured, site, base, experts, totals)

    def finish(self, site, base, experts, totals):
        return self._run(self.finished, site, base, experts, totals)

    def measured(self, site: Site, stack: Stack, totals: Totals) -> dict[str, Tensor] | None:
        """As `Fast.measure`."""
        return None

    @abstractmethod
    def finished(self, site: Site, stack: Stack, totals: Totals) -> Finished | None:
        """As `Fast.finish`."""

    def _run(self, do: Callable, site: Site, base: Tensor, experts: list[Tensor], totals: Totals):
        try:
            with lane(self.device):
                if not trusted(type(self), common(base, experts), self.device):
                    return None
                return do(site, Stack.of(base, experts, self.device), totals)
        except RuntimeError as error:
            if "out of memory" not in str(error) or isinstance(error, torch.OutOfMemoryError):
                raise
            raise torch.OutOfMemoryError(str(error)) from None  # Triton's own words for it


def counted(stack: Stack, prefix: Tensor | None) -> Tensor | None:
    """`histogram.count` of magnitudes, in its first round or, with the prefixes found, in its second; on the CPU."""
    counts, top = stack.zeros(stack.tasks, 1 << histogram.DIGIT, dtype=torch.int64), stack.zeros(1, dtype=torch.int32)
    first = None if prefix is None else stack.numbers(prefix, torch.int32)
    kernels().count(stack.rows, stack.size, first, counts, top)
    counts, top = home(counts, top)
    return counts if finite(int(top)) else None
