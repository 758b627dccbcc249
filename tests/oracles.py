"""The methods once more, slowly: NumPy, float64, whole models at once, straight from the papers and the specification."""

from __future__ import annotations

import numpy as np

from mergekit_nb.maths.noise import uniform
from tests.flat import flat, unflat
from tests.oracles_entrywise import ENTRYWISE, arcee_fusion, tall_masks
from tests.oracles_spectral import ON_WEIGHTS, SPECTRAL, SPECTRAL_PER_TASK


def average(method, taus, tasks):
    return unflat(flat(taus).mean(0), taus)


def task_arithmetic(method, taus, tasks):
    return unflat(method.scale * flat(taus).sum(0), taus)


def dare(method, taus, tasks, base):
    edited = {}
    for name, tau in taus.items():
        start = base[name] if method.on == "weights" else np.zeros(tau.shape[1:])
        kept = [_dropped(method, task, name, (start + row).ravel()) for task, row in zip(tasks, tau, strict=True)]
        edited[name] = np.stack(kept).reshape(tau.shape) - start
    return unflat(method.scale * flat(edited).sum(0), taus)


def _dropped(method, task, name, row):
    if method.by == "random":
        keep = uniform(method.seed, task, name, 0, row.size).numpy() >= method.drop
    else:
        rank = int(row.size * method.drop)
        keep = np.abs(row) > np.sort(np.abs(row))[rank - 1] if rank > 0 else np.ones(row.size, bool)
    kept = row * keep
    if method.rescale is None:
        return kept
    if method.rescale == "expectation":
        return kept / (1 - method.drop) if method.drop < 1 else 0 * kept
    order = {"l1": 1, "l2": 2, "linf": np.inf}[method.rescale]
    return kept * np.linalg.norm(row, order) / np.linalg.norm(kept, order) if kept.any() else kept


def emr(method, taus, tasks):
    """Every task's own vector: task -> name -> array."""
    X = flat(taus)
    gamma = np.sign(X.sum(0))
    gamma[gamma == 0] = {"negative": -1, "zero": 0, "positive": 1}[method.tie]
    masks = X * gamma > 0
    unified = gamma * np.max(np.abs(X) * masks, axis=0)
    shared = unified * masks
    weight = np.ones(X.shape[1])
    if method.rescale == "per_tensor":
        weight = np.concatenate([np.full(t[0].size, 1 / t[0].size) for t in taus.values()])
    own, kept = (np.abs(X) * weight).sum(1), (np.abs(shared) * weight).sum(1)
    scales = [o / k if k else 1.0 for o, k in zip(own, kept, strict=True)]
    return {task: unflat(scale * row, taus) for task, scale, row in zip(tasks, scales, shared, strict=True)}


def ties(method, taus, tasks):
    X = _trimmed(method, taus)
    sign = _elected(method, X)
    agree = X != 0 if sign is None else (X * sign > 0)
    kept = X * agree
    toward = (lambda v: v) if sign is None else (lambda v: np.abs(v) * sign)
    merged = {
        "dis-mean": lambda: kept.sum(0) / np.maximum(agree.sum(0), 1),
        "dis-sum": lambda: kept.sum(0),
        "dis-max": lambda: toward(_largest(kept)),
        "mean": lambda: toward(X.mean(0)),
        "sum": lambda: toward(X.sum(0)),
        "median": lambda: toward(np.sort(X, 0)[(len(X) - 1) // 2]),
        "magnitude": lambda: toward(_largest(X)),
    }[method.merge_as]()
    return unflat(method.scale * merged, taus)


def _largest(X):
    high, low = X.max(0), X.min(0)
    return np.where(high >= -low, high, low)


def _trimmed(method, taus):
    X = flat(taus)
    if method.density == 1:
        return X
    if method.scope == "model":
        rank = max(X.shape[1] - int(X.shape[1] * method.density), 1)
        return X * (np.abs(X) >= np.sort(np.abs(X), 1)[:, [rank - 1]])
    kept = []
    for tau in taus.values():
        rows = tau.reshape(-1, tau.shape[-1] if method.scope == "row" and tau.ndim > 1 else tau[0].size).copy()
        for row in rows:
            order = np.argsort(-np.abs(row), kind="stable")
            row[order[int(row.size * method.density) :]] = 0
        kept.append(rows.reshape(len(tau), -1))
    return np.concatenate(kept, 1)


def _elected(method, X):
    if method.elect == "none":
        return None
    with np.errstate(invalid="ignore"):
        share = np.nan_to_num(np.sign(X) * X**2 / (X**2).sum(1, keepdims=True))
    votes = {"mass": X, "frequency": np.sign(X), "normfrac": share, "normmass": share}[method.elect]
    sign = np.sign(_largest(votes) if method.elect == "normfrac" else votes.sum(0))
    fill = {"positive": 1, "negative": -1, "majority": 1 if sign.sum() > 0 else -1}[method.zero_sign]
    return np.where(sign == 0, fill, sign)


ORACLES = {"average": average, "task_arithmetic": task_arithmetic, "ties": ties}
ORACLES.update(ENTRYWISE)
ORACLES.update(SPECTRAL)
ON_BASE = ON_WEIGHTS | {"dare": dare, "arcee_fusion": arcee_fusion}  # they see the base's weights
PER_TASK = {"emr": emr, "tall_masks": tall_masks}
PER_TASK.update(SPECTRAL_PER_TASK)
