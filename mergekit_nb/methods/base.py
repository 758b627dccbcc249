"""What a merging method is: knobs, `measure` and `merge`, one tensor at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors

Totals = tuple[Mapping[str, Tensor], ...]
Made = Tensor | tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Knob:
    """Range and unit of one hyper-parameter: the check, the slider and the command line read it.

    Attributes:
        low, high: what is accepted, both ends included.
        unit: what the number means.
        step: the slider's step.
    """

    low: float
    high: float
    unit: str
    step: float = 0.05


class Method(ABC):
    """A merging method: a frozen dataclass whose fields are its hyper-parameters.

    `measure` looks at one tensor and returns numbers that add up over tensors; `merge` turns one tensor's task vectors
    into one. Both are pure, so a model can be merged in any order, in pieces, by many workers.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    leaves: ClassVar[Literal["one model", "shared vector + masks"]] = "one model"

    def rounds(self, dtype: torch.dtype) -> int:
        """How many rounds of `measure` come before `merge`, when computing in this dtype."""
        return 0

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        """Numbers of one tensor that add up over the model; `totals` holds the sums of the earlier rounds."""
        return {}

    @abstractmethod
    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Made:
        """One tensor's merged task vector `*shape`, or that and one bool mask per task `task *shape`."""

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"]) -> Float[Tensor, "task *shape"]:
        """What this method does to task vectors on the left of `|`."""
        raise NotImplementedError

    def scales(self, taus: TaskVectors, totals: Totals) -> dict[str, float] | None:
        """The rescaler of every task, for methods that leave masks; None for those that leave one model."""
        return None

    def __or__(self, other: Method) -> Chain:
        if type(self).edit is Method.edit:
            raise TypeError(f"{self.label} makes one vector of many, so it can only stand last in a composition")
        return Chain(self, other)

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            _check(f"{type(self).__name__}.{name}", getattr(self, name), hint)

    @property
    def label(self) -> str:
        """The name, or the names of a composition joined by "|"."""
        return self.name

    def options(self) -> dict[str, Any]:
        """The hyper-parameters, ready for JSON."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """The hyper-parameters that have a range."""
        return {name: knob for name, hint in _hints(cls).items() if (knob := _knob(hint))}

    def check_tasks(self, tasks: tuple[str, ...]) -> None:
        """Refuse per-task hyper-parameters whose number is not that of the tasks."""
        weights = getattr(self, "weights", None)
        if weights is not None and len(weights) != len(tasks):
            raise ValueError(
                f"{type(self).__name__}.weights has {len(weights)} numbers for {len(tasks)} tasks ({', '.join(tasks)})"
            )


@dataclass(frozen=True)
class Chain(Method):
    """`first | then`: the task vectors that `first` edits are what `then` merges."""

    first: Method
    then: Method
    name: ClassVar[str] = "chain"
    paper: ClassVar[str] = ""

    def rounds(self, dtype: torch.dtype) -> int:
        return self.then.rounds(dtype)

    def measure(self, site: Site, taus: Tensor, totals: Totals) -> dict[str, Tensor]:
        return self.then.measure(site, self.first.edit(site, taus), totals)

    def merge(self, site: Site, taus: Tensor, totals: Totals) -> Made:
        return self.then.merge(site, self.first.edit(site, taus), totals)

    def scales(self, taus: TaskVectors, totals: Totals) -> dict[str, float] | None:
        return self.then.scales(taus, totals)

    def __or__(self, other: Method) -> Chain:
        return Chain(self.first, self.then | other)

    def edit(self, site: Site, taus: Tensor) -> Tensor:
        return self.then.edit(site, self.first.edit(site, taus))

    @property
    def label(self) -> str:
        return f"{self.first.label} | {self.then.label}"

    def options(self) -> dict[str, Any]:
        return {self.first.label: self.first.options(), self.then.label: self.then.options()}

    def check_tasks(self, tasks: tuple[str, ...]) -> None:
        self.first.check_tasks(tasks)
        self.then.check_tasks(tasks)


def weighted(taus: Float[Tensor, "task *shape"], weights: tuple[float, ...] | None) -> Float[Tensor, "task *shape"]:
    """Every task vector times its weight; None leaves them."""
    if weights is None:
        return taus
    factor = torch.tensor(weights, dtype=taus.dtype, device=taus.device)
    return taus * factor.reshape(-1, *[1] * (taus.ndim - 1))


def size_of(taus: TaskVectors) -> int:
    """Number of merged entries of the model."""
    return sum(taus.site(name).size for name in taus.names)


def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls)}


def _knob(hint: Any) -> Knob | None:
    return next((k for k in getattr(hint, "__metadata__", ()) if isinstance(k, Knob)), None)


def _check(field: str, value: Any, hint: Any) -> None:
    knob, choices = _knob(hint), _choices(hint)
    if choices and value not in choices:
        raise ValueError(f"{field} is one of {', '.join(map(repr, choices))}; got {value!r}")
    if knob:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not knob.low <= value <= knob.high:
            raise ValueError(
                f"{field} is a {knob.unit}, in [{knob.low:g}, {knob.high:g}]; got {value!r}{_slip(value, knob)}"
            )


def _slip(value: Any, knob: Knob) -> str:
    if isinstance(value, int | float) and knob.high == 1 and 1 < value <= 100:
        return f"; did you mean {value / 100:g}?"
    return ""


def _choices(hint: Any) -> tuple:
    """The values of a Literal, also inside `Literal[...] | None`; () for anything else."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    inner = [_choices(arg) if arg is not type(None) else (None,) for arg in get_args(hint)]
    return (
        tuple(v for part in inner for v in part) if inner and all(inner) and not hasattr(hint, "__metadata__") else ()
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
