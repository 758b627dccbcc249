"""Checks for the exercise on PCB-Merging: one weight, from scores to the merged value."""

from collections.abc import Callable

import torch
from torch import Tensor

from mergekit_nb.maths import compete

Answer = Callable[[Tensor, Tensor, Tensor, Tensor], float | Tensor]
TODO = "Not filled in yet: replace the ... by two lines, run the cell, then run this one again."
RIGHT = "Right. On 20 random weights it is what PCB-Merging does before λ."
EASY, ALONE = 0.2, 1e-12


def _weights(score: Tensor, cut: Tensor, top: Tensor) -> Tensor:
    return ((score - cut) / (top - cut)).clamp(min=0)


MISTAKES: dict[str, Answer] = {
    "Nobody is dropped: below the threshold the weight has to be 0, not negative.": lambda tau, score, cut, top: (
        (tau * (score - cut) / (top - cut)).sum() / ((score - cut) / (top - cut)).sum()
    ),
    "Nearly: at its threshold a task's weight is 0. Yours starts at the threshold's share of the highest score.": (
        lambda tau, score, cut, top: (
            (tau * score / top * (score > cut)).sum() / (score / top * (score > cut)).sum().clamp(min=ALONE)
        )
    ),
    "You dropped rightly, but survivors count by their scores: this is their plain mean.": lambda tau, score, cut, top: (
        (tau * (score > cut)).sum() / (score > cut).sum().clamp(min=1)
    ),
    "Nearly: divide by the sum of the weights, not by the number of tasks.": lambda tau, score, cut, top: (
        tau * _weights(score, cut, top)
    ).mean(),
    "Nearly: divide by the sum of the weights, or the merged change shrinks with them.": lambda tau, score, cut, top: (
        tau * _weights(score, cut, top)
    ).sum(),
}


def check(merged_weight: Answer) -> None:
    """Print whether `merged_weight(tau, score, cut, top)` is PCB-Merging's value of one weight, or a hint."""
    print(feedback(merged_weight))


def feedback(merged_weight: Answer) -> str:
    """What `check` prints."""
    make = torch.Generator().manual_seed(0)
    columns = [_column(make) for _ in range(20)]
    try:
        answers = [merged_weight(*column) for column in columns]
    except Exception as error:  # a reader's slip of any kind becomes a hint
        return f"Your function stopped with {type(error).__name__}: {error}"
    if any(answer is None or answer is ... for answer in answers):
        return TODO
    if any(not isinstance(a, int | float | Tensor) or torch.as_tensor(a).numel() != 1 for a in answers):
        return "One number is wanted: the change of this one weight in the merged model."
    return _judged([float(answer) for answer in answers], columns)


def _judged(answers: list[float], columns: list[tuple[Tensor, ...]]) -> str:
    if _same(answers, [_true(*column) for column in columns]):
        return RIGHT
    if any(answer != answer for answer in answers):
        return "Where every task is dropped you divide 0 by 0. The authors divide by at least 1e-12: clamp(min=1e-12)."
    for hint, slip in MISTAKES.items():
        if _same(answers, [float(slip(*column)) for column in columns]):
            return hint
    wrong = next(place for place, column in enumerate(columns) if not _same([answers[place]], [_true(*column)]))
    tau, score, cut, top = ([round(float(x), 2) for x in row] for row in columns[wrong])
    return (
        f"Not yet. For tau = {tau}, score = {score}, cut = {cut}, top = {top} "
        f"your {answers[wrong]:.3f} is not the weighted mean of the survivors."
    )


def _same(answers: list[float], expected: list[float]) -> bool:
    return torch.allclose(torch.tensor(answers), torch.tensor(expected), rtol=1e-3, atol=1e-6)


def _true(tau: Tensor, score: Tensor, cut: Tensor, top: Tensor) -> float:
    score, tau = score[:, None], tau[:, None]
    weights = compete.rescale(score, compete.drop(score, cut, top), cut, top)
    return float(compete.fuse(tau, weights, torch.ones(len(tau))))


def _column(make: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One weight of four tasks; now and then all of them are dropped."""
    top, cut = 2 + torch.rand(4, generator=make), 0.5 + torch.rand(4, generator=make)
    score = torch.rand(4, generator=make) * top
    if torch.rand((), generator=make) < EASY:
        score = cut * 0.5
    return torch.randn(4, generator=make), score, cut, top
