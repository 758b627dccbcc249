"""How much a merged matrix disturbs what each task vector does to its own rows, and the matrix that disturbs least.

L(M) = sum over t of |(M - tau_t) tau_t'|^2 / |tau_t|^2 is quadratic, so its gradient 2 (M S - C) needs only
S = sum of G_t and C = sum of tau_t G_t, with G_t = tau_t' tau_t / |tau_t|^2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum


def normal_equations(taus: Float[Tensor, "task out in"]) -> tuple[Float[Tensor, "in in"], Float[Tensor, "out in"]]:
    """S and C above, in float64; a task vector of zeros adds nothing."""
    wide = taus.double()
    squares = (wide**2).sum((1, 2), keepdim=True)
    grams = wide.mT @ wide / torch.where(squares > 0, squares, torch.ones_like(squares))
    return ordered_sum(grams), ordered_sum(wide @ grams)


def solve(gram: Float[Tensor, "in in"], target: Float[Tensor, "out in"], eps: float) -> Float[Tensor, "out in"]:
    """The M of the smallest norm with M S = C; directions below the numerical rank of task vectors of that `eps` are 0.

    The eigenvalues of S are squares of singular values: what is noise in those is noise squared here, or float64's own.
    """
    size = max(target.shape)
    cut = max((size * eps) ** 2, size * torch.finfo(gram.dtype).eps)
    return target @ torch.linalg.pinv(gram, hermitian=True, rtol=cut)


def descend(
    start: Float[Tensor, "out in"], gram: Tensor, target: Tensor, rate: float, iterations: int
) -> Float[Tensor, "out in"]:
    """`iterations` steps of Adam from `start`, with its usual constants."""
    merged = start.clone()
    adam = torch.optim.Adam([merged], lr=rate)
    for _ in range(iterations):
        merged.grad = 2 * (merged @ gram - target)
        adam.step()
    return merged
