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


SPECTRAL = {}
ON_WEIGHTS = {
    "slerp": around(slerp), "nuslerp": around(nuslerp), "multi_slerp": around(multi_slerp), "karcher": around(karcher),
}  # fmt: skip
