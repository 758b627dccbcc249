"""The check of the exercise in 04_zip_strangers: it says what is wrong, not what is right."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Groups = Sequence[tuple[int, ...]]
Answer = Callable[[Groups, int], tuple[Tensor, Tensor]]
TODO = "Not filled in yet: replace each ... by a number, run the cell, then run this one again."
RIGHT = "Right: M U is the identity, and U M replaces every feature by the mean of its group."
CASES = (([(0, 3), (1, 2), (4, 5)], 6), ([(0, 3), (1, 2, 4), (5,)], 6), ([(2,), (0, 1)], 3))


def check(maps: Answer) -> None:
    """Print whether `maps(groups, features)` gives merge and unmerge matrices, or a hint."""
    print(feedback(maps))


def feedback(maps: Answer) -> str:
    """What `check` prints."""
    try:
        answers = [maps(groups, features) for groups, features in CASES]
    except Exception as error:  # a reader's slip of any kind becomes a hint
        if "ellipsis" in str(error):
            return TODO
        return f"Your function stopped with {type(error).__name__}: {error}"
    for (groups, features), answer in zip(CASES, answers, strict=True):
        if hint := _hint(groups, features, answer):
            return hint
    return RIGHT


def _hint(groups: Groups, features: int, answer: object) -> str | None:
    if not (isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(of, Tensor) for of in answer)):
        return "Two tensors are wanted, M and U, in this order."
    merge, unmerge = answer
    if (merge.shape, unmerge.shape) != ((len(groups), features), (features, len(groups))):
        return f"M is {tuple(merge.shape)} and U {tuple(unmerge.shape)}; keep the shapes they begin with."
    if not merge.any() and not unmerge.any():
        return TODO
    members = torch.tensor([[float(feature in group) for feature in range(features)] for group in groups])
    if not torch.equal(unmerge, members.T):
        scaled = torch.equal(unmerge != 0, members.T != 0)
        return "U copies: its entries are 0 or 1." if scaled else f"U has the wrong members for the groups {groups}."
    if torch.allclose(merge, members / members.sum(1, keepdim=True)):
        return None
    if torch.equal(merge, members):
        return "M adds up; a mean is wanted, so a row's entries add up to 1."
    return f"M is not yet the mean over a group, for the groups {groups}."
