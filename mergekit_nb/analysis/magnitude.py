"""How long task vectors are, layer by layer, before and after a merge: what the rescaler is there to mend."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd
from torch import Tensor

from mergekit_nb.analysis.names import floating_names
from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.site import layers
from mergekit_nb.weights.source import Source

COLUMNS = ["task", "layer", "kind", "mean_abs"]


def magnitudes(base: Source, experts: Mapping[str, Source], merged: Merged | None = None) -> pd.DataFrame:
    """Mean |·| of task vectors for every layer and task, and of what a merge makes of them.

    Args:
        base: what the experts were fine-tuned from.
        experts: fine-tuned models by task.
        merged: a merge of them; only the tensors it merged are looked at.

    Returns:
        Columns task, layer, kind, mean_abs (weight units, over all entries of the layer's floating tensors). Kinds:
        "expert" is τ_t. A merge with masks adds "masked", M_t ⊙ τ_uni, and "rescaled", λ_t M_t ⊙ τ_uni; a merge
        without adds "merged", its one vector, which is the same for every task.

    Source: the quantities of Huang et al. 2024, EMR-Merging, arXiv:2405.17461, the "Rescale" step.
    """
    names = floating_names(experts, base, merged.vector if merged is not None else None)
    unknown = [] if merged is None else [task for task in experts if task not in merged.tasks]
    if unknown:
        raise ValueError(f"no task {', '.join(unknown)} in this merge; it has {', '.join(merged.tasks)}")
    rows = []
    for layer, inside in layers(names).items():
        for task, expert in experts.items():
            means = {"expert": _mean(expert[name].double() - base[name].double() for name in inside)}
            if merged is not None:
                means |= _after(merged, task, inside)
            rows += [(task, layer, kind, mean) for kind, mean in means.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _after(merged: Merged, task: str, names: list[str]) -> dict[str, float]:
    """Mean |·| of the merged vector as this task gets it."""
    patch = merged.patches.get(task)
    if patch is None or not patch.mask:
        return {"merged": _mean(merged.vector[name] for name in names)}
    unscaled = replace(patch, scale=1.0)
    masked = _mean(unscaled.apply(name, merged.vector[name]) for name in names)
    return {"masked": masked, "rescaled": abs(patch.scale) * masked}


def _mean(vectors: Iterator[Tensor]) -> float:
    total, entries = 0.0, 0
    for vector in vectors:
        total += vector.abs().double().sum().item()
        entries += vector.numel()
    return total / entries if entries else 0.0
