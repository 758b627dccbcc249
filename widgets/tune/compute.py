"""Merges a method and counts how often it is right on validation images. No widgets in here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter

import pandas as pd

from mergekit_nb.compare import kept_bytes
from mergekit_nb.engine.merge import merge
from mergekit_nb.evaluation.accuracy import counts
from mergekit_nb.evaluation.interval import wilson
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.methods import Average, Method
from mergekit_nb.progress import CancelFlag
from mergekit_nb.weights.source import Source
from mergekit_nb.widgets.accuracy_figure import Counts, mean
from mergekit_nb.widgets.tune.parts import written

REFERENCES = ("base", "average", "individual")  # what every setting is seen against
BATCH = 64  # images between two looks at the cancel flag
Key = str | Method  # a reference, or what was tuned


@dataclass(frozen=True)
class Trial:
    """One setting, measured.

    Attributes:
        limit: validation images of each task at most; None for all.
        found: task -> images right, images seen.
        nbytes: what has to be kept to serve every task.
        merged, measured: seconds.
    """

    key: Key
    limit: int | None
    found: Counts
    nbytes: int
    merged: float
    measured: float

    @property
    def label(self) -> str:
        return self.key if isinstance(self.key, str) else written(self.key)

    def row(self) -> dict[str, object]:
        """As a line of a table."""
        share, low, high = mean(self.found)
        cost = {"bytes": self.nbytes, "merge seconds": self.merged, "measure seconds": self.measured}
        return {"method": self.label, "images a task": self.limit, "mean": share, "low": low, "high": high, **cost}

    def table(self) -> pd.DataFrame:
        """A row for each task: method, task, accuracy, n, low, high."""
        right, n = (pd.Series(column) for column in zip(*self.found.values(), strict=True))
        low, high = wilson(right, n)
        return pd.DataFrame(
            {"method": self.label, "task": list(self.found), "accuracy": right / n, "n": n, "low": low, "high": high}
        )


@dataclass(frozen=True)
class Bench:
    """The models, and the validation images they are measured on."""

    base: Source
    experts: Mapping[str, Source]
    tests: Mapping[str, Task]

    def images(self, limit: int | None) -> int:
        """How many one measurement looks at."""
        sizes = [len(task.split("validation")[1]) for task in self.tests.values()]
        return sum(min(size, limit or size) for size in sizes)

    def measure(self, key: Key, limit: int | None, cancel: CancelFlag) -> Iterator[tuple[Counts, Trial | None]]:
        """What was counted so far, batch by batch; with the last one the whole trial.

        Raises:
            mergekit_nb.progress.Cancelled: `cancel` was set.
        """
        start = perf_counter()
        subject = self._subject(key, cancel)
        merged = perf_counter() - start
        found: Counts = {}
        batches = counts(subject, self.tests, split="validation", limit=limit, batch_size=BATCH, cancel=cancel)
        for task, right, n in batches:
            found[task] = (right, n)
            yield dict(found), None
        cost = kept_bytes(subject), merged, perf_counter() - start - merged
        yield found, Trial(key, limit, found, *cost)

    def _subject(self, key: Key, cancel: CancelFlag) -> Mapping:
        if key in ("base", "individual"):
            return self.base if key == "base" else self.experts
        return merge(Average() if key == "average" else key, self.base, self.experts, cancel=cancel)
