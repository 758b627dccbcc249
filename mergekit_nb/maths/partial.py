"""Merging part of the features of two models: the pairs that agree become one feature, the others stay apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mergekit_nb.maths.matching import Zip


def partial(order: Int[Tensor, " feature"], similarity: Float[Tensor, " feature"], ratio: float) -> Zip:
    """The pairs with the largest similarities as groups of two, the features of all others alone.

    The layout is [merged | only the first model's | only the second's]. M of `Zip` averages the pairs and keeps the others,
    so that of a weight between two such spaces merged -> merged is the mean, merged -> alone the own model's weights,
    alone -> merged half of them, and between the two models' own features nothing.

    Args:
        order: which feature of the second model is matched with each of the first.
        similarity: of each such pair, any unit.
        ratio: the share that stays apart, in [0, 1]: a pair is merged where its similarity is at least the `ratio`-quantile;
            with 1 none is (the authors' code then merges the most similar one, of features matched by their numbers).

    Source: Nasery et al. 2024, PLeaS, arXiv:2407.02447; code SewoongLab/PLeaS-Merging, partial_matching.py.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio is the share of features that stay apart, in [0, 1]; got {ratio}")
    width = len(order)
    enough = similarity >= torch.quantile(similarity, ratio) if ratio < 1 else torch.zeros(width, dtype=torch.bool)
    pairs = [(i, width + int(order[i])) for i in range(width)]
    merged = [pair for pair, close in zip(pairs, enough.tolist(), strict=True) if close]
    apart = [pair for pair, close in zip(pairs, enough.tolist(), strict=True) if not close]
    groups = [*merged, *((one,) for one, _ in apart), *((other,) for _, other in apart)]
    unmerge = torch.zeros(2 * width, len(groups))
    for column, group in enumerate(groups):
        unmerge[list(group), column] = 1
    return Zip(tuple(groups), unmerge.T.contiguous() / unmerge.sum(0)[:, None], unmerge, 2)


class Layer(NamedTuple):
    """What a layer costs.

    Attributes:
        cost: of one of the models, in any unit.
        reads, writes: space -> the share of the layer's input or output axis that it fills.
    """

    cost: float
    reads: Mapping[str, float]
    writes: Mapping[str, float]


def relative_cost(layers: Sequence[Layer], ratios: Mapping[str, float]) -> float:
    """How much dearer the merged model is than one model: 1 where all is merged, 2 where nothing is.

    Between spaces of which r and s stay apart it is (1 + r)(1 + s) - 2 r s: blocks from one model's own features to the
    other's are zero.
    """
    total = sum(
        layer.cost * into * out * (1 + r + s - r * s)
        for layer in layers
        for r, into in _shares(layer.reads, ratios)
        for s, out in _shares(layer.writes, ratios)
    )
    return total / sum(layer.cost for layer in layers)


def within_budget(
    similarities: Mapping[str, Float[Tensor, " feature"]], layers: Sequence[Layer], budget: float
) -> dict[str, float]:
    """How much of every space stays apart, so that what is merged agrees best and the model costs at most `budget`.

    Least is the sum over spaces of 1 - similarity of the merged pairs, as a share of the space's features. The authors
    hand a quadratic programme to a commercial solver; this is scipy's SLSQP from several starts, scaled back into the budget.

    Args:
        similarities: space -> of its matched pairs, correlations.
        budget: cost relative to one model, in [1, 2].

    Returns:
        space -> ratio in [0, 1].
    """
    from scipy.optimize import minimize  # its import takes longer than most work here

    if not 1 <= budget <= 2:
        raise ValueError(f"budget is the cost relative to one model, in [1, 2]; got {budget}")
    if not similarities:
        return {}
    names = list(similarities)
    losses = [_loss(similarities[name]) for name in names]
    value = lambda x: sum(np.interp(r, *loss) for r, loss in zip(x, losses, strict=True))  # noqa: E731
    cost = lambda x: relative_cost(layers, dict(zip(names, x, strict=True)))  # noqa: E731
    room = {"type": "ineq", "fun": lambda x: budget - cost(x)}
    tried = []
    for start in (0.0, budget - 1, 0.5, 1.0):
        found = minimize(
            value, np.full(len(names), start), bounds=[(0, 1)] * len(names), constraints=room, method="SLSQP"
        )
        tried.append(_scaled_back(np.clip(found.x, 0, 1), cost, budget))
    return dict(zip(names, map(float, min(tried, key=value)), strict=True))


def _shares(filled: Mapping[str, float], ratios: Mapping[str, float]) -> list[tuple[float, float]]:
    rest = 1 - sum(filled.values())
    return [(ratios.get(space, 0.0), share) for space, share in filled.items()] + [(0.0, rest)]


def _loss(similarity: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The loss as a function of the ratio, at the ratios where one more pair stays apart."""
    misfit = np.sort(1 - similarity.double().numpy())
    merged = np.concatenate([[0.0], misfit.cumsum()]) / len(misfit)
    return np.linspace(0, 1, len(misfit) + 1), merged[::-1]


def _scaled_back(ratios: np.ndarray, cost, budget: float) -> np.ndarray:
    """The largest multiple of the ratios, up to 1, that the budget allows; cost grows with each of them."""
    low, high = 0.0, 1.0
    if cost(ratios) <= budget:
        return ratios
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle * ratios) <= budget else (low, middle)
    return low * ratios
