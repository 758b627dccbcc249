"""ZipIt!'s two ways to zip: as its authors' code does, and guarded, so that no feature is lost."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mergekit_nb.maths.greedy import Damp, Shrinking
from mergekit_nb.maths.packing import Models, completable


def official(similarity: np.ndarray, models: int, alpha: float, beta: float) -> Shrinking:
    """The authors' order of merges, ties and defects included (`matching.zip_features` lists them)."""
    owner, budget = _owners(len(similarity), models), _budgets(len(similarity), models, beta)
    left = Shrinking(similarity, (lambda x: x * alpha) if alpha > 0 else (lambda x: x))
    while left.count() > len(similarity) // models:
        pair = left.first()
        if pair is None:  # argmax of a matrix of -inf is 0: the first feature is merged with itself, and deleted
            left.drop(int(left.alive.argmax()))
            continue
        left.join(*pair)
        if alpha <= 0:
            _hold_back(left, pair, owner, models)
        model = int(owner[pair[0]])
        if model == owner[pair[1]]:
            budget[model] -= 1
            if budget[model] <= 0:
                _keep_apart(left, owner, model)
    return left


def guarded(similarity: np.ndarray, models: int, alpha: float, beta: float) -> tuple[Shrinking, int]:
    """Merges within the budgets; where these leave no pair, the most similar of the others, and how often that was."""
    owner, budget = _owners(len(similarity), models), _budgets(len(similarity), models, beta)
    damp = lambda x: np.minimum(x, x * alpha)  # noqa: E731
    left, kinds = Shrinking(similarity, damp), _Kinds(len(similarity), models)
    apart = not budget.any()
    for model in np.flatnonzero(budget == 0).tolist():
        _keep_apart(left, owner, model)
    while left.count() > len(similarity) // models and (pair := left.first()):
        if apart and not kinds.join(*pair):
            left.forbid(*kinds.like(*pair, left.alive))
            continue
        left.join(*pair)
        model = int(owner[pair[0]])
        if model == owner[pair[1]]:
            budget[model] -= 1
            if budget[model] == 0:
                _keep_apart(left, owner, model)
    return _rest(similarity, damp, left, len(similarity) // models)


def _rest(similarity: np.ndarray, damp: Damp, left: Shrinking, width: int) -> tuple[Shrinking, int]:
    """Merge on until `width` features are left, by the similarities as they are when nothing was ever ruled out."""
    forced = left.count() - width
    if forced:
        pairs, left = left.pairs, Shrinking(similarity, damp)
        for pair in pairs:
            left.join(*pair)
    for _ in range(forced):
        left.join(*left.first())
    return left, forced


class _Kinds:
    """Of which models every group has a feature, where none may have two of one."""

    def __init__(self, features: int, models: int):
        self.models = models
        self.kind: list[Models] = [frozenset([model]) for model in _owners(features, models).tolist()]
        self.counts = Counter(self.kind)

    def join(self, low: int, high: int) -> bool:
        """Join two groups if all can still be completed; two models' always can."""
        one, other = self.kind[low], self.kind[high]
        counts = self.counts - Counter([one]) - Counter([other]) + Counter([one | other])
        if self.models > 2 and not completable(counts, self.models):
            return False
        self.counts, self.kind[low] = counts, one | other
        return True

    def like(self, low: int, high: int, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The groups of the same models as each of these two: a pair that cannot be joined now never can be."""
        of = lambda wanted: np.array([a and k == wanted for a, k in zip(alive, self.kind, strict=True)])  # noqa: E731
        return np.flatnonzero(of(self.kind[low])), np.flatnonzero(of(self.kind[high]))


def _owners(features: int, models: int) -> np.ndarray:
    """The model of each feature; a merged feature belongs to the model of its first."""
    return np.repeat(np.arange(models), features // models)


def _budgets(features: int, models: int, beta: float) -> np.ndarray:
    """Merges within it that each model may have; 1e-4 is the authors' guard against 0.1 * 30 = 2.9999."""
    return np.full(models, int((features - features // models) // models * beta + 1e-4))


def _keep_apart(left: Shrinking, owner: np.ndarray, model: int) -> None:
    own = np.flatnonzero(left.alive & (owner == model))
    left.forbid(own, own)


def _hold_back(left: Shrinking, pair: tuple[int, int], owner: np.ndarray, models: int) -> None:
    """What the authors' code does for alpha <= 0: rule out the merged feature with the features now at the places of
    both its models, as counted before anything was deleted."""
    width, places = len(owner) // models, np.flatnonzero(left.alive)
    for model in {int(owner[pair[0]]), int(owner[pair[1]])}:
        left.forbid(np.array([pair[0]]), places[model * width : (model + 1) * width])
