"""Some single weights of one tensor, and what the competition's steps make of each. Torch and numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.widgets.competition.contest import Contest
from mergekit_nb.widgets.walk.columns import chosen


@dataclass(frozen=True)
class Columns:
    """K weights of one tensor. Values are float32; tau and merged in weight units, the rest without unit.

    Attributes:
        index: weight, flat positions in the tensor, ascending.
        place: weight, the same positions as `[row, column]`.
        tau: task weight, task vectors.
        intra, inter, score: task weight; score = intra * inter.
        strength: task weight, log intra as a share of the greatest it can be, in [0, 1].
        reach: task weight, half the score's share of the task's threshold, cut to [-1, 1]: half colour at the threshold.
        kept: task weight, in {0, 1}.
        weight: task weight, in [0, 1] (the paper's form: any), 0 where dropped.
        part: task weight, the share of the weight in its column's sum.
        winner: weight, number of the task with the largest weight, -1 where every task drops it.
        survivors: weight, how many tasks keep it.
        merged: weight, the merged task vector.
        here: task, share of this tensor's entries that the task keeps.
        cut: task, the thresholds.
        scale: the magnitude of tau drawn in full colour.
    """

    index: np.ndarray
    place: tuple[str, ...]
    tau: np.ndarray
    intra: np.ndarray
    inter: np.ndarray
    score: np.ndarray
    strength: np.ndarray
    reach: np.ndarray
    kept: np.ndarray
    weight: np.ndarray
    part: np.ndarray
    winner: np.ndarray
    survivors: np.ndarray
    merged: np.ndarray
    here: np.ndarray
    cut: np.ndarray
    scale: float


@torch.no_grad()
def columns(
    contest: Contest,
    name: str,
    scale: float,
    pick: str,
    k: int,
    seed: int = 0,
    indices: tuple[int, ...] = (),
) -> Columns:
    """What every step makes of some weights of the tensor `name`; pick, k, seed and indices as in `walk.columns.chosen`."""
    taus, weights = contest.study.vectors.at(name).flatten(1), contest.weights(name).flatten(1)
    where = chosen(taus, pick, k, name, seed, indices)
    tau, weight = taus[:, where], weights[:, where]
    score, intra = contest.scores(name).flatten(1)[:, where], contest.intra(name).flatten(1)[:, where]
    kept = weight > 0
    cut = torch.from_numpy(contest.cut)[:, None]
    reach = (score / (2 * torch.where(cut == 0, torch.ones_like(cut), cut.abs()))).clamp(-1, 1)
    return Columns(
        index=where.numpy(),
        place=_places(where, contest.study.vectors.site(name).shape),
        tau=tau.numpy(),
        intra=intra.numpy(),
        inter=(score / intra).numpy(),
        score=score.numpy(),
        strength=(intra.log() / len(tau)).clamp(0, 1).numpy(),
        reach=reach.float().numpy(),
        kept=kept.numpy().astype(np.int8),
        weight=weight.numpy(),
        part=(weight / weight.sum(0).clamp(min=1e-30)).numpy(),
        winner=torch.where(kept.any(0), weight.argmax(0), -1).numpy().astype(np.int8),
        survivors=kept.sum(0).numpy().astype(np.int8),
        merged=contest.merged(name, scale).flatten()[where].numpy(),
        here=(weights > 0).double().mean(1).numpy(),
        cut=contest.cut,
        scale=float(tau.abs().max()),
    )


def _places(where: Tensor, shape: Sequence[int]) -> tuple[str, ...]:
    places = np.stack(np.unravel_index(where.numpy(), tuple(shape) or (1,)), 1)
    return tuple("[" + ", ".join(map(str, place)) + "]" for place in places)
