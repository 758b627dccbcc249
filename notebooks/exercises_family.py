"""Checks for the exercises on the whole family: an answer is merged and measured, and told how far it gets."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

import mergekit_nb as mk
from mergekit_nb.methods import Method

if TYPE_CHECKING:
    from mergekit_nb.zoo import Zoo

TODO = "Not filled in yet: replace the ... and run the cell, then run this one again."
RIGHT = "Right. For 2 to 9 experts the two merges are the same."
SLIPS = {
    "That is task arithmetic with every expert's change in full: nothing is divided.": lambda tasks: 1.0,
    "Nearly: that is right for orthogonal task vectors if the length is to stay, not for the mean.": lambda tasks: (
        tasks**-0.5
    ),
    "The other way round: many experts make the scale smaller.": lambda tasks: float(tasks),
}


def check_scale(same_as_average: Callable[[int], float]) -> None:
    """Print whether task arithmetic with `same_as_average(tasks)` as its scale is the average of so many experts."""
    print(scale_feedback(same_as_average))


def check_method(method: Method, zoo: "Zoo", rival: str | Method = "tsv", limit: int = 50) -> None:
    """Print how `method` does beside `rival` on the zoo's validation images, at most `limit` of each task."""
    print(method_feedback(method, zoo, rival, limit))


def scale_feedback(same_as_average: Callable[[int], float]) -> str:
    """What `check_scale` prints."""
    try:
        answers = {tasks: same_as_average(tasks) for tasks in range(2, 10)}
    except Exception as error:  # a reader's slip of any kind becomes a hint
        return f"Your function stopped with {type(error).__name__}: {error}"
    if any(answer is None or answer is ... for answer in answers.values()):
        return TODO
    if not all(isinstance(answer, int | float) for answer in answers.values()):
        return f"One number is wanted; your function gave {type(answers[2]).__name__}."
    for hint, slip in SLIPS.items():
        if all(abs(answer - slip(tasks)) < 1e-9 for tasks, answer in answers.items()):
            return hint
    for tasks, answer in answers.items():
        if not _same_as_average(tasks, answer):
            return f"Not yet: for {tasks} experts your scale {answer:g} gives another model than their average."
    return RIGHT


def method_feedback(method: Method, zoo: "Zoo", rival: str | Method = "tsv", limit: int = 50) -> str:
    """What `check_method` prints."""
    if method is ...:
        return TODO
    if not isinstance(method, Method):
        return f"A method object is wanted, such as mk.methods.Ties(density=0.3); this is {type(method).__name__}."
    try:
        merged = mk.merge(method, zoo.base, zoo.experts)
    except (ValueError, TypeError) as error:
        return f"It cannot be merged: {error}"
    if merged.patches:
        return f"{method.label} keeps something for each task. Asked is one model for all of them."
    mine, other = (_mean(m, zoo, limit) for m in (merged, mk.merge(rival, zoo.base, zoo.experts)))
    name = rival if isinstance(rival, str) else rival.label
    said = f"On validation images: {mine:.1%}, {name} {other:.1%}."
    return f"{said} {'Better. Now test it, once.' if mine > other else 'Not better yet: try another setting.'}"


def _mean(merged: mk.Merged, zoo: "Zoo", limit: int) -> float:
    return mk.evaluate(merged, zoo.tasks, split="validation", limit=limit)["accuracy"].mean()


def _same_as_average(tasks: int, scale: float) -> bool:
    make = torch.Generator().manual_seed(tasks)
    base = {"w": torch.randn(20, generator=make)}
    experts = {f"task {t}": {"w": torch.randn(20, generator=make)} for t in range(tasks)}
    sums = mk.merge(mk.methods.TaskArithmetic(scale=min(max(scale, -2), 5)), base, experts)
    return torch.allclose(sums.weights()["w"], mk.merge("average", base, experts).weights()["w"], atol=1e-5)
