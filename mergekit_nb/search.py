"""Search for hyper-parameters: any numbers of any method, by a score that is handed in."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from torch import nn

from mergekit_nb.engine.merge import merge
from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.methods import Method, resolve
from mergekit_nb.methods.paths import get, put
from mergekit_nb.progress import CancelFlag, Progress, ticker
from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.source import Source, open

Optimizer = Literal["cma", "random"]
Range = tuple[float, float]
Bounds = Mapping[str, Range | Sequence[Range]]
STEP = 0.3  # CMA-ES' first step, as a share of each range: its authors' advice where the optimum may be anywhere


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        method: the best method, ready for `mk.merge`.
        options: its values of what was searched.
        score: its score.
        history: one row per merge, in order: step, a column for each number, score, best (so far).
        optimizer: which optimiser ran.
    """

    method: Method
    options: dict[str, float | tuple[float, ...]]
    score: float
    history: pd.DataFrame
    optimizer: str


def search(
    method: str | Method,
    base: str | Path | Source | nn.Module,
    experts: Mapping[str, str | Path | Source | nn.Module],
    score: Callable[[Merged], float] | Mapping[str, Task],
    bounds: Bounds,
    budget: int = 50,
    *,
    optimizer: Optimizer = "cma",
    seed: int = 0,
    limit: int | None = None,
    device: str = "auto",
    progress: Progress = False,
    cancel: CancelFlag | None = None,
    watch: Callable[[dict[str, float]], object] | None = None,
    **options,
) -> Found:
    """Look for the hyper-parameters of the highest score. The method as given is tried first, so nothing gets worse.

    Args:
        score: what is to be large, of a merge. Tasks stand for the mean accuracy over them on their *validation* split;
            a function of your own should look at data that the final evaluation does not.
        bounds: field -> (low, high), or for one number per task -> a list of pairs; of a composition "ties.density".
        budget: merges that are scored, the first included.
        optimizer: "cma" is CMA-ES (Hansen 2016, arXiv:1604.00772) of the library `cma`; "random" draws uniformly.
        seed: the same seed gives the same search.
        limit: images per task, where the score is an accuracy.
        watch: called with every row of the history as it comes, for a plot that grows.
        options: hyper-parameters that stay.

    Raises:
        ValueError: a field that the method has not, a range outside the field's, a score that is no finite number.
        mergekit_nb.progress.Cancelled: `cancel` was set.
    """
    start = resolve(method, options)
    axes = _axes(start, bounds)
    if optimizer not in get_args(Optimizer):
        raise ValueError(f"optimizer is one of {', '.join(get_args(Optimizer))}; got {optimizer!r}")
    if budget < 1:
        raise ValueError(f"budget is a number of merges, at least 1; got {budget}")
    base, experts = open(base), {task: open(expert) for task, expert in experts.items()}
    judge = score if callable(score) else _accuracy(score, limit, device, cancel)
    proposals = _Cma(axes, budget, seed) if optimizer == "cma" else _Random(axes, seed)
    rows, tried = [], []
    with ticker(progress, budget, f"search {start.label} by {optimizer}", cancel) as tick:
        tick(0)
        for candidate in _candidates(start, axes, proposals, budget):
            value = float(judge(merge(candidate, base, experts, device=device, hashes=False, cancel=cancel)))
            if not math.isfinite(value):
                raise ValueError(
                    f"the score of {start.label} with {_values(candidate, bounds)} is {value}, not a number"
                )
            proposals.tell(value)
            tried.append((value, candidate))
            best, winner = max(tried, key=lambda pair: pair[0])
            numbers = {axis.label: axis.of(candidate) for axis in axes}
            rows.append({"step": len(rows), **numbers, "score": value, "best": best})
            if watch is not None:
                watch(rows[-1])
            tick(1)
    return Found(winner, _values(winner, bounds), best, pd.DataFrame(rows), proposals.label)


@dataclass(frozen=True)
class _Axis:
    """One number that is searched."""

    path: str
    place: int | None  # which task's, of a field with one number per task
    low: float
    high: float
    whole: bool

    @property
    def label(self) -> str:
        return self.path if self.place is None else f"{self.path}[{self.place}]"

    def at(self, share: float) -> float:
        value = self.low + (self.high - self.low) * min(max(share, 0.0), 1.0)
        return round(value) if self.whole else float(value)

    def of(self, method: Method) -> float:
        value = get(method, self.path)
        return value if self.place is None or not isinstance(value, tuple) else value[self.place]


