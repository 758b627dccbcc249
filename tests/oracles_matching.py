"""ZipIt!'s matching as its specification tells it: slow, a matrix that really shrinks, no cached maximum."""

from __future__ import annotations

import numpy as np


def official(similarity: np.ndarray, models: int, alpha: float, beta: float) -> list[tuple[int, ...]]:
    """Groups of the authors' greedy matching, for alpha > 0: O(features^3)."""
    s, members, owner = _start(similarity, models)
    width = len(similarity) // models
    budget = [int((len(similarity) - width) // models * beta + 1e-4)] * models
    while len(members) > width:
        low, high = sorted(map(int, np.unravel_index(s.argmax(), s.shape)))
        same = owner[low] == owner[high]
        s, model = _joined(s, low, high, lambda x: x * alpha), owner[low]
        if low != high:
            members[low] += members[high]
        del members[high], owner[high]
        if same:
            budget[model] -= 1
            if budget[model] <= 0:
                _forbid(s, owner, model)
    return [tuple(sorted(group)) for group in members]


def guarded(similarity: np.ndarray, alpha: float, beta: float) -> list[tuple[int, ...]]:
    """Groups for two models: a spent budget counts before a merge, and damping raises nothing."""
    s, members, owner = _start(similarity, 2)
    width = len(similarity) // 2
    budget = [int(width // 2 * beta + 1e-4)] * 2
    for model in range(2):
        if budget[model] == 0:
            _forbid(s, owner, model)
    while len(members) > width:
        low, high = sorted(map(int, np.unravel_index(s.argmax(), s.shape)))
        assert s.max() > -np.inf, "two models can always be completed"
        same, model = owner[low] == owner[high], owner[low]
        s = _joined(s, low, high, lambda x: np.minimum(x, x * alpha))
        members[low] += members[high]
        del members[high], owner[high]
        if same:
            budget[model] -= 1
            if budget[model] == 0:
                _forbid(s, owner, model)
    return [tuple(sorted(group)) for group in members]


def _start(similarity, models):
    s = similarity.copy()
    np.fill_diagonal(s, -np.inf)
    return s, [[i] for i in range(len(s))], [i // (len(s) // models) for i in range(len(s))]


def _joined(s, low, high, damp):
    s = s.copy()
    s[:, low] = damp(np.minimum(s[:, low], s[:, high]))
    s = np.delete(s, high, 1)
    s[low] = damp(np.minimum(s[low], s[high]))
    return np.delete(s, high, 0)


def _forbid(s, owner, model):
    own = [i for i, m in enumerate(owner) if m == model]
    s[np.ix_(own, own)] = -np.inf
