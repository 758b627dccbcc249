"""What becomes of the axes when a tensor is seen in another shape.

Where one axis is seen as several (3 q/k/v x heads x channels), nothing is decided before it is known what for: a pick out
of the outermost cuts the features, everything else ties those of one row together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from operator import mul

from mergekit_nb.models.features import Axis, Run, fix, fixed, free, is_fixed, part, resolved, size


@dataclass(frozen=True, eq=False)
class Grid:
    """An axis seen as several."""

    flat: Axis
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Factor:
    """One of the axes that a grid has."""

    grid: Grid
    index: int


Dims = tuple[Axis | Factor, ...]


def extent(dim: Axis | Factor) -> int:
    """The length of one axis of a tensor."""
    return dim.grid.sizes[dim.index] if isinstance(dim, Factor) else size(dim)


def settled(dims: Dims) -> tuple[Axis, ...]:
    """The same axes with every grid decided: its rows are what moves, and a row stays together."""
    grids = {dim.grid: None for dim in dims if isinstance(dim, Factor)}
    rows = {grid: _rows(grid.flat, grid.sizes) for grid in grids}
    return tuple(rows[dim.grid][dim.index] if isinstance(dim, Factor) else dim for dim in dims)


def _rows(flat: Axis, sizes: Sequence[int]) -> list[Axis]:
    if len(sizes) == 1:
        return [flat]
    flat, count = resolved(flat), sizes[0]
    period, odd = divmod(len(flat), count)
    if count > 1 and not odd and period and flat == flat[:period] * count:
        return [fixed(count), *_rows(flat[:period], sizes[1:])]
    row = prod(sizes[1:])
    for run in flat:
        if run.features is not None:
            run.features.coarsen(run.length // row if run.length % row == 0 else 1)
    if any(run.length % row for run in flat):
        fix(flat)
        return [fixed(each) for each in sizes]
    return [tuple(Run(run.features, run.length // row) for run in flat), *(fixed(each) for each in sizes[1:])]


def picked(dims: Dims, at: int, start: int, stop: int) -> Dims:
    """The entries from `start` up to `stop` of one axis; the axis stays, also where one entry is left of it."""
    dim = dims[at]
    if not isinstance(dim, Factor):
        return (*dims[:at], part(dim, start, stop), *dims[at + 1 :])
    if dim.index:
        return picked(settled(dims), at, start, stop)
    old, row = dim.grid, prod(dim.grid.sizes[1:])
    rest = part(old.flat, start * row, stop * row)
    if stop - start > 1:
        new = Grid(rest, (stop - start, *old.sizes[1:]))
        return tuple(_moved(d, old, Factor(new, d.index)) if isinstance(d, Factor) else d for d in dims)
    inner = split(rest, old.sizes[1:])
    return tuple(
        _moved(d, old, inner[d.index - 1] if d.index else fixed(1)) if isinstance(d, Factor) else d for d in dims
    )


def _moved(dim: Factor, old: Grid, new: Axis | Factor) -> Axis | Factor:
    return new if dim.grid is old else dim


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis | Factor]:
    """One axis seen as several."""
    if len(sizes) == 1:
        return [axis]
    if is_fixed(axis):
        return [fixed(each) for each in sizes]
    grid = Grid(axis, tuple(sizes))
    return [Factor(grid, index) for index in range(len(sizes))]


def product(outer: Axis, inner: Axis) -> Axis:
    """Two neighbouring axes seen as one."""
    if is_fixed(outer):
        if is_fixed(inner):
            return fixed(size(outer) * size(inner))
        return resolved(inner) * size(outer)
    fix(inner)
    return tuple(Run(run.features, run.length * size(inner)) for run in resolved(outer))


def reshaped(dims: Dims, shape: Sequence[int]) -> Dims:
    """The axes after a view: what is cut is cut at the finest grid that both shapes have, and put together again."""
    old = [extent(dim) for dim in dims]
    if 0 in old or 0 in shape:
        return tuple(free(length) for length in shape)
    marks = sorted({*accumulate(old, mul, initial=1), *accumulate(shape, mul, initial=1)})
    if any(b % a for a, b in pairwise(marks)):
        return _by_force(dims, shape)
    steps = [b // a for a, b in pairwise(marks)]
    atoms: list[Axis | Factor] = []
    for dim, count in zip(dims, old, strict=True):
        sizes = _taken(steps, len(atoms), count)
        if len(sizes) > 1 and isinstance(dim, Factor):
            return reshaped(settled(dims), shape)
        atoms += [] if not sizes else [dim] if len(sizes) == 1 else split(dim, sizes)
    return _joined(atoms, steps, shape)


def _taken(steps: Sequence[int], start: int, count: int) -> list[int]:
    sizes: list[int] = []
    while prod(sizes) < count:
        sizes.append(steps[start + len(sizes)])
    return sizes


def _joined(atoms: list[Axis | Factor], steps: Sequence[int], shape: Sequence[int]) -> Dims:
    chosen, start = [], 0
    for length in shape:
        count = len(_taken(steps, start, length))
        chosen.append(atoms[start : start + count])
        start += count
    whole = [_whole(group) for group in chosen]
    if all(len(group) < 2 or flat for group, flat in zip(chosen, whole, strict=True)):
        return tuple(flat or (group[0] if group else fixed(1)) for group, flat in zip(chosen, whole, strict=True))
    plain = iter(settled(tuple(atoms)))
    return tuple(_multiplied([next(plain) for _ in group]) for group in chosen)


def _whole(group: list[Axis | Factor]) -> Axis | None:
    """The flat axis, where these are all the factors of one grid in order."""
    grids = {dim.grid for dim in group if isinstance(dim, Factor)}
    if len(grids) != 1 or [getattr(dim, "index", None) for dim in group] != list(range(len(group))):
        return None
    grid = grids.pop()
    return grid.flat if len(grid.sizes) == len(group) else None


def _multiplied(axes: list[Axis]) -> Axis:
    if not axes:
        return fixed(1)
    made = axes[-1]
    for axis in reversed(axes[:-1]):
        made = product(axis, made)
    return made


def _by_force(dims: Dims, shape: Sequence[int]) -> Dims:
    """A view that no grid explains: nothing may move."""
    for axis in settled(dims):
        fix(axis)
    return tuple(fixed(length) for length in shape)
