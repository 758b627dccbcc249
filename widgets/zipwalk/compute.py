"""Zips, and measures what they are worth and what they cost. No widgets in here."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor, nn

from mergekit_nb.align.zipit import zipit
from mergekit_nb.evaluation.joint import joint
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.models.flops import flops
from mergekit_nb.progress import CancelFlag, ticker
from mergekit_nb.tradeoff import METHODS
from mergekit_nb.widgets.zipwalk.state import ALL, NOTHING, Key
from mergekit_nb.widgets.zipwalk.study import Study

BATCH = 64  # pictures between two looks at the cancel flag


@dataclass(frozen=True)
class Point:
    """A model, measured.

    Attributes:
        table: what `mk.joint` returned: the row "joint", then a row for each task.
        flops: operations for one picture.
    """

    key: Key
    table: pd.DataFrame
    flops: int

    def share(self, task: str = "joint") -> tuple[float, float, float]:
        """Accuracy and its 95 % interval, low and high."""
        row = self.table.set_index("task").loc[task]
        return row["accuracy"], row["low"], row["high"]


def references(study: Study) -> list[Key]:
    """What every zip is seen against: the ensemble, and each network alone."""
    return [Key("ensemble", NOTHING), *(Key("alone", name) for name in study.networks)]


def measured(study: Study, key: Key, cancel: CancelFlag) -> Point:
    """What `mk.zipit`, `mk.joint` and `mk.flops` say of one model.

    Raises:
        mergekit_nb.progress.Cancelled: `cancel` was set; it is looked at before every batch.
        ValueError: as `mk.zipit` and `mk.joint`.
    """
    with study.busy:
        model = _model(study, key, cancel)
        nets = model if isinstance(model, list) else [model]
        cost = sum(flops(net, study.picture) for net in nets)
    tasks = {name: _heeding(task, cancel) for name, task in study.tests.items()}
    table = joint(model, tasks, scale=study.scale, split=study.split, limit=study.limit, batch_size=BATCH)
    return Point(key, table, cost)


def _model(study: Study, key: Key, cancel: CancelFlag) -> nn.Module | list[nn.Module]:
    if key.method == "alone":
        return copy.deepcopy(study.networks[key.boundary])  # `joint` would copy the hooks of who looks at it meanwhile
    nets = list(study.networks.values())
    if key.method == "ensemble":
        return copy.deepcopy(nets)
    knobs = {} if key.alpha is None else {"alpha": key.alpha, "beta": key.beta}
    stop = None if key.boundary == ALL else key.boundary
    batches = Heeding(study.batches, cancel)
    return zipit(nets, batches, **knobs, stop_at=stop, matching=METHODS[key.method], axes=study.axes)


@dataclass(frozen=True)
class Heeding:
    """Batches that end in `Cancelled` once `cancel` is set."""

    batches: Sequence
    cancel: CancelFlag

    def __iter__(self) -> Iterator:
        with ticker(False, len(self.batches), "the zip", self.cancel) as tick:
            for batch in self.batches:
                tick(1)
                yield batch


def _heeding(task: Task, cancel: CancelFlag) -> Task:
    """The same task; it ends in `Cancelled` at the first batch after `cancel` is set."""

    def preprocess(images: Tensor) -> Tensor:
        with ticker(False, len(images), f"measuring {task.name}", cancel) as tick:
            tick(0)
        return task.preprocess(images)

    return replace(task, preprocess=preprocess)


def history(known: Mapping[Key, Point]) -> pd.DataFrame:
    """A row for each model and task: method, boundary, alpha, beta, flops, and the columns of `mk.joint`."""
    tables = [point.table.assign(**key._asdict(), flops=point.flops) for key, point in known.items()]
    if not tables:
        return pd.DataFrame()
    found = pd.concat([table.astype({"alpha": float, "beta": float}) for table in tables], ignore_index=True)
    first = [*Key._fields, "flops"]
    return found[[*first, *(name for name in found.columns if name not in first)]]
