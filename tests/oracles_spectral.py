"""The spherical and spectral methods once more, slowly: NumPy and float64, straight from the specification."""

from __future__ import annotations

import numpy as np


def each(function):
    """An oracle that works tensor by tensor: function(method, points, tasks) of one tensor `task *shape`."""
    return lambda method, taus, tasks: {n: function(method, tau) for n, tau in taus.items()}


def around(function):
    """An oracle on weights or on task vectors, whichever `method.on` says: function(method, points task *shape)."""

    def oracle(method, taus, tasks, base):
        out = {}
        for name, tau in taus.items():
            start = base[name] if method.on == "weights" else np.zeros(tau.shape[1:])
            out[name] = function(method, start + tau) - start
        return out

    return oracle


def _unit(x):
    length = np.sqrt((x * x).sum())
    return x / length if length > 0 else x


def _slerp_vectors(a, b, t, cosine_limit):
    cosine = np.clip((_unit(a) * _unit(b)).sum(), -1, 1)
    if abs(cosine) > cosine_limit:
        return (1 - t) * a + t * b
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def slerp(method, points):
    return _slerp_vectors(*points, method.t, 0.9995)


def nuslerp(method, points):
    a, b = points
    if method.over == "tensor" or a.ndim < 2:
        return _slerp_vectors(a, b, method.t, 1 - 1e-14)
    axis = -1 if method.over == "last" else 0
    a, b = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
    merged = np.empty_like(a)
    for row in np.ndindex(a.shape[:-1]):
        merged[row] = _slerp_vectors(a[row], b[row], method.t, 1 - 1e-14)
    return np.moveaxis(merged, -1, axis)


def multi_slerp(method, points):
    towards = sum(_unit(p) for p in points)
    if np.linalg.norm(towards) < 1e-10:
        return points.mean(0)
    return _unit(towards) * np.mean([np.linalg.norm(p) for p in points])


def karcher(method, points):
    units = [_unit(p.ravel()) for p in points if np.linalg.norm(p) > method.tolerance]
    if not units:
        return np.zeros(points.shape[1:])
    mean = sum(units) / len(units)
    mean = _unit(mean) if np.linalg.norm(mean) >= method.tolerance else units[0]
    for _ in range(method.iterations):
        step = np.zeros_like(mean)
        for unit in units:
            side = unit - (unit @ mean) * mean
            if np.linalg.norm(side) > 1e-7:
                step += np.arctan2(np.linalg.norm(side), unit @ mean) * _unit(side) / len(units)
        size = np.linalg.norm(step)
        if size < method.tolerance:
            break
        mean = _unit(np.cos(size) * mean + np.sin(size) * step / size)
    return (mean * np.mean([np.linalg.norm(p) for p in points])).reshape(points.shape[1:])


def _svd(x):
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    rank = int((s > max(x.shape) * np.finfo(float).eps * s.max(initial=0)).sum())
    return u[:, :rank], s[:rank], vh[:rank]


def _orthonormal(x):
    """x (x'x)^(-1/2), where it has an inverse."""
    u, _, vh = _svd(x)
    return u @ vh


def matrices(function):
    """An oracle of matrices only: the other tensors get scale * mean."""
    return each(lambda m, tau: m.scale * (function(m, tau) if tau.ndim == 3 else tau.mean(0)))


