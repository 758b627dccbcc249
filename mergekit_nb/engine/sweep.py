"""A grid of hyper-parameters: every combination merged and scored, by the same executors as a merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import product
from typing import Any

import pandas as pd

from mergekit_nb.engine.merge import Weights, merge
from mergekit_nb.engine.workers import by_executor, checked
from mergekit_nb.methods import Method, resolve
from mergekit_nb.methods.paths import get, put
from mergekit_nb.progress import CancelFlag, Progress, ticker
from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.source import Source
from mergekit_nb.weights.source import open as open_source

Score = Callable[[Merged], float | Mapping[str, float]]


def sweep(
    method: str | Method,
    base: Weights,
    experts: Mapping[str, Weights],
    score: Score,
    grid: Mapping[str, Sequence[Any]],
    *,
    device: str = "auto",
    executor: Executor | None = None,
    progress: Progress = False,
    cancel: CancelFlag | None = None,
    **options,
) -> pd.DataFrame:
    """Merge and score every combination of the values in a grid.

    Args:
        score: a number, or several by name, of a merge. Worker processes get it by pickle, so there it is a function of a
            module.
        grid: field -> the values to try; of a composition "ties.density". The last one changes fastest.
        executor: any `concurrent.futures.Executor`; a combination is its unit of work. Give checkpoints by path, so that
            no weights travel to its workers.
        options: hyper-parameters that stay.

    Returns:
        A row for every combination, in the order of the grid: the fields, then "score", or a column for every name.

    Raises:
        ValueError: an empty grid, a field that the method has not, a value outside the field's range, a score that is no
            number; fields and values are checked before anything is merged.
        mergekit_nb.progress.Cancelled: `cancel` was set.
    """
    start, executor = resolve(method, options), checked(executor)
    if single := [path for path, values in grid.items() if isinstance(values, str) or not isinstance(values, Iterable)]:
        raise ValueError(f"grid[{single[0]!r}] is a list of values to try; got {grid[single[0]]!r}")
    rows = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if not grid or not rows:
        raise ValueError('grid names nothing to try; give {"density": [0.1, 0.2, 0.5]}, say')
    candidates = [_put(start, row) for row in rows]
    opened = open_source(base), {task: open_source(expert) for task, expert in experts.items()}
    work = partial(_scored, score, *opened, device)
    with ticker(progress, len(rows), f"sweep {start.label}", cancel) as tick:
        tick(0)
        for row, found in zip(rows, _all(executor, work, candidates), strict=True):
            for name, value in found.items():
                row[name] = _number(value, name, row)
            tick(1)
    return pd.DataFrame(rows)


def _put(method: Method, row: Mapping[str, Any]) -> Method:
    for path, value in row.items():
        get(method, path)  # names what there is, where it is not there
        method = put(method, path, tuple(value) if isinstance(value, list) else value)
    return method


def _all(executor: Executor | None, work: Callable, candidates: list[Method]) -> Iterator[Mapping[str, float]]:
    return map(work, candidates) if executor is None else by_executor(executor, work, candidates)


def _scored(score: Score, base: Source, experts: Mapping[str, Source], device: str, method: Method) -> dict:
    found = score(merge(method, base, experts, device=device, hashes=False))
    return dict(found) if isinstance(found, Mapping) else {"score": found}


def _number(value: Any, name: str, row: Mapping[str, Any]) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{name} of {row} is {number}, not a number")
    return number
