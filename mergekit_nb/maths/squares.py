"""Least squares on a layer from a Gram matrix: no sample is kept."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RIDGE = 1e-10  # of the mean diagonal entry: directions that the data hardly have keep the weights they had


def refit(
    start: Float[Tensor, "out in"],
    target: Float[Tensor, "out data"],
    lift: Float[Tensor, "in data"],
    gram: Float[Tensor, "data data"],
    allowed: Bool[Tensor, "out in"] | None = None,
) -> Float[Tensor, "out in"]:
    """The W that minimises E ||W L z - T z||^2, given G = E z z^T; where the data say nothing, W stays at `start`.

    Args:
        start: weights to begin with, 0 where not allowed.
        target: T, what of the data the outputs should be.
        lift: L, what of the data the inputs are.
        gram: G, up to a factor.
        allowed: which entries may be other than 0; all by default. Rows that allow the same are solved together.
    """
    seen = lift @ gram
    inputs, gap = seen @ lift.T, (target - start @ lift) @ seen.T
    rows = torch.ones_like(start, dtype=torch.bool) if allowed is None else allowed
    fitted = start.clone()
    for pattern in rows.unique(dim=0):
        chosen = torch.nonzero((rows == pattern).all(1)).squeeze(1)
        columns = torch.nonzero(pattern).squeeze(1)
        if len(columns):
            own = inputs[columns][:, columns]
            ridge = RIDGE * own.diagonal().mean().clamp(min=torch.finfo(own.dtype).tiny)
            factor = torch.linalg.cholesky(own + ridge * torch.eye(len(own)).to(own))
            step = torch.cholesky_solve(gap[chosen][:, columns].T, factor).T
            fitted[chosen[:, None], columns] += step
    return fitted


def loss(weights: Float[Tensor, "out in"], target: Float[Tensor, "out data"], lift: Float[Tensor, "in data"],
         gram: Float[Tensor, "data data"]) -> float:  # fmt: skip
    """E ||W L z - T z||^2, summed over outputs."""
    gap = weights @ lift - target
    return torch.einsum("od,de,oe->", gap, gram, gap).item()
