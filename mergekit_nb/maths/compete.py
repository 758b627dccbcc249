"""PCB-Merging's steps, each on its own: clip, balance within a task, balance between tasks, drop, rescale, fuse.

Source: Du et al. 2024, "Parameter Competition Balancing for Model Merging", arXiv:2410.02396. The authors released four
variants that differ from the paper's formulas and in two places from each other; the code is followed; `softmax_*` and
`keep` give the paper's form. Ranges and thresholds are arguments, so that a model can be scored tensor by tensor.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum

Variant = Literal["A", "B", "C", "D"]
SMALLEST = 1e-12  # what the authors divide by where every task drops an entry
LARGEST_EXPONENT = 80  # exp of more leaves float32; what all scores share cancels when they are rescaled


def clip_ranks(size: int, q: float) -> tuple[int, int]:
    """1-based ranks of the magnitudes that a task vector of `size` entries is clipped to.

    The products are truncated as the authors do, so the largest magnitude itself is always clipped.
    """
    return int(size * q) + 1, int(size * (1 - q) - 1) + 1


def cut_rank(size: int, ratio: float) -> int:
    """1-based rank, from the smallest, of the score at which and below which entries are dropped."""
    return min(int(size * (1 - ratio)), size - 1) + 1


def clip_range(taus: Float[Tensor, "task *shape"], q: float) -> tuple[Tensor, Tensor]:
    """The smallest and largest magnitude each whole task vector is clipped to: task, task."""
    ordered = taus.abs().reshape(len(taus), -1).sort(1).values
    low, high = clip_ranks(ordered.shape[1], q)
    return ordered[:, low - 1], ordered[:, high - 1]


def cut_range(scores: Float[Tensor, "task *shape"], ratio: float) -> tuple[Tensor, Tensor]:
    """The score at and below which entries of each whole task vector are dropped, and the highest: task, task."""
    ordered = scores.reshape(len(scores), -1).sort(1).values
    return ordered[:, cut_rank(ordered.shape[1], ratio) - 1], ordered[:, -1]


def clip(
    taus: Float[Tensor, "task *shape"], low: Float[Tensor, " task"], high: Float[Tensor, " task"]
) -> Float[Tensor, "task *shape"]:
    """Task vectors with outliers cut to `high` and small magnitudes raised to `low`; zeros stay zero."""
    return taus.sign() * _clipped(taus, low, high)


def intra_balance(
    taus: Float[Tensor, "task *shape"], low: Float[Tensor, " task"], high: Float[Tensor, " task"]
) -> Float[Tensor, "task *shape"]:
    """How much an entry matters within its own task: exp(T * unit(|tau|)^2), in [1, e^T].

    `unit` runs from 0 at `low` to 1 at `high`; a task whose magnitudes are all the same gets 1 everywhere. From 80
    tasks on all scores share a factor that keeps them in float32 and that rescaling removes.
    """
    exponent = len(taus) * _unit(_clipped(taus, low, high), torch.minimum(low, high), high) ** 2
    return torch.exp(exponent - max(len(taus) - LARGEST_EXPONENT, 0))


def inter_balance(
    taus: Float[Tensor, "task *shape"],
    variant: Variant = "A",
    low: Float[Tensor, " task"] | None = None,
    high: Float[Tensor, " task"] | None = None,
) -> Float[Tensor, "task *shape"]:
    """How far the other tasks pull an entry the same way; negative where most pull the other way.

    With S = sign(tau) * unit(|tau|): "A" and "B" tanh(tau_i * sum of tau_j), "C" tanh(tau_i * sum of S_j), both in
    (-1, 1); "D" sum of tanh(S_i * S_j), in (-T, T).

    Args:
        low, high: the range of `unit`, needed for "C" and "D".
    """
    if variant in ("A", "B"):
        return torch.tanh(taus * _wide_sum(taus))
    shares = taus.sign() * _unit(_clipped(taus, low, high), torch.minimum(low, high), high)
    if variant == "C":
        return torch.tanh(taus * _wide_sum(shares))
    return torch.stack([_wide_sum(torch.tanh(share * shares)) for share in shares])


def drop(
    scores: Float[Tensor, "task *shape"], cut: Float[Tensor, " task"], top: Float[Tensor, " task"]
) -> Bool[Tensor, "task *shape"]:
    """True where an entry survives: its score is above the task's `cut`.

    Where the cut is the highest score, nothing is above it (the authors' 0/0): the entries that reach it survive if it
    is positive, and none if not.
    """
    cut, top = _wide(cut, scores), _wide(top, scores)
    return (scores > cut) | ((cut == top) & (top > 0) & (scores == top))


def rescale(
    scores: Float[Tensor, "task *shape"],
    kept: Bool[Tensor, "task *shape"],
    cut: Float[Tensor, " task"],
    top: Float[Tensor, " task"],
) -> Float[Tensor, "task *shape"]:
    """Weights in [0, 1]: 0 where dropped, 1 at the task's highest score, linear from the cut to it."""
    weights = torch.where(_wide(top > cut, scores), _unit(scores, cut, top), torch.ones_like(scores))
    return torch.where(kept, weights, torch.zeros_like(scores))


def fuse(
    taus: Float[Tensor, "task *shape"], weights: Float[Tensor, "task *shape"], scales: Float[Tensor, " task"]
) -> Float[Tensor, "*shape"]:
    """The weighted mean of the scaled task vectors, entry by entry; 0, and never -0.0, where every task is dropped."""
    summed = _wide_sum(taus * _wide(scales, taus) * weights) + 0.0
    return summed / _wide_sum(weights).clamp(min=SMALLEST)


def softmax_range(taus: Float[Tensor, "task *shape"]) -> Float[Tensor, "2 task task"]:
    """Smallest and largest of tau_i * tau_j over the entries, for every pair of tasks; at least one entry."""
    products = [(tau * taus).reshape(len(taus), -1) for tau in taus]
    return torch.stack([torch.stack([p.amin(1) for p in products]), torch.stack([p.amax(1) for p in products])])


def softmax_intra(
    taus: Float[Tensor, "task *shape"], ends: Float[Tensor, "2 task task"]
) -> Float[Tensor, "task *shape"]:
    """Numerators of the paper's Softmax(T * norm(tau_i * tau_i)), divided by e^T; `norm` runs from 0 to 1."""
    low, high = ends.diagonal(dim1=1, dim2=2)
    return torch.exp(len(taus) * (_unit(taus * taus, low, high) - 1))


def softmax_inter(
    taus: Float[Tensor, "task *shape"], i: int, ends: Float[Tensor, "2 task task"]
) -> Float[Tensor, "task *shape"]:
    """Numerators of the paper's Softmax(norm(tau_i * tau_j)), of one task i with every task j."""
    low, high = ends[:, i]
    return torch.exp(_unit(taus[i] * taus, low, high))


def softmax_scores(
    taus: Float[Tensor, "task *shape"],
    ends: Float[Tensor, "2 task task"],
    intra: Float[Tensor, " task"],
    inter: Float[Tensor, "task task"],
) -> Float[Tensor, "task *shape"]:
    """The paper's scores, Softmax(T * norm(tau_i^2)) * sum over j of Softmax(norm(tau_i * tau_j)), times the squared size.

    Args:
        ends: from `softmax_range`, over the whole model.
        intra, inter: means of the numerators over the whole model.
    """
    between = [_wide_sum(softmax_inter(taus, i, ends) / _wide(inter[i], taus)) for i in range(len(taus))]
    return softmax_intra(taus, ends) / _wide(intra, taus) * torch.stack(between)


def keep(scores: Float[Tensor, "task *shape"], cut: Float[Tensor, " task"]) -> Float[Tensor, "task *shape"]:
    """The paper's mask: scores that reach their task's cut, 0 elsewhere."""
    return torch.where(scores >= _wide(cut, scores), scores, torch.zeros_like(scores))


def _clipped(taus: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(taus.abs(), _wide(low, taus)), _wide(high, taus))


def _unit(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    span = high - low
    return (x - _wide(low, x)) / _wide(torch.where(span > 0, span, torch.ones_like(span)), x)


def _wide(numbers: Tensor, taus: Tensor) -> Tensor:
    return numbers.reshape(-1, *[1] * (taus.ndim - 1))


def _wide_sum(taus: Tensor) -> Tensor:
    """The sum over tasks, added in float64: then the order of the tasks moves no score across a threshold."""
    return ordered_sum(taus.double()).to(taus.dtype)
