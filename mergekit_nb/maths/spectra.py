"""Matrices by their singular vectors, cut at the numerical rank.

Beyond the numerical rank LAPACK's singular vectors are arbitrary: a method that weighs them would add noise of its own.
`eps` is that of the dtype the numbers came in: what float32 task vectors say about a singular value ends there.

Task vectors are decomposed in their own dtype, as the authors' code does: near a cut between close singular values float64
gives visibly other vectors. What all tasks share is then put together in float64, so that their order does not matter.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

Factors = tuple[Tensor, Tensor, Tensor]  # U "out k", singular values "k", Vh "k in"


def thin_svd(x: Float[Tensor, "out in"], eps: float) -> Factors:
    """U, the singular values above max(out, in) * eps * the largest, and Vh: as many as the numerical rank."""
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    rank = int((s > max(x.shape) * eps * s[:1].sum()).sum())
    return u[:, :rank], s[:rank], vh[:rank]


def leading(factors: Factors, count: int) -> Factors:
    """The `count` largest singular values and their vectors, or as many as there are."""
    u, s, vh = factors
    return u[:, :count], s[:count], vh[:count]


def beside(parts: list[Factors]) -> Factors:
    """Factors side by side, in float64: their product is the sum of the products."""
    u, s, vh = zip(*parts, strict=True)
    return torch.cat(u, 1).double(), torch.cat(s).double(), torch.cat(vh).double()


def product(u: Float[Tensor, "out k"], s: Float[Tensor, " k"], vh: Float[Tensor, "k in"]) -> Float[Tensor, "out in"]:
    """U diag(s) Vh."""
    return (u * s) @ vh


def polar(x: Float[Tensor, "out in"], eps: float) -> Float[Tensor, "out in"]:
    """The orthogonal polar factor: of all partial isometries on the same spaces the nearest to x (Procrustes)."""
    u, _, vh = thin_svd(x, eps)
    return u @ vh


def whitened(factors: Factors, eps: float) -> Factors:
    """The same singular values on vectors made orthonormal, all at once: no task comes before another."""
    u, s, vh = factors
    return polar(u, eps), s, polar(vh, eps)


def flattened(factors: Factors) -> Factors:
    """All singular values replaced by their mean: the nuclear norm stays."""
    u, s, vh = factors
    return u, s.mean().expand(len(s)) if len(s) else s, vh


def without(basis: Float[Tensor, "out k"], x: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """What of x lies at right angles to the orthonormal columns of the basis."""
    return x - basis @ (basis.T @ x)


def side_by_side(taus: Float[Tensor, "task out in"]) -> Float[Tensor, "out task_in"]:
    """All tasks' matrices in one, along the input axis."""
    return rearrange(taus, "task rows columns -> rows (task columns)")


def core_bases(
    b: Float[Tensor, "out task_rank"], a: Float[Tensor, "task_rank in"], eps: float
) -> tuple[Float[Tensor, "out k"], Float[Tensor, "l in"]]:
    """Orthonormal bases of what all outputs and all inputs of stacked LoRA factors span, strongest directions first."""
    return thin_svd(b, eps)[0], thin_svd(a, eps)[2]
