"""Means and paths on a sphere: directions are merged along great circles, lengths apart.

All angles are computed in float64 by arctangents: an arccosine of float32 numbers loses half their digits near 0 and pi,
where the library whose formulas these are (mergekit) has its accidents.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

OPPOSITE = 1e-7  # sine of an angle at pi that float32 weights cannot tell from 0: no great circle is the shortest
NO_LENGTH = 1e-12  # a sum of unit vectors shorter than this has no direction


def directions(x: Float[Tensor, "*lead n"]) -> tuple[Float[Tensor, "*lead n"], Float[Tensor, "*lead 1"]]:
    """Unit vectors along the last axis, and the lengths; a zero vector stays zero."""
    lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(lengths > 0, lengths, torch.ones_like(lengths)), lengths


def arc(
    a: Float[Tensor, "*lead n"], b: Float[Tensor, "*lead n"], t: float, straight: float
) -> tuple[Float[Tensor, "*lead 1"], Float[Tensor, "*lead 1"], Float[Tensor, "*lead 1"]]:
    """The coefficients with which spherical interpolation takes a and b, `t` of the way from a to b.

    Args:
        a, b: float64; the angle is between their directions, a zero vector stands at a right angle to all.
        straight: where the sine of the angle is below this, at 0 and at pi, the way is the straight line.

    Returns:
        The coefficient of a, that of b, and how far their sum is from 1: exactly 0 on a straight line.
    """
    u, v = directions(a)[0], directions(b)[0]
    across, along = (torch.linalg.vector_norm(w, dim=-1, keepdim=True) for w in (u - v, u + v))
    angle = 2 * torch.atan2(across, along)
    line = angle.sin().abs() < straight
    sine = torch.where(line, torch.ones_like(angle), angle.sin())
    first = torch.where(line, 1 - t, ((1 - t) * angle).sin() / sine)
    second = torch.where(line, t, (t * angle).sin() / sine)
    return first, second, torch.where(line, 0.0, first + second - 1)


def middle(points: Float[Tensor, "task n"], weights: Float[Tensor, " task"]) -> Float[Tensor, " n"]:
    """The direction of the weighted sum of directions, times the weighted mean of the lengths.

    Where the directions cancel there is no middle, and the weighted mean of the points is given.
    """
    units, lengths = directions(points)
    towards, length = directions((weights[:, None] * units).sum(0))
    if length < NO_LENGTH:
        return (weights[:, None] * points).sum(0)
    return towards * (weights * lengths[:, 0]).sum()


def karcher_mean(
    points: Float[Tensor, "task n"], weights: Float[Tensor, " task"], iterations: int, tolerance: float
) -> Float[Tensor, " n"]:
    """The direction whose weighted squared angles to all directions are least, times the weighted mean of the lengths.

    Args:
        weights: they add up to 1; points no longer than `tolerance` have no say in the direction.
        iterations, tolerance: steps at most; a step shorter than the tolerance, in radians, is the last.
    """
    units, lengths = directions(points)
    counts = lengths[:, 0] > tolerance
    if not counts.any():
        return torch.zeros_like(points[0])
    share = weights[counts] / weights[counts].sum()
    mean = _karcher_direction(units[counts], share, iterations, tolerance)
    return mean * (weights * lengths[:, 0]).sum()


def _karcher_direction(units: Tensor, share: Tensor, iterations: int, tolerance: float) -> Tensor:
    mean, length = directions((share[:, None] * units).sum(0))
    if length < tolerance:
        mean = units[0]
    for _ in range(iterations):
        step, size = directions((share[:, None] * tangents(mean, units)).sum(0))
        if size < tolerance:
            break
        mean, _ = directions(size.cos() * mean + size.sin() * step)
    return mean


def tangents(mean: Float[Tensor, " n"], units: Float[Tensor, "task n"]) -> Float[Tensor, "task n"]:
    """From `mean` towards each unit vector, as long as the angle between them; 0 for the one opposite."""
    cosine = units @ mean
    sideways, sine = directions(units - cosine[:, None] * mean)
    angle = torch.atan2(sine, cosine[:, None])
    return torch.where(sine < OPPOSITE, torch.zeros_like(units), angle * sideways)
