"""Some single weights of one tensor: which ones, and what elect, mask and rescale make of each. Torch and numpy only."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.maths.elect import elected_sign, ordered_sum


@dataclass(frozen=True)
class Columns:
    """K weights of one tensor. Values are in weight units, float32.

    Attributes:
        index: weight, flat positions in the tensor, ascending.
        place: weight, the same positions as `[row, column]`.
        tau: task weight, task vectors.
        total: weight, their sum.
        elected: weight, the elected sign in {-1, 0, 1}.
        kept: task weight, the mask, in {0, 1}.
        winner: weight, number of the task whose value is shared, -1 where no task agrees.
        shared: weight, the unified task vector.
        rebuilt: task weight, rescaler * mask * shared.
        scalers: task, the rescalers.
        scale: the magnitude drawn in full colour.
    """

    index: np.ndarray
    place: tuple[str, ...]
    tau: np.ndarray
    total: np.ndarray
    elected: np.ndarray
    kept: np.ndarray
    winner: np.ndarray
    shared: np.ndarray
    rebuilt: np.ndarray
    scalers: np.ndarray
    scale: float


def chosen(taus: Tensor, pick: str, k: int, key: str = "", seed: int = 0, indices: Sequence[int] = ()) -> Tensor:
    """Positions of the weights to show, ascending: at most k.

    Args:
        taus: task entry
        pick: "most conflicting" (most magnitude cancels in the vote), "largest" (largest magnitude of any task),
            "random", or "typed" (`indices` as they are).
        key: with `seed`, what random positions are drawn from: the tensor's name.
    """
    size = taus.shape[1]
    if pick == "typed" and indices:
        return torch.tensor(sorted(set(indices)))
    if pick == "random":
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}\0{key}".encode()))
        return torch.randperm(size, generator=generator)[:k].sort().values
    score = cancelled(taus) if pick == "most conflicting" else taus.abs().amax(0)
    return score.topk(min(k, size)).indices.sort().values


def cancelled(taus: Tensor) -> Tensor:
    """How much magnitude the vote cancels: sum |tau| - |sum tau|, entry by entry; 0 where all tasks pull one way."""
    return taus.abs().sum(0) - taus.sum(0).abs()


@torch.no_grad()
def columns(
    taus: Tensor, shared: Tensor, masks: Tensor, scalers: np.ndarray, where: Tensor, shape: Sequence[int], tie: str
) -> Columns:
    """What the three steps make of the weights at positions `where`.

    Args:
        taus, masks: task entry
        shared: entry
        scalers: task
        where: weight, positions
        shape: of the tensor, for `place`.
        tie: which sign an exact tie elects, as in the merge.
    """
    tau, unified, kept = taus[:, where], shared[where], masks[:, where]
    mass = torch.where(kept, tau.abs(), torch.zeros_like(tau))
    rebuilt = torch.from_numpy(scalers).float()[:, None] * (unified * kept)
    places = np.stack(np.unravel_index(where.numpy(), tuple(shape) or (1,)), 1)
    return Columns(
        index=where.numpy(),
        place=tuple("[" + ", ".join(map(str, place)) + "]" for place in places),
        tau=tau.numpy(),
        total=ordered_sum(tau).numpy(),
        elected=elected_sign(tau, tie).numpy().astype(np.int8),
        kept=kept.numpy().astype(np.int8),
        winner=torch.where(kept.any(0), mass.argmax(0), -1).numpy().astype(np.int8),
        shared=unified.numpy(),
        rebuilt=rebuilt.numpy(),
        scalers=scalers,
        scale=float(tau.abs().max()),
    )
