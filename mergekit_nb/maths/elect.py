"""EMR's three steps, each on its own: elect, mask, rescale.

Source: Huang et al. 2024, "EMR-Merging: Tuning-Free High-Performance Model Merging", arXiv:2405.17461, section 3.2 and
Algorithm 1. Where paper and the authors' code differ, the code is followed and the difference is said.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Tie = Literal["negative", "zero", "positive"]


class Elected(NamedTuple):
    """What the tasks agreed on: `sign` in {-1, 0, 1} and the unified task `vector`, both of the shape of one task."""

    sign: Tensor
    vector: Tensor


def ordered_sum(taus: Float[Tensor, "task *shape"]) -> Float[Tensor, "*shape"]:
    """The sum over tasks, added in task order, entry by entry.

    A library reduction may add in an order that depends on the shape; then an entry whose tasks cancel to within
    rounding would change its sign with the way a tensor is cut into pieces.
    """
    total = taus[0].clone()
    for tau in taus[1:]:
        total += tau
    return total


def elected_sign(taus: Float[Tensor, "task *shape"], tie: Tie = "negative") -> Float[Tensor, "*shape"]:
    """The sign of the sum over tasks: +1 or -1; where the sum is 0, `tie` decides.

    The paper's sgn(0) = 0 elects nothing on an exact tie (`tie="zero"`); the authors' code elects the negative side,
    which is the default here. Ties are rare in float32 and common in 16-bit checkpoints.
    """
    sign = torch.sign(ordered_sum(taus))
    value = {"negative": -1, "zero": 0, "positive": 1}[tie]
    return torch.where(sign == 0, torch.full_like(sign, value), sign)


def mask(taus: Float[Tensor, "task *shape"], sign: Float[Tensor, "*shape"]) -> Bool[Tensor, "task *shape"]:
    """Mask: True where a task pulls the elected way. A zero never agrees.

    The paper writes `tau * tau_uni > 0`; the same set, but that product can underflow, so the sign is used.
    """
    return taus * sign > 0


def elect(taus: Float[Tensor, "task *shape"], tie: Tie = "negative") -> Elected:
    """Elect: per entry the sign of the sum, and the largest magnitude among the tasks that agree with it.

    Args:
        taus: task vectors, fine-tuned minus base, in weight units; at least one task.
        tie: which sign an entry gets whose tasks sum to 0.

    Returns:
        `Elected(sign, vector)`; the vector is 0 where no task agrees.
    """
    sign = elected_sign(taus, tie)
    agreeing = torch.where(mask(taus, sign), taus.abs(), torch.zeros_like(taus))
    return Elected(sign, sign * agreeing.amax(0))


def masked(vector: Float[Tensor, "*shape"], masks: Bool[Tensor, "task *shape"]) -> Float[Tensor, "task *shape"]:
    """Every task's share of the unified vector: M_t * tau_uni."""
    return torch.where(masks, vector, torch.zeros_like(vector))


def rescale(own: Float[Tensor, "*task"], shared: Float[Tensor, "*task"]) -> Float[Tensor, "*task"]:
    """Rescale: lambda_t = own_t / shared_t, so that a task's share is as large as its own task vector was.

    Args:
        own: size of each task vector, mean |tau_t| (or a sum of such means over tensors, see `methods.emr`).
        shared: size of its share of the unified vector, mean |M_t * tau_uni|, in the same unit.

    Returns:
        The rescaler of every task, >= 0; 1 where `shared` is 0 (the share is 0 and nothing can rescale it; the
        authors' code gives NaN there, and with it a NaN model).
    """
    empty = shared == 0
    return torch.where(empty, torch.ones_like(own), own / torch.where(empty, torch.ones_like(shared), shared))
