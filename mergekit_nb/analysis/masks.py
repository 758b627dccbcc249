"""What the masks of a merge keep, tensor by tensor, and each task's rescaler."""

import pandas as pd

from mergekit_nb.analysis.names import by_layer
from mergekit_nb.weights.merged import Merged

COLUMNS = ["task", "layer", "tensor", "n", "density", "rescaler"]


def densities(merged: Merged) -> pd.DataFrame:
    """Share of entries each task's mask keeps.

    Returns:
        Columns task, layer, tensor, n (entries), density in [0, 1], rescaler (one λ a task, repeated in its rows).

    Raises:
        ValueError: the merge has no masks.

    Source: Huang et al. 2024, EMR-Merging, arXiv:2405.17461, Tab. 16, which calls the density "sparsity".
    """
    if not any(patch.mask for patch in merged.patches.values()):
        raise ValueError("this merge has no masks: one model serves all its tasks; merge by emr to get them")
    rows = [
        (task, layer, name, patch.mask[name].numel(), patch.mask[name].double().mean().item(), float(patch.scale))
        for task, patch in merged.patches.items()
        for name, layer in by_layer(patch.mask).items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
