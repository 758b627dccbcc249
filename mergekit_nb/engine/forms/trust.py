"""Whether the fused kernels may be relied on here: they have to give the readable form's bits on a small sample first."""

from __future__ import annotations

import threading
import warnings
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mergekit_nb.engine.forms.stack import Stack
from mergekit_nb.maths import histogram
from mergekit_nb.methods.base import Method
from mergekit_nb.weights.modulators import pack
from mergekit_nb.weights.site import Site

if TYPE_CHECKING:
    from mergekit_nb.engine.forms.gpu import OnGpu

SIZE = 3001  # entries of the sample
ALONE = threading.Lock()
TOLD: set[torch.device] = set()


def trusted(form: type[OnGpu], dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this form's kernels compile, run and give the right bits for models of this dtype on this device.

    Tried once a process; where they do not, one warning says why.
    """
    with ALONE:
        return _trusted(form, dtype, device)


@cache
def _trusted(form: type[OnGpu], dtype: torch.dtype, device: torch.device) -> bool:
    try:
        why = "" if agrees(form, dtype, device) else "its result is not the CPU's"
    except Exception as error:  # whatever an old card, an old Triton or a missing compiler brings
        if "out of memory" in str(error):
            raise  # that says nothing about the kernel
        why = str(error).strip().partition("\n")[0] or type(error).__name__
    if why:
        _tell(device, f"the fused kernel for {form.suits.name} is not used on {device}: {why}")
    return not why


def _tell(device: torch.device, what: str) -> None:
    """Once a device is enough: most causes are one for all kernels."""
    if device not in TOLD:
        TOLD.add(device)
        warnings.warn(f"{what}; torch merges there instead, more slowly", stacklevel=2)


def agrees(form: type[OnGpu], dtype: torch.dtype, device: torch.device) -> bool:
    """Whether what the form measures and merges of the sample is what the method does, bit for bit."""
    method, site, (base, *experts) = form.suits(), Site("sample", (SIZE,), ("a", "b", "c")), sample(dtype)
    fused, stack = form(method, device=device), Stack.of(base, experts, device)
    taus, totals = torch.stack([expert.float() - base.float() for expert in experts]), ()
    for _ in range(method.rounds(torch.float32)):
        part, mine = method.measure(site, taus, totals), fused.measured(site, stack, totals)
        if mine is None or not all(torch.equal(exact(mine[key]), exact(part[key])) for key in part):
            return False
        totals += (part,)
    return _same(fused.finished(site, stack, totals), method, site, taus, totals)


def sample(dtype: torch.dtype) -> Tensor:
    """A base and three experts `4 SIZE`: fine-tuned a little, or so that tasks cancel out; some tiny, some unchanged."""
    g = torch.Generator().manual_seed(0)
    models = torch.randint(-9, 9, (4, SIZE), generator=g) / 64
    models[1:] = models[0] + torch.randint(-2, 3, (3, SIZE), generator=g) / 256
    models[1:, ::2] += 0.001 * torch.randn(3, len(range(0, SIZE, 2)), generator=g)
    models[:, ::7] *= 2.0**-130  # not normal any more: no unit may flush it to zero
    return models.to(dtype)


def exact(part: Tensor) -> Tensor:
    """Sums of magnitudes by what they stand for: mantissas may lie in other bins."""
    return torch.stack([histogram.total(side, torch.float32) for side in part]) if part.ndim == 4 else part


def _same(done, method: Method, site: Site, taus: Tensor, totals: tuple) -> bool:
    made = method.merge(site, taus, totals)
    vector, masks = made if isinstance(made, tuple) else (made, [])
    if done is None or not torch.equal(done.vector.cpu().view(torch.int32), vector.view(torch.int32)):
        return False
    return all(torch.equal(mine, pack(mask)) for mine, mask in zip(done.masks or [], masks, strict=True))
