"""The entry-wise methods once more, slowly: NumPy, float64, whole models at once."""

from __future__ import annotations

import numpy as np

from mergekit_nb.maths.noise import uniform
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


def summed(edit):
    """An oracle that edits every tensor of every task and adds up: edit(method, name, taus, tasks) -> task *shape."""

    def oracle(method, taus, tasks):
        return {name: method.scale * edit(method, name, taus, tasks).sum(0) for name in taus}

    return oracle


def _by_row(tau, rows_of_last_axis, chosen):
    """`chosen` (places of one row, largest magnitude first -> places that stay) applied to every row."""
    rows = tau.reshape(-1, tau.shape[-1] if rows_of_last_axis and tau.ndim > 1 else tau.size).copy()
    for row in rows:
        stays = np.zeros(row.size, bool)
        stays[chosen(np.argsort(-np.abs(row), kind="stable"))] = True
        row[~stays] = 0
    return rows.reshape(tau.shape)


def _breadcrumbs(method, name, taus, tasks):
    def chosen(order):
        keep, remove = int(order.size * method.density), int(order.size * method.remove)
        if method.scope == "tensor":
            remove = min(remove, order.size - keep)
        return order[remove:keep] if method.first == "keep" else order[remove:][:keep]

    if taus[name].ndim == 1:
        return taus[name]
    return np.stack([_by_row(tau, method.scope == "row", chosen) for tau in taus[name]])


def della(method, taus, tasks):
    out = {}
    for name, stack in taus.items():
        pruned = np.stack([_magprune(method, task, name, tau) for task, tau in zip(tasks, stack, strict=True)])
        if method.elect == "mass":
            sign = np.where(pruned.sum(0) >= 0, 1, -1)
            agree = pruned * sign > 0
            pruned = pruned * agree / np.maximum(agree.sum(0), 1)
        out[name] = method.scale * pruned.sum(0)
    return out


def _magprune(method, task, name, tau):
    rows = np.abs(tau).reshape(-1, tau.shape[-1] if method.rank != "tensor" and tau.ndim > 1 else tau.size)
    place = np.empty_like(rows)
    for i, row in enumerate(rows):
        if method.rank == "size":
            place[i] = (row - row.min()) / (np.ptp(row) + 1e-7)
        elif row.size == 1:
            place[i] = 0.5
        else:
            place[i, np.argsort(row, kind="stable")] = np.arange(row.size) / (row.size - 1)
    chance = (method.density - method.window + 2 * method.window * place).reshape(tau.shape)
    kept = np.where(uniform(method.seed, task, name, 0, tau.size).numpy().reshape(tau.shape) < chance, tau, 0.0)
    if method.rescale == "chance":
        return np.divide(kept, chance, out=kept, where=kept != 0)
    if method.rescale == "l1":
        return kept * np.abs(tau).sum() / np.abs(kept).sum() if kept.any() else kept
    return kept


def _dppa(method, name, taus, tasks):
    matrices = [n for n, tau in taus.items() if tau.ndim == 3]
    if name not in matrices:
        return taus[name]
    return np.stack([_outlier_pruned(method, name, {n: np.abs(taus[n][t]) for n in matrices}, tau)
                     for t, tau in enumerate(taus[name])])  # fmt: skip


def _outlier_pruned(method, name, sizes, tau):
    """In the models drawn here every matrix is a block of its own."""
    limits = {"matrix": (3, method.limit), "block": (method.limit, None), "none": (None, None)}[method.adapt]
    shift = 0
    for limit, weights in zip(limits, (dict.fromkeys(sizes, 1), {n: a.size for n, a in sizes.items()}), strict=True):
        if limit:
            share = {n: np.mean(a > limit * a.mean()) for n, a in sizes.items()}
            mean = sum(share[n] * weights[n] for n in share) / sum(weights.values())
            off = {n: s - mean for n, s in share.items()}
            largest = max(map(abs, off.values()))
            shift += off[name] / largest if largest > 1e-12 else 0
    density = 1 - method.drop + method.window * shift
    core = method.core * _above_quantile(tau, density)
    if method.wide is None:
        return core
    wide = method.wide * _above_quantile(tau, density + 0.1)
    return np.where(np.abs(core) >= np.abs(wide), core, wide)


def _above_quantile(tau, density):
    if density >= 1:
        return tau
    rank = min(int(tau.size * (1 - max(density, 0.0))), tau.size - 1)
    return tau * (np.abs(tau) > np.sort(np.abs(tau), None)[rank])


def sce(method, taus, tasks):
    return {name: method.scale * _sce(method, tau) for name, tau in taus.items()}


def _sce(method, tau):
    T = len(tau)
    selected = tau.copy()
    if method.select_topk < 1:
        off = tau - tau[0]
        spread = T * (off**2).sum(0) - off.sum(0) ** 2
        stays = np.zeros(spread.size, bool)
        order = np.argsort(-spread.ravel(), kind="stable")
        stays[order[: int(method.select_topk * np.count_nonzero(spread))]] = True
        selected = tau * stays.reshape(spread.shape)
    energy = (selected**2).reshape(T, -1).sum(1)
    share = energy / energy.sum() if energy.any() else np.full(T, 1 / T)
    merged = selected if method.merges == "selected" else tau
    agree = merged * np.where(merged.sum(0) >= 0, 1, -1) > 0
    divisor = np.tensordot(share, agree, 1)
    return np.tensordot(share, merged * agree, 1) / np.where(divisor > 0, divisor, 1)


