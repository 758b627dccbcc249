"""Which entries of a task vector survive, and how the survivors are scaled back."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Rescale = Literal["expectation", "l1", "l2", "linf"]
Spread = Literal["row", "tensor", "size"]


def largest(x: Float[Tensor, "*lead n"], count: int) -> Bool[Tensor, "*lead n"]:
    """Exactly the `count` largest |x| along the last axis; of equal magnitudes the first stay (any device, same bits)."""
    order = x.abs().argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(x, dtype=torch.bool).scatter_(-1, order[..., :count], True)


def above(x: Float[Tensor, "task *shape"], threshold: Float[Tensor, " task"]) -> Bool[Tensor, "task *shape"]:
    """True where |x| reaches its task's threshold (>=, as the authors of TIES do)."""
    return x.abs() >= threshold.reshape(-1, *[1] * (x.ndim - 1))


def above_rank(x: Float[Tensor, "*shape"], rank: int) -> Bool[Tensor, "*shape"]:
    """True where |x| is larger than the `rank`-th smallest magnitude of the whole tensor; rank 0 keeps all.

    DARE's `magnitude` variant: everything equal to the threshold goes too.
    """
    if rank <= 0 or not x.numel():
        return torch.ones_like(x, dtype=torch.bool)
    return x.abs() > x.abs().flatten().kthvalue(min(rank, x.numel())).values


def restore(
    pruned: Float[Tensor, "*shape"], original: Float[Tensor, "*shape"], drop: float, how: Rescale | None
) -> Float[Tensor, "*shape"]:
    """Scale the survivors of one task and tensor.

    Args:
        pruned: `original` with entries set to 0.
        drop: the rate at which entries were dropped, in [0, 1].
        how: "expectation" divides by 1 - drop (Yu et al. 2023, DARE, eq. 2); "l1", "l2", "linf" restore that norm of
            the tensor (mergekit's `rescale: true` is "l1"); None leaves the survivors as they are.

    Returns:
        The scaled tensor; zeros where nothing survived.
    """
    if how is None:
        return pruned
    if how == "expectation":
        return pruned / (1 - drop) if drop < 1 else torch.zeros_like(pruned)
    before, after = (norm(t, how) for t in (original, pruned))
    return pruned * (before / after).to(pruned.dtype) if after > 0 else torch.zeros_like(pruned)


def norm(x: Float[Tensor, "*shape"], how: Literal["l1", "l2", "linf"]) -> Float[Tensor, ""]:
    """The norm of the whole tensor, taken as one vector; float64, in which squares of float32 do not overflow."""
    if not x.numel():
        return x.new_zeros((), dtype=torch.float64)
    return torch.linalg.vector_norm(x, {"l1": 1, "l2": 2, "linf": float("inf")}[how], dtype=torch.float64)


def middle(x: Float[Tensor, "*lead n"], count: int, skip: int) -> Bool[Tensor, "*lead n"]:
    """The `count` largest |x| along the last axis after the `skip` largest; of equal magnitudes the first come first."""
    order = x.abs().argsort(dim=-1, descending=True, stable=True)
    chosen = order[..., skip : skip + max(count, 0)]
    return torch.zeros_like(x, dtype=torch.bool).scatter_(-1, chosen, True)


def keep_chance(x: Float[Tensor, "*shape"], density: float, window: float, by: Spread) -> Float[Tensor, "*shape"]:
    """DELLA's chance of every entry to stay, from density - window for the smallest to density + window for the largest.

    Args:
        by: ranks within a "row" of the last axis or within the whole "tensor", or "size": linear in the magnitude between
            the row's least and greatest, to which the authors add 1e-7. A row of one entry gets `density`.

    Source: Deep et al. 2024, arXiv:2406.11617, MagPrune, with the authors' variants.
    """
    if not x.numel():
        return torch.full_like(x, density)
    rows = x.abs().reshape(-1, x.shape[-1] if by != "tensor" and x.ndim > 1 else x.numel())
    if by == "size":
        least, greatest = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        place = (rows - least) / (greatest - least + 1e-7)
    elif rows.shape[1] == 1:
        place = torch.full_like(rows, 0.5)
    else:
        place = rows.argsort(dim=1, stable=True).argsort(dim=1).to(x.dtype) / (rows.shape[1] - 1)
    return (density - window + 2 * window * place).reshape(x.shape)


def n_of_m(x: Float[Tensor, "*shape"], n: int, m: int) -> Bool[Tensor, "*shape"]:
    """The `n` largest |x| of every `m` that follow each other, row-major; an incomplete last group keeps nothing."""
    flat = x.flatten()
    whole = flat[: len(flat) // m * m].reshape(-1, m)
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[: whole.numel()] = largest(whole, n).flatten()
    return kept.reshape(x.shape)
