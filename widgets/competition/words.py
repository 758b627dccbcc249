"""What is said about each step, with the numbers of the layer on show."""

from html import escape

import numpy as np

from mergekit_nb.widgets.competition.columns import Columns
from mergekit_nb.widgets.competition.contest import Contest
from mergekit_nb.widgets.walk.words import span

INTER = {
    "A": "tanh(τ<sub>i</sub> · Σ<sub>j</sub> τ<sub>j</sub>)",
    "B": "tanh(τ<sub>i</sub> · Σ<sub>j</sub> τ<sub>j</sub>)",
    "C": "tanh(τ<sub>i</sub> · Σ<sub>j</sub> S<sub>j</sub>), S = sign(τ) · unit(|τ|)",
    "D": "Σ<sub>j</sub> tanh(S<sub>i</sub> · S<sub>j</sub>), S = sign(τ) · unit(|τ|)",
    "paper": "Σ<sub>j</sub> softmax(norm(τ<sub>i</sub> τ<sub>j</sub>))",
}
ABOUT = {
    "A": "A: the authors' pcb-merging.py",
    "B": "B: their language code (A, clipped more)",
    "C": "C: their vision code, no search",
    "D": "D: their vision code, searched scales",
    "paper": "paper: the printed softmax form",
}


def step_text(contest: Contest, step: int, layer: int, scale: float) -> str:
    """One or two sentences (HTML) on what a step does, measured in this layer."""
    name = f"<i>{escape(contest.overview.layers[layer])}</i>"
    if step == 4:
        return _fuse(contest, layer, name, scale)
    return (_task_vectors, _intra, _inter, _drop)[step](contest, layer, name)


def legends(columns: Columns) -> tuple[str, ...]:
    """One line for each step: what the cells of the grid mean."""
    return (
        f"Sign and colour: each task's own change of the weight; full colour is {columns.scale:.1e} weight units.",
        "Colour: how loud the weight is within its own task, on a logarithmic scale from 1 to e^T. Signs as before.",
        "▲ most others pull along, ▼ most pull the other way. Colour: the score; full from twice the task's threshold on.",
        "Boxed: the largest weight of the column. × and faded: dropped. Last rows: how many tasks are left.",
        "Sign and colour: the task's share of its column's weight, · dropped. Last row: what all tasks get, λ included.",
    )


def _task_vectors(contest: Contest, layer: int, name: str) -> str:
    own = span(contest.overview.size[layer], contest.study.tasks, ".1e")
    return f"<b>Task vectors.</b> Fine-tuning changed every weight a little: τ = expert − base. In {name} the mean change |τ| is {own}."


def _intra(contest: Contest, layer: int, name: str) -> str:
    tasks = len(contest.study.tasks)
    norm = "norm(τ²)" if contest.method.variant == "paper" else "unit(|τ|)²"
    loud = span(contest.overview.loud[layer], contest.study.tasks, ".0%")
    return (
        f"<b>Intra-balance.</b> Within a task large changes count more: exp(T · {norm}), from 1 to e<sup>{tasks}</sup> = "
        f"{np.exp(tasks):,.0f} over the whole model. In {name} the share of entries that count more than e times the least is {loud}."
    )


def _inter(contest: Contest, layer: int, name: str) -> str:
    against = span(contest.overview.against[layer], contest.study.tasks, ".0%")
    never = " (a softmax is never negative: here nobody is opposed, only favoured less)"
    return (
        f"<b>Inter-balance.</b> Between tasks, those who pull along count more: {INTER[contest.method.variant]}. "
        f"Score = intra × inter. In {name} the score is below zero for {against} of the entries"
        f"{never if contest.method.variant == 'paper' else ''}."
    )


def _drop(contest: Contest, layer: int, name: str) -> str:
    seen, ratio = contest.overview, contest.method.ratio
    return (
        f"<b>Drop.</b> Each task keeps the highest {100 * ratio:.3g} % of its scores, over the whole model. "
        f"In {name} that leaves {span(seen.kept[layer], contest.study.tasks, '.0%')}; "
        f"{seen.nobody[layer]:.0%} of its entries nobody keeps: they stay as in the base."
    )


def _fuse(contest: Contest, layer: int, name: str, scale: float) -> str:
    seen = contest.overview
    shift = "the score" if contest.method.variant == "paper" else "0 at the threshold, 1 at the task's highest score"
    return (
        f"<b>Rescale &amp; fuse.</b> Weights are {shift}; base + λ · Σ weight · τ / Σ weight, λ = {scale:g}. "
        f"In {name} a task has the largest weight on {span(seen.won[layer], contest.study.tasks, '.0%')} of the entries; "
        f"{seen.alone[layer]:.0%} have a single survivor, so nothing is averaged there."
    )