def _cabs(method, name, taus, tasks):
    taken, out = np.zeros(taus[name][0].size, bool), []
    for tau in taus[name]:
        free = np.where(taken, 0.0, tau.ravel())
        if method.by == "magnitude":
            kept = _above_quantile(free, 1 - method.drop)
        else:
            kept = np.zeros_like(free)
            for start in range(0, free.size - method.m + 1, method.m):
                places = start + np.argsort(-np.abs(free[start : start + method.m]), kind="stable")[: method.n]
                kept[places] = free[places]
        taken |= kept != 0
        out.append(kept.reshape(tau.shape))
    return np.stack(out)


def lines(method, taus, tasks):
    """In the models drawn here every tensor is a block of its own, in order."""
    alpha = method.alpha if method.alpha is not None else 1 / len(tasks)
    last = max(len(taus) - 1, 1)
    return {name: (alpha + method.beta * i / last) * tau.sum(0) for i, (name, tau) in enumerate(taus.items())}


def _needs(method, tau):
    return np.abs(tau) > method.threshold * np.abs(tau.sum(0) - tau)


def tall_masks(method, taus, tasks):
    """Every task's own vector: task -> name -> array."""
    return {t: {n: tau.sum(0) * _needs(method, tau)[i] for n, tau in taus.items()} for i, t in enumerate(tasks)}


def consensus(method, taus, tasks):
    return {n: method.scale * tau.sum(0) * (_needs(method, tau).sum(0) >= method.k) for n, tau in taus.items()}


def model_stock(method, taus, tasks):
    return {name: _stock(method, tau) for name, tau in taus.items()}


def _stock(method, tau):
    T = len(tau)
    rows = tau.reshape(T, -1, tau.shape[-1] if method.scope == "row" and tau.ndim > 2 else tau[0].size)
    mean = rows.mean(0)
    if T == 1:
        return mean.reshape(tau.shape[1:])
    for r in range(rows.shape[1]):
        units = [row / max(np.linalg.norm(row), 1e-6) for row in rows[:, r]]
        cosine = np.mean([units[i] @ units[j] for i in range(T) for j in range(i)])
        cosine = min(max(cosine, 0), 1) if method.negative == "base" else cosine
        divisor = 1 + (T - 1) * cosine
        mean[r] *= T * cosine / divisor if divisor >= 1e-6 else 0
    return mean.reshape(tau.shape[1:])


def magmax(method, taus, tasks):
    out = {}
    for name, tau in taus.items():
        last = len(tau) - 1 - np.argmax(np.abs(tau[::-1]), 0)
        out[name] = method.scale * np.take_along_axis(tau, last[None], 0)[0]
    return out


def _fr(method, name, taus, tasks):
    tau = taus[name]
    if tau.ndim != 3:
        return tau if method.others == "sum" else 0 * tau
    height, width = tau.shape[1:]
    side, weights = min(height, width), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            distance = np.hypot(y - height // 2, x - width // 2)
            weights[y, x] = int(distance <= side // 10) + int(side // 10 <= distance <= method.radius * side)
    return np.fft.ifft2(np.fft.fft2(tau) * weights).real


def ram(method, taus, tasks):
    return {name: _ram(method, tau) for name, tau in taus.items()}


def _ram(method, tau):
    changed = np.abs(tau) > method.epsilon
    merged = np.zeros(tau.shape[1:])
    alone = [changed[t] & (changed.sum(0) == 1) for t in range(len(tau))]
    shared = [(changed[t] & (changed.sum(0) > 1)).sum() for t in range(len(tau))]
    for place in np.ndindex(merged.shape):
        who = [t for t in range(len(tau)) if changed[t][place]]
        if len(who) == 1:
            t = who[0]
            merged[place] = tau[t][place] * (1 + method.boost * min(shared[t] / alone[t].sum(), method.most))
        elif who:
            merged[place] = np.mean([tau[t][place] for t in who])
    return merged


def arcee_fusion(method, taus, tasks, base):
    return {name: method.scale * sum(_fused(base[name], t) for t in tau) for name, tau in taus.items()}


def _fused(base, tau):
    rows, moved = (
        base.reshape(-1, base.shape[-1] if base.ndim else 1),
        tau.reshape(-1, base.shape[-1] if base.ndim else 1),
    )
    scores = np.empty_like(rows)
    for r, (row, change) in enumerate(zip(rows, moved, strict=True)):
        before, after = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() + 1e-8 for x in (row, row + change))
        scores[r] = np.abs(change) * (after * np.log(after / before)).sum()
    ranked = np.sort(scores, None)
    lower, median, upper = (ranked[int(share * (ranked.size - 1))] for share in (0.25, 0.5, 0.75))
    return tau * (scores >= median + 1.5 * (upper - lower)).reshape(tau.shape)


ENTRYWISE = {
    "pcb": pcb,
    "breadcrumbs": summed(_breadcrumbs),
    "della": della,
    "dppa": summed(_dppa),
    "sce": sce,
    "cabs": summed(_cabs),
    "lines": lines,
    "consensus": consensus,
    "model_stock": model_stock,
    "magmax": magmax,
    "fr": summed(_fr),
    "nearswap": summed(
        lambda method, name, taus, tasks: np.sign(taus[name]) * np.minimum(np.abs(taus[name]), method.t)
    ),
    "ram": ram,
}
