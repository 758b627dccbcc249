"""Checks for the exercises of the notebooks: they say what is wrong, not what is right."""

from collections.abc import Callable

import torch
from torch import Tensor

Answer = Callable[[Tensor, Tensor], float | Tensor]
TODO = "Not filled in yet: replace the ... by a formula in tau and kept, run the cell, then run this one again."
RIGHT = "Right. On 20 random pairs no other scale comes nearer."
MISTAKES = {
    "This makes the mean magnitudes equal: it is the paper's λ. Asked is the smallest distance, which is something else.": (
        lambda tau, kept: tau.abs().mean() / kept.abs().mean()
    ),
    "This makes the two L2 lengths equal. It would be right if both vectors pointed the same way; they do not.": (
        lambda tau, kept: tau.norm() / kept.norm()
    ),
    "Nearly: this scales tau to come near kept. Which of the two is to be scaled?": (
        lambda tau, kept: (tau @ kept) / (tau @ tau)
    ),
    "Nearly: the numerator is right. The denominator wants the squared length, not the length.": (
        lambda tau, kept: (tau @ kept) / kept.norm()
    ),
    "The sign is wrong: at your scale the share points away from tau. Look at the derivative again.": (
        lambda tau, kept: -(tau @ kept) / (kept @ kept)
    ),
}


def check(best_scale: Answer) -> None:
    """Print whether `best_scale(tau, kept)` is the number s with the smallest ‖tau - s · kept‖², or a hint."""
    print(feedback(best_scale))


def feedback(best_scale: Answer) -> str:
    """What `check` prints."""
    make = torch.Generator().manual_seed(0)
    pairs = [_pair(make) for _ in range(20)]
    try:
        answers = [best_scale(*pair) for pair in pairs]
    except Exception as error:  # a reader's slip of any kind becomes a hint
        return f"Your function stopped with {type(error).__name__}: {error}"
    if any(answer is None or answer is ... for answer in answers):
        return TODO
    wrong = next(
        (a for a in answers if not isinstance(a, int | float | Tensor) or torch.as_tensor(a).numel() != 1), None
    )
    if wrong is not None:
        shape = f"a tensor of shape {tuple(wrong.shape)}" if isinstance(wrong, Tensor) else type(wrong).__name__
        return f"One number is wanted; your function gave {shape}. Sums and means make one number of many."
    return _judged([float(answer) for answer in answers], pairs)


def _judged(answers: list[float], pairs: list[tuple[Tensor, Tensor]]) -> str:
    best = [float((tau @ kept) / (kept @ kept)) for tau, kept in pairs]
    if _same(answers, best):
        return RIGHT
    for hint, slip in MISTAKES.items():
        if _same(answers, [float(slip(*pair)) for pair in pairs]):
            return hint
    worst = max(range(len(pairs)), key=lambda place: abs(answers[place] - best[place]))
    (tau, kept), mine = pairs[worst], answers[worst]
    there = float((tau - mine * kept).square().sum())
    near = (mine + best[worst]) / 2
    then = float((tau - near * kept).square().sum())
    return f"Not yet. At your s = {mine:.3f} the squared distance is {there:.3f}; at {near:.3f} it is {then:.3f}."


def _same(answers: list[float], expected: list[float]) -> bool:
    return torch.allclose(torch.tensor(answers), torch.tensor(expected), rtol=1e-3, atol=1e-6)


def _pair(make: torch.Generator) -> tuple[Tensor, Tensor]:
    """A task vector and what a mask keeps of a longer, shared one."""
    tau = torch.randn(40, generator=make)
    shared = tau.sign() * (tau.abs() + torch.rand(40, generator=make))
    return tau, shared * (torch.rand(40, generator=make) < 0.7)