def tsv(method, tau):
    size = min(tau.shape[1:])
    count = max(size // len(tau) if method.rank is None else int(size * method.rank), 1)
    if not method.whiten:
        return sum((u[:, :count] * s[:count]) @ vh[:count] for u, s, vh in map(_svd, tau))
    us, ss, vs = zip(*map(_svd, tau), strict=True)
    left = _orthonormal(np.concatenate([u[:, :count] for u in us], 1))
    right = _orthonormal(np.concatenate([v[:count] for v in vs], 0))
    return left @ np.diag(np.concatenate([s[:count] for s in ss])) @ right


def iso_c(method, tau):
    u, s, vh = _svd(tau.sum(0))
    return s.mean() * u @ vh if s.size else 0 * tau[0]


def iso_cts(method, tau):
    size, tasks = min(tau.shape[1:]), len(tau)
    own = round((size - int(size * method.common)) / tasks)
    shared = max(size - own * tasks, 0)
    u, s, vh = _svd(tau.sum(0))
    parts = [(u[:, :shared], s[:shared], vh[:shared])]
    away = np.eye(len(u)) - parts[0][0] @ parts[0][0].T
    for t in tau:
        rest = away @ t
        if np.linalg.norm(rest) > 1e-12:
            u, s, vh = _svd(rest)
            parts.append((u[:, :own], s[:own], vh[:own]))
    left, right = np.concatenate([p[0] for p in parts], 1), np.concatenate([p[2] for p in parts], 0)
    strengths = np.concatenate([p[1] for p in parts])
    return strengths.mean() * _orthonormal(left) @ _orthonormal(right) if strengths.size else 0 * tau[0]


def tsv_compress(method, taus, tasks):
    """Every task's own vector: task -> name -> array."""
    out = {task: {} for task in tasks}
    for name, tau in taus.items():
        for task, own in zip(tasks, tau, strict=True):
            if own.ndim != 2:
                out[task][name] = own
                continue
            size = min(own.shape)
            count = max(size // len(tau) if method.rank is None else int(size * method.rank), 1)
            u, s, vh = np.linalg.svd(own)
            out[task][name] = (u[:, :count] * s[:count]) @ vh[:count]
    return out


def wudi(method, tau):
    if tau.ndim != 3:
        return method.scale * tau.mean(0) if method.rest == "mean" else 0 * tau[0]
    gram, target = np.zeros((tau.shape[2],) * 2), 0 * tau[0]
    for t in tau[[t.any() for t in tau]]:
        gram += t.T @ t / (t**2).sum()
        target += t @ t.T @ t / (t**2).sum()
    if method.solver == "closed form":
        return method.scale * target @ np.linalg.pinv(gram, 4 * np.finfo(float).eps, hermitian=True)
    merged, first, second = tau.sum(0), 0.0, 0.0
    for step in range(1, method.iterations + 1):
        gradient = 2 * (merged @ gram - target)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        size = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        merged = merged - method.rate * first / (1 - 0.9**step) / size
    return method.scale * merged


def knots(method, taus, tasks):
    from tests.oracles import ties  # which imports this file

    bases, blocks = {}, {}
    for name, tau in taus.items():
        blocks[name] = tau
        if tau.ndim == 3:
            bases[name], s, vh = _svd(np.concatenate(list(tau), 1))
            blocks[name] = np.stack(np.split(s[:, None] * vh, len(tau), 1))
    if not any(block.size for block in blocks.values()):
        return {name: 0 * tau[0] for name, tau in taus.items()}
    merged = ties(method.inside, blocks, tasks)
    return {name: bases[name] @ vector if name in bases else vector for name, vector in merged.items()}


def core_space(method, tau):
    u, v = _svd(np.concatenate(list(tau), 1))[0], _svd(np.concatenate(list(tau), 0))[2]
    return u @ tsv(method.inside, u.T @ tau @ v.T) @ v if u.size else 0 * tau[0]


SPECTRAL = {
    "tsv": matrices(tsv),
    "iso_c": matrices(iso_c),
    "iso_cts": matrices(iso_cts),
    "wudi": each(wudi),
    "knots": knots,
    "core_space": matrices(core_space),
}
SPECTRAL_PER_TASK = {"tsv_compress": tsv_compress}
ON_WEIGHTS = {
    "slerp": around(slerp), "nuslerp": around(nuslerp), "multi_slerp": around(multi_slerp), "karcher": around(karcher),
}  # fmt: skip
