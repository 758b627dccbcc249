"""The leaderboard: every method on every task, between the base and the individual experts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from mergekit_nb.engine.merge import merge
from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.evaluation.interval import mean_interval
from mergekit_nb.evaluation.subject import Subject
from mergekit_nb.evaluation.tasks import Task, by_name
from mergekit_nb.methods import Chain, Method, resolve
from mergekit_nb.progress import CancelFlag, Progress, ticker
from mergekit_nb.weights.merged import Merged

if TYPE_CHECKING:
    from mergekit_nb.zoo import Zoo

SCALES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 1.5)  # tried on validation; the literature's 0.3 and 1 are among them
DIALS = (
    "scale",
    "beta",
)  # the hyper-parameter that is tuned: how long the merged vector is, of LiNeS in the last block
HEADLINE = (
    "average",
    "task_arithmetic",
    "ties",
    "dare",
    "pcb",
    "tsv",
    "emr",
    "tall_masks",
)  # as many as a figure can hold
TUNE_LIMIT = 100  # validation images per task: enough to tell apart scales that matter, and a few seconds each
COLUMNS = ["method", "task", "accuracy", "n", "low", "high", "options", "seconds", "bytes"]


def compare(
    methods: Iterable[str | Method],
    zoo: Zoo,
    *,
    split: str = "test",
    tune: bool = True,
    tune_limit: int | None = TUNE_LIMIT,
    limit: int | None = None,
    device: str | torch.device = "auto",
    progress: Progress = False,
    cancel: CancelFlag | None = None,
) -> pd.DataFrame:
    """Merge the zoo's experts by each method and evaluate the result on each of its tasks.

    Args:
        methods: names from `mk.METHODS`, or method objects such as `mk.methods.Ties(density=0.1)`.
        zoo: anything with `base`, `experts` (by task) and `tasks` (by the same names).
        split: what is reported.
        tune: choose one hyper-parameter of each method that has it, the `scale` (of LiNeS `beta`), by the mean accuracy
            over the tasks on the *validation* split, among `SCALES` (the smallest of equals). All others keep their
            defaults. Of a composition it is the last method's. An object that sets any option is run as it is.
        tune_limit: validation images per task for that choice; None for all.
        limit: images per task that are reported on; None for all.
        device, progress, cancel: as for `mk.evaluate`; progress counts merges and evaluations.

    Returns:
        A row for each method and task: method, task, accuracy in [0, 1], n, low and high (95 % Wilson), options (what
        differs from the defaults, and whether validation chose it), seconds (the merge alone), bytes (what is kept to
        serve every task). "base" (zero-shot) and "individual" (each task's own expert) come first. `table` widens it.

    Raises:
        ValueError: an unknown method, one that does not take so many experts, or two entries of the same name.
        mergekit_nb.progress.Cancelled: `cancel` was set.
    """
    if not hasattr(zoo, "base"):
        raise ValueError(f"{zoo!r} has no base in common, so nothing can be merged from it; zip its networks: mk.zipit")
    entries = [_entry(method, tune) for method in ([methods] if isinstance(methods, str | Method) else methods)]
    labels = ["base", "individual", *(entry.label for entry in entries)]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"listed twice: {', '.join(twice)}")
    for entry in entries:
        entry.method.check_tasks(tuple(zoo.experts))
    steps = 2 + sum(1 + entry.merges + len(entry.scales) for entry in entries)
    with ticker(progress, steps, "compare", cancel) as tick:
        bench = _Bench(zoo, _read_once(zoo.tasks), device, cancel, tick)
        rows = [bench.report("base", zoo.base, split, limit), bench.report("individual", zoo.experts, split, limit)]
        rows += [bench.run(entry, split, limit, tune_limit) for entry in entries]
    return pd.concat(rows, ignore_index=True)[COLUMNS]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard as people read it: a row per method, a column per task, the mean with its 95 % interval.

    Returns:
        Index method, in the order of the frame; a column per task, then mean, low, high (every task counts the same; see
        `evaluation.interval.mean_interval`), options, seconds, bytes.
    """
    wide = frame.pivot(index="method", columns="task", values="accuracy")
    wide = wide.loc[frame["method"].unique(), frame["task"].unique()].rename_axis(columns=None)
    by_method = frame.groupby("method", sort=False)
    ends = {method: mean_interval(rows["accuracy"], rows["low"], rows["high"]) for method, rows in by_method}
    means = pd.DataFrame.from_dict(ends, orient="index", columns=["low", "high"])
    return wide.assign(mean=wide.mean(axis=1)).join(means).join(by_method[["options", "seconds", "bytes"]].first())


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    """Where each method fails: the task it loses most on against that task's own expert, and where it is below the base.

    Returns:
        Index method, in the order of the frame, base and individual left out. worst (task), loss (of accuracy there
        against the expert), below (tasks on which it is right less often than the base), surely (those of them where
        the two 95 % intervals do not meet), both as tuples of task names.
    """
    tasks = list(frame["task"].unique())
    wide = {c: frame.pivot(index="method", columns="task", values=c)[tasks] for c in ("accuracy", "low", "high")}
    found, base, expert = {}, wide["accuracy"].loc["base"], wide["accuracy"].loc["individual"]
    for method in [m for m in frame["method"].unique() if m not in ("base", "individual")]:
        loss, below = expert - wide["accuracy"].loc[method], wide["accuracy"].loc[method] < base
        surely = wide["high"].loc[method] < wide["low"].loc["base"]
        names = [tuple(task for task in tasks if flags[task]) for flags in (below, surely)]
        found[method] = (loss.idxmax(), loss.max(), *names)
    return pd.DataFrame.from_dict(found, orient="index", columns=["worst", "loss", "below", "surely"]).rename_axis(
        "method"
    )


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """`table` as text for a page or a terminal: accuracies in percent, the mean with its interval, megabytes."""
    wide = table(frame)
    tasks = wide[frame["task"].unique()].map(lambda share: f"{share:.1%}")
    mean = [f"{mean:.1%} [{low:.1%}, {high:.1%}]" for mean, low, high in wide[["mean", "low", "high"]].to_numpy()]
    cost = {"MB": [f"{count / 1e6:.3g}" for count in wide["bytes"]], "s": [f"{s:.2f}" for s in wide["seconds"]]}
    first = pd.DataFrame({"method": wide.index, "mean [95 %]": mean}, index=wide.index)
    return first.join(tasks).assign(**cost, options=wide["options"])


class _Entry(NamedTuple):
    """One line of the leaderboard before it is run."""

    label: str
    method: Method
    options: str
    dial: str | None  # what is chosen on validation
    scales: tuple[float, ...]  # and from what; none: run as it is

    @property
    def merges(self) -> int:
        return 2 if self.dial == "beta" else 1


def _entry(method: str | Method, tune: bool) -> _Entry:
    method = resolve(method)
    options = _options(method)
    label = f"{method.label} ({options})" if options else method.label
    dial = _dial(method) if tune and not options else None
    return _Entry(label, method, options, dial, SCALES if dial else ())


def _dial(method: Method) -> str | None:
    """In a composition it is the last method that adds up, so its hyper-parameter counts."""
    if isinstance(method, Chain):
        return _dial(method.then)
    return next((name for name in DIALS if name in method.knobs()), None)


def _turned(method: Method, dial: str, value: float) -> Method:
    if isinstance(method, Chain):
        return replace(method, then=_turned(method.then, dial, value))
    return replace(method, **{dial: value})


def _between(nothing: Merged | None, one: Merged, value: float) -> Merged:
    """What the same method gives with another `scale` or `beta`, from what it gives with 0 and with 1: a straight line.

    `nothing` is None for a scale, with which the merged vector vanishes.
    """
    zero = {} if nothing is None else nothing.vector
    line = {n: value * v + (1 - value) * zero[n] if n in zero else value * v for n, v in one.vector.items()}
    return replace(one, vector=line)


def _options(method: Method) -> str:
    """The fields that differ from their defaults, as one would type them."""
    if isinstance(method, Chain):
        return ", ".join(filter(None, map(_options, (method.first, method.then))))
    changed = [field.name for field in fields(method) if getattr(method, field.name) != field.default]
    return ", ".join(f"{name}={getattr(method, name)!r}" for name in changed)


@dataclass(frozen=True)
class _Bench:
    """What all lines of one leaderboard share."""

    zoo: Zoo
    tasks: Mapping[str, Task]
    device: str | torch.device
    cancel: CancelFlag | None
    tick: Callable[[int], None]

    def run(self, entry: _Entry, split: str, limit: int | None, tune_limit: int | None) -> pd.DataFrame:
        """Merge, choose the scale where there is one to choose, evaluate."""
        start, options = perf_counter(), entry.options
        if not entry.dial:
            merged = self._merged(entry.method)
            seconds = perf_counter() - start
        else:
            one = self._merged(_turned(entry.method, entry.dial, 1.0))
            seconds = perf_counter() - start
            zero = self._merged(_turned(entry.method, entry.dial, 0.0)) if entry.merges > 1 else None
            best = self._best(zero, one, entry.scales, tune_limit)
            edge = {entry.scales[0]: ", the least tried", entry.scales[-1]: ", the most tried"}.get(best, "")
            merged, options = _between(zero, one, best), f"{entry.dial}={best:g} (validation{edge})"
        return self.report(entry.label, merged, split, limit).assign(options=options, seconds=seconds)

    def report(self, label: str, subject: Subject, split: str, limit: int | None) -> pd.DataFrame:
        """The lines of one subject that took no merging."""
        frame = self._scored(subject, split, limit)
        return frame.assign(method=label, options="", seconds=0.0, bytes=kept_bytes(subject))

    def _best(self, zero: Merged | None, one: Merged, scales: tuple[float, ...], limit: int | None) -> float:
        """The value that does best on validation; of equals the smallest."""
        tried = {x: self._scored(_between(zero, one, x), "validation", limit)["accuracy"].mean() for x in scales}
        return max(tried, key=tried.get)

    def _merged(self, method: Method) -> Merged:
        merged = merge(method, self.zoo.base, self.zoo.experts, device=self.device, cancel=self.cancel)
        self.tick(1)
        return merged

    def _scored(self, subject: Subject, split: str, limit: int | None) -> pd.DataFrame:
        frame = evaluate(subject, self.tasks, split=split, limit=limit, device=self.device, cancel=self.cancel)
        self.tick(1)
        return frame


def _read_once(tasks: Mapping[str, Task] | Iterable[Task]) -> dict[str, Task]:
    """The tasks, their images read from disk the first time only."""
    return {name: replace(task, split=cache(task.split)) for name, task in by_name(tasks).items()}


def kept_bytes(subject: Merged | Mapping) -> int:
    """What has to be kept to serve every task, in bytes."""
    if isinstance(subject, Merged):
        return subject.nbytes["shared"] + sum(subject.nbytes["patches"].values())
    return sum(t.numel() * t.element_size() if isinstance(t, Tensor) else kept_bytes(t) for t in subject.values())
