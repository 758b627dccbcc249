"""What is said about each step, with the numbers of the layer on show."""

from html import escape

import numpy as np

from mergekit_nb.widgets.walk.columns import Columns
from mergekit_nb.widgets.walk.study import Study


def step_text(study: Study, step: int, layer: int) -> str:
    """One or two sentences (HTML) on what a step does, measured in this layer."""
    name = f"<i>{escape(study.overview.layers[layer])}</i>"
    return (_task_vectors, _elect, _mask, _rescale)[step](study, layer, name)


def legends(columns: Columns) -> tuple[str, str, str, str]:
    """One line for each step: what the cells of the grid mean."""
    full = f"full colour is {columns.scale:.1e} weight units"
    return (
        f"Sign and colour: each task's own change of the weight; {full}.",
        f"Boxed: becomes the shared value. Faded: loses the vote. {full.capitalize()}.",
        f"1 takes the shared value, 0 goes back to the base. Colour: the shared value; {full}.",
        f"Sign and colour: what the task gets in the end, rescaler × bit × shared value; {full}.",
    )


def span(values: np.ndarray, tasks: tuple[str, ...], form: str) -> str:
    """Smallest and largest of the tasks' values, with the tasks named."""
    low, high = int(np.argmin(values)), int(np.argmax(values))
    return f"{values[low]:{form}} ({escape(tasks[low])}) to {values[high]:{form}} ({escape(tasks[high])})"


def _task_vectors(study: Study, layer: int, name: str) -> str:
    own = span(study.overview.own[layer], study.tasks, ".1e")
    return f"<b>Task vectors.</b> Fine-tuning changed every weight a little: τ = expert − base. In {name} the mean change |τ| is {own}."


def _elect(study: Study, layer: int, name: str) -> str:
    lost = study.overview.conflict[layer]
    return (
        "<b>Elect.</b> The tasks vote with their changes: γ = sign(Σ τ). Of those who agree, the largest becomes the one value all share. "
        f"In {name}, {lost.mean():.0%} of the entries lose the vote: {span(lost, study.tasks, '.0%')}."
    )


def _mask(study: Study, layer: int, name: str) -> str:
    kept, cost = study.overview.density[layer], study.merged.nbytes["patches"]
    whole = sum(study.sizes.values()) * study.vectors.base[study.vectors.names[0]].element_size()
    return (
        "<b>Mask.</b> A task keeps one bit a weight: 1 where its own change agrees with γ. "
        f"In {name} the masks keep {kept.mean():.0%}. For the whole model a task's patch takes {size(max(cost.values()))}; "
        f"an expert takes {size(whole)}."
    )


def _rescale(study: Study, layer: int, name: str) -> str:
    own, masked = study.overview.own[layer], study.overview.masked[layer]
    local = np.divide(own, masked, out=np.ones_like(own), where=masked > 0)
    each = study.merged.provenance["options"]["rescale"] == "per_tensor"
    formula, over = (
        ("Σ mean|τ| / Σ mean|M ⊙ τ<sub>uni</sub>|", "tensors")
        if each
        else ("mean|τ| / mean|M ⊙ τ<sub>uni</sub>|", "entries")
    )
    return (
        f"<b>Rescale.</b> One number a task, λ = {formula} over all {over} of the model, makes its share as large as its own change was: "
        f"{span(study.scalers, study.tasks, '.2f')}. "
        f"<span style='opacity:.75'>By the mean over {name} alone it would be {local.min():.2f} to {local.max():.2f}.</span>"
    )


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
