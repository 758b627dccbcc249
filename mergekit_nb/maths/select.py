"""SCE's steps: select what varies, weigh tasks by what they change there.

Source: Wan et al. 2024, "FuseChat", arXiv:2408.07990, section on SCE.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.prune import largest


def variation(taus: Float[Tensor, "task *shape"]) -> Float[Tensor, "*shape"]:
    """T^2 times the (biased) variance over the tasks, float64; exactly 0 where all tasks agree."""
    off = taus.double() - taus[0].double()
    return (len(taus) * ordered_sum(off**2) - ordered_sum(off) ** 2).clamp(min=0)


def select(taus: Float[Tensor, "task *shape"], share: float) -> Bool[Tensor, "*shape"]:
    """True for the int(share * n) entries of the tensor that vary most, of n that vary at all; 1 selects all."""
    if share == 1:
        return torch.ones_like(taus[0], dtype=torch.bool)
    varies = variation(taus)
    return largest(varies.flatten(), int(share * int(varies.count_nonzero()))).reshape(varies.shape)


def energy_shares(taus: Float[Tensor, "task *shape"]) -> Float[Tensor, " task"]:
    """Every task's share of the sum of squares; equal shares where all are 0."""
    energy = (taus.double() ** 2).reshape(len(taus), -1).sum(1)
    whole = energy.sum()
    return torch.where(whole > 0, energy / whole, torch.full_like(energy, 1 / len(taus))).to(taus.dtype)
