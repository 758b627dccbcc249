"""How far each expert's task vector is from what a merge gives its task, as a function of the rescaler."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from mergekit_nb.analysis.names import floating_names
from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.source import Source

COLUMNS = ["task", "scale", "distance"]


def distances(
    base: Source, experts: Mapping[str, Source], merged: Merged, scales: Iterable[float] | None = None
) -> pd.DataFrame:
    """Squared L2 distance ‖τ_t - s · M_t ⊙ τ_uni‖², over all merged tensors, for every task and scale s.

    Args:
        base: what the experts were fine-tuned from.
        experts: fine-tuned models by task.
        merged: a merge with masks, as by emr.
        scales: the same for all tasks; None takes three: 0 (the base), 1 (mask only) and the task's own rescaler.

    Returns:
        Columns task, scale, distance (squared weight units, summed in float64).

    Raises:
        ValueError: the merge has no masks, or does not know a task.

    Source: the distances of Huang et al. 2024, EMR-Merging, arXiv:2405.17461, section 3.3, without their mean over
    tasks. A task's distance is a parabola in s; the rescaler of the paper is as a rule not where it is lowest.
    """
    unmasked = [task for task in experts if task not in merged.patches or not merged.patches[task].mask]
    if unmasked:
        raise ValueError(f"this merge has no masks for {', '.join(unmasked)}; merge by emr to get them")
    names = floating_names(experts, base, merged.vector)
    rows = []
    for task, expert in experts.items():
        own, both, shared = _products(base, expert, merged, task, names)
        tried = (0.0, 1.0, merged.patches[task].scale) if scales is None else scales
        rows += [(task, scale, own - 2 * scale * both + scale**2 * shared) for scale in map(float, tried)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _products(base: Source, expert: Source, merged: Merged, task: str, names: list[str]) -> np.ndarray:
    """⟨τ, τ⟩, ⟨τ, u⟩ and ⟨u, u⟩ with u = M ⊙ τ_uni: all that the parabola needs."""
    unscaled = replace(merged.patches[task], scale=1.0)
    sums = np.zeros(3)
    for name in names:
        tau = (expert[name].double() - base[name].double()).flatten()
        kept = unscaled.apply(name, merged.vector[name].double()).flatten()
        sums += [float(tau @ tau), float(tau @ kept), float(kept @ kept)]
    return sums