class _Random:
    """Uniform draws."""

    label = "random (uniform draws)"

    def __init__(self, axes: list[_Axis], seed: int):
        self.size, self.draws = len(axes), np.random.default_rng(seed)

    def ask(self) -> list[float]:
        return list(self.draws.random(self.size))

    def tell(self, value: float) -> None:
        """Random search learns nothing."""


class _Cma:
    """CMA-ES in the unit cube. In one dimension it gets a second that does nothing, as it needs two."""

    def __init__(self, axes: list[_Axis], budget: int, seed: int):
        with warnings.catch_warnings():  # it misses matplotlib, which only its own plots need
            warnings.simplefilter("ignore", UserWarning)
            import cma  # here, as it takes a second
        quiet = {"bounds": [0, 1], "seed": seed + 1, "verbose": -9, "maxfevals": budget}  # its seed 0 is the clock
        self.size, self.generation, self.values = len(axes), [], []
        self.strategy = cma.CMAEvolutionStrategy([0.5] * max(self.size, 2), STEP, quiet)
        self.label = f"cma {cma.__version__} (CMA-ES, generations of {self.strategy.popsize})"
        self.asked = False

    def ask(self) -> list[float]:
        if len(self.values) == len(self.generation):
            if self.generation:
                self.strategy.tell(self.generation, self.values)
            self.generation, self.values = self.strategy.ask(), []
        self.asked = True
        return list(self.generation[len(self.values)][: self.size])

    def tell(self, value: float) -> None:
        if self.asked:  # the method as given was not its proposal
            self.values.append(-value)


def _candidates(start: Method, axes: list[_Axis], proposals: _Cma | _Random, budget: int) -> Iterator[Method]:
    yield start
    for _ in range(budget - 1):
        values: dict[str, list[float]] = {}
        for axis, share in zip(axes, proposals.ask(), strict=True):
            values.setdefault(axis.path, []).append(axis.at(share))
        single = {axis.path for axis in axes if axis.place is None}
        made = start
        for path, numbers in values.items():
            made = put(made, path, numbers[0] if path in single else tuple(numbers))
        yield made


def _axes(start: Method, bounds: Bounds) -> list[_Axis]:
    if not bounds:
        raise ValueError('bounds name nothing to search; give {"scale": (0, 1)}, say')
    axes = []
    for path, given in bounds.items():
        value = get(start, path)
        given, several = _pairs(path, given)
        for place, (low, high) in enumerate(given):
            if not low < high:
                raise ValueError(f"bounds[{path!r}] is (low, high) with low < high; got ({low}, {high})")
            whole = isinstance(value, int) and not isinstance(value, bool)
            axes.append(_Axis(path, place if several else None, low, high, whole))
        for end in zip(*given, strict=True):
            put(start, path, tuple(end) if several else end[0])  # the field's own check refuses what it cannot be
    return axes


def _pairs(path: str, given: Sequence) -> tuple[list[tuple[float, float]], bool]:
    """One pair of numbers in a list, or a list of several, one per task; and whether it was several."""
    wanted = f"bounds[{path!r}] is (low, high), or a list of such pairs, one per task; got {given!r}"
    if not isinstance(given, Sequence) or not given:
        raise ValueError(wanted)
    several = not isinstance(given[0], Real)
    pairs = list(given) if several else [given]
    if not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs):
        raise ValueError(wanted)
    if not all(isinstance(end, Real) for pair in pairs for end in pair):
        raise ValueError(wanted)
    return pairs, several


def _values(method: Method, bounds: Bounds) -> dict:
    return {path: get(method, path) for path in bounds}


def _accuracy(
    tasks: Mapping[str, Task], limit: int | None, device: str, cancel: CancelFlag | None
) -> Callable[[Merged], float]:
    how = {"split": "validation", "limit": limit, "device": device, "cancel": cancel}
    return lambda merged: evaluate(merged, tasks, **how)["accuracy"].mean()
