"""Measures of every layer in a competition, from one pass over the tensors. Torch and numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from mergekit_nb.widgets.competition.contest import Contest

REACH = 4.0  # the distribution ends at scores 10^4 times the threshold; what lies beyond is counted at the ends
EDGES = np.linspace(-REACH, REACH, 81)
MIDDLES = (EDGES[1:] + EDGES[:-1]) / 2


@dataclass(frozen=True)
class Overview:
    """Measures by layer and task, float64: shares of the entries of a layer, in [0, 1], unless said otherwise.

    Attributes:
        layers, tasks: names of the axes.
        size: layer task, mean |tau|, weight units.
        loud: layer task, intra-balancing counts them more than e times the least.
        against: layer task, inter-balancing is negative: most others pull the other way.
        kept: layer task, not dropped.
        won: layer task, the task's weight is the largest of all; an entry is won once.
        nobody: layer, every task drops them.
        alone: layer, exactly one task keeps them, so its value is not averaged with any.
        spread: layer task bin, how the scores are distributed over `EDGES`, see `place`.
        cut: task, where the threshold stands in `spread`.
    """

    layers: tuple[str, ...]
    tasks: tuple[str, ...]
    size: np.ndarray
    loud: np.ndarray
    against: np.ndarray
    kept: np.ndarray
    won: np.ndarray
    nobody: np.ndarray
    alone: np.ndarray
    spread: np.ndarray
    cut: np.ndarray


def place(scores: Tensor, cut: Tensor) -> Tensor:
    """Where scores stand on an axis that shows all their magnitudes: sign * log10(1 + |score / threshold|).

    Args:
        scores: task *shape
        cut: task, the thresholds; one that is 0 is replaced by 1.
    """
    unit = torch.where(cut == 0, torch.ones_like(cut), cut.abs()).reshape(-1, *[1] * (scores.ndim - 1))
    return scores.sign() * torch.log10(1 + scores.abs() / unit)


@torch.no_grad()
def overview(contest: Contest) -> Overview:
    """Measure every layer."""
    study, sums = contest.study, {}
    cut = torch.from_numpy(contest.cut).float()
    for layer, names in study.layers.items():
        parts = [_tensor_sums(contest, name, cut) for name in names]
        sums[layer] = {key: sum(part[key] for part in parts) for key in parts[0]}
    entries = np.array([layer["n"] for layer in sums.values()])
    shares = {key: _share(sums, key, entries) for key in next(iter(sums.values())) if key != "n"}
    return Overview(tuple(sums), study.tasks, cut=place(cut, cut).double().numpy(), **shares)


def _tensor_sums(contest: Contest, name: str, cut: Tensor) -> dict[str, np.ndarray]:
    """Everything that adds up over tensors."""
    taus, scores = contest.study.vectors.at(name).flatten(1), contest.scores(name).flatten(1)
    weights, intra = contest.weights(name).flatten(1), contest.intra(name).flatten(1)
    survivors = (weights > 0).sum(0)
    winner = torch.where(survivors > 0, weights.argmax(0), len(taus))
    placed = place(scores, cut).clamp(-REACH, REACH)
    sums = {
        "n": torch.tensor(taus.shape[1]),
        "size": taus.double().abs().sum(1),
        "loud": (intra > torch.e).sum(1),
        "against": (scores < 0).sum(1),
        "kept": (weights > 0).sum(1),
        "won": torch.bincount(winner, minlength=len(taus) + 1)[:-1],
        "nobody": (survivors == 0).sum(),
        "alone": (survivors == 1).sum(),
        "spread": torch.stack([torch.histc(row, len(MIDDLES), -REACH, REACH) for row in placed]),
    }
    return {key: value.double().numpy() for key, value in sums.items()}


def _share(sums: Mapping[str, Mapping[str, np.ndarray]], key: str, entries: np.ndarray) -> np.ndarray:
    stacked = np.stack([layer[key] for layer in sums.values()])
    return stacked / entries.reshape(-1, *[1] * (stacked.ndim - 1))
