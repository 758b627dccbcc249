"""Measures of every layer, from one pass over the tensors. Torch and numpy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.task_vectors import TaskVectors


@dataclass(frozen=True)
class Overview:
    """Measures by layer and task, float64. All are shares or means over the entries of a layer's floating tensors.

    Attributes:
        layers, tasks: names of the axes.
        conflict: layer task, share of entries on which the task vector and the elected sign are opposed, in [0, 1].
        density: layer task, share of entries the task's mask keeps, in [0, 1].
        own, masked, rescaled: layer task, mean |.| of tau_t, of M_t * tau_uni and of lambda_t * M_t * tau_uni, weight units.
        cosine: layer task, cosine of tau_t and the rebuilt vector (the rescaler does not turn it), NaN where one is 0.
        products: layer task task, inner products of the task vectors: they add up over layers.
        entries: layer, how many entries.
    """

    layers: tuple[str, ...]
    tasks: tuple[str, ...]
    conflict: np.ndarray
    density: np.ndarray
    own: np.ndarray
    masked: np.ndarray
    rescaled: np.ndarray
    cosine: np.ndarray
    products: np.ndarray
    entries: np.ndarray

    def similarity(self, layer: int | None = None) -> np.ndarray:
        """Cosines between the task vectors: task task, of one layer, or of the whole model where `layer` is None."""
        products = self.products.sum(0) if layer is None else self.products[layer]
        length = np.sqrt(np.diagonal(products))
        with np.errstate(invalid="ignore"):
            return products / np.outer(length, length)

    def mean(self, measure: str) -> np.ndarray:
        """`conflict`, `density`, `own`, `masked` or `rescaled` over the whole model: task."""
        return np.average(getattr(self, measure), axis=0, weights=self.entries)


@torch.no_grad()
def overview(vectors: TaskVectors, merged: Merged, layers: Mapping[str, Sequence[str]]) -> Overview:
    """Measure every layer (name -> names of its tensors) of a merge that has masks."""
    sums: dict[str, dict[str, np.ndarray]] = {layer: {} for layer in layers}
    for layer, names in layers.items():
        for name in names:
            taus = vectors.at(name).reshape(len(vectors.tasks), -1)
            shared = merged.vector[name].cpu().float().flatten()
            masks = torch.stack([merged.patches[task].mask[name].cpu().flatten() for task in vectors.tasks])
            _add(sums[layer], _tensor_sums(taus, shared, masks))
    scalers = np.array([float(merged.patches[task].scale) for task in vectors.tasks])
    return _ratios(tuple(sums), vectors.tasks, {key: _stack(sums, key) for key in _SUMS}, scalers)


_SUMS = ("n", "conflict", "kept", "own", "masked", "dot", "own2", "masked2", "products")


def _tensor_sums(taus: Tensor, shared: Tensor, masks: Tensor) -> dict[str, np.ndarray]:
    """Everything that adds up over tensors; sums in float64."""
    own = taus.double()
    rebuilt = shared.double() * masks
    each = {
        "conflict": (taus.sign() * shared.sign() < 0).sum(1),
        "kept": masks.sum(1),
        "own": own.abs().sum(1),
        "masked": rebuilt.abs().sum(1),
        "dot": (own * rebuilt).sum(1),
        "own2": own.square().sum(1),
        "masked2": rebuilt.square().sum(1),
        "products": own @ own.T,
    }
    return {"n": np.array(taus.shape[1])} | {key: value.double().numpy() for key, value in each.items()}


def _add(total: dict[str, np.ndarray], more: Mapping[str, np.ndarray]) -> None:
    for key, value in more.items():
        total[key] = total.get(key, 0) + value


def _stack(sums: Mapping[str, Mapping[str, np.ndarray]], key: str) -> np.ndarray:
    return np.stack([layer[key] for layer in sums.values()]).astype(np.float64)


def _ratios(
    layers: tuple[str, ...], tasks: Sequence[str], s: Mapping[str, np.ndarray], scalers: np.ndarray
) -> Overview:
    def share(key: str) -> np.ndarray:
        return s[key] / s["n"][:, None]

    with np.errstate(invalid="ignore"):
        cosine = s["dot"] / np.sqrt(s["own2"] * s["masked2"])
    return Overview(
        layers=layers,
        tasks=tuple(tasks),
        conflict=share("conflict"),
        density=share("kept"),
        own=share("own"),
        masked=share("masked"),
        rescaled=share("masked") * scalers,
        cosine=cosine,
        products=s["products"],
        entries=s["n"],
    )
