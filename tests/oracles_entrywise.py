"""The entry-wise methods once more, slowly: NumPy, float64, whole models at once."""

from __future__ import annotations

import numpy as np

from tests.flat import flat, unflat


def pcb(method, taus, tasks):
    X = flat(taus)
    T, D = X.shape
    varied, vectors, scores = _paper_scores(X) if method.variant == "paper" else _released_scores(method, X)
    weights = np.zeros_like(X)
    for t in range(T):
        order = np.sort(scores[t])
        cut, top = order[min(int(D * (1 - method.ratio)), D - 1)], order[-1]
        if not varied[t]:
            continue
        if method.variant == "paper":
            weights[t] = scores[t] * (scores[t] >= cut)
        elif top > cut:
            weights[t] = (np.clip(scores[t], cut, top) - cut) / (top - cut)
        elif top > 0:
            weights[t] = scores[t] == top
    scales = np.broadcast_to(method.scale, T)[:, None]
    return unflat((scales * vectors * weights).sum(0) / np.maximum(weights.sum(0), 1e-12), taus)


def _unit(row):
    span = row.max() - row.min()
    return (row - row.min()) / (span or 1)


def _released_scores(method, X):
    T, D = X.shape
    q = method.q if method.q is not None else {"A": 1e-4}.get(method.variant, 1e-2)
    order = np.sort(np.abs(X), 1)
    low, high = order[:, [int(D * q)]], order[:, [int(D * (1 - q) - 1)]]
    clipped = np.minimum(np.maximum(np.abs(X), low), high)
    units = np.stack([_unit(row) for row in clipped])
    S = np.sign(X) * units
    inter = {
        "A": lambda: np.tanh(X * X.sum(0)),
        "B": lambda: np.tanh(X * X.sum(0)),
        "C": lambda: np.tanh(X * S.sum(0)),
        "D": lambda: np.stack([np.tanh(s * S).sum(0) for s in S]),
    }[method.variant]()
    return (high > low)[:, 0], np.sign(X) * clipped, np.exp(T * units**2) * inter


def _paper_scores(X):
    T = len(X)
    softmax = lambda row: np.exp(row) / np.exp(row).mean()  # noqa: E731  (times the size, which cancels)
    intra = np.stack([softmax(T * _unit(x * x)) for x in X])
    inter = np.stack([sum(softmax(_unit(x * y)) for y in X) for x in X])
    varied = [np.ptp(x * x) > 0 for x in X]
    return varied, X, intra * inter


ENTRYWISE = {"pcb": pcb}
