"""What was computed, in the dtype that it is stored in; refused where that cannot hold it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.engine.feed import home
from mergekit_nb.engine.forms.form import KINDS, kernels
from mergekit_nb.methods.base import Method
from mergekit_nb.weights.merged import added
from mergekit_nb.weights.rooms import ROOMS

# the bits of half the largest number
HALF = {
    dtype: torch.tensor(torch.finfo(dtype).max / 2, dtype=torch.float32).view(torch.int32).item() for dtype in KINDS
}
NARROW = 1e30  # dtypes that end below this (float16, float8) overflow in earnest


def stored(
    method: Method, name: str, base: Tensor, vector: Tensor, dtype: torch.dtype, adding: bool, compiled: bool
) -> Tensor:
    """The merged vector, or base and vector together, in `dtype`, on the CPU; `base` and `vector` are flat.

    Args:
        compiled: whether the compiled loop may do it; it gives the same bits.

    Raises:
        ValueError: the base's dtype cannot hold the vector, or base and vector together.
    """
    if compiled and vector.device.type == "cpu" and vector.dtype == torch.float32 and {dtype, base.dtype} <= set(KINDS):
        return _compiled(method, name, base, vector, dtype, adding)
    base = base.to(vector.device, non_blocking=True)
    check_range(method, name, base, vector)
    return home(added(base, vector) if adding else vector.to(dtype))[0]


def _compiled(method: Method, name: str, base: Tensor, vector: Tensor, dtype: torch.dtype, adding: bool) -> Tensor:
    base, vector = base.detach().contiguous(), vector.contiguous()
    out = vector if dtype == torch.float32 and not adding else ROOMS.take("stored", vector.numel(), dtype)
    places = np.array([(t.data_ptr(), KINDS[t.dtype]) for t in (base, out)], np.int64)
    top = kernels().store(places, vector.numel(), adding, vector.numpy())
    if top > HALF[base.dtype]:  # or NaN
        check_range(method, name, base, vector)
    return out


def check_range(method: Method, name: str, base: Tensor, vector: Tensor) -> None:
    """Refuse a merged vector, or with it a model, that its dtype cannot hold: stored, it would be infinite or NaN."""
    if not vector.numel():
        return
    limit, reach = torch.finfo(base.dtype).max, float(torch.stack(vector.aminmax()).abs().max())
    near = limit / 2 if limit > NARROW else limit - float(base.to(vector.dtype).abs().max())
    if reach <= near:
        return
    total = (base.to(vector) + vector.flatten()).to(base.dtype)
    bad = int((~torch.isfinite(total.float())).sum())
    if bad or not reach < limit:
        raise ValueError(
            f"{method.label} makes {bad or 'some'} of {vector.numel()} weights in {name} too large for "
            f"{str(base.dtype).removeprefix('torch.')}, which ends at {limit:g}; merge with a smaller scale, or leave the tensor "
            f"out with exclude={name!r}"
        )
