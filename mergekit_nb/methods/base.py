"""What a merging method is: knobs, `measure` and `merge`, one tensor at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors

FRACTIONS = ("fraction", "share", "half the range of the chances")  # units of which a percentage is the likely slip
Totals = tuple[Mapping[str, Tensor], ...]
Grain = Literal["entry", "tensor"]
Made = Tensor | tuple[Tensor, Tensor] | list[tuple[Tensor, Tensor]]


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

    What a method promises is said by its class, and held to it by the laws in the tests. `commutes`: if the entries of a
    tensor are permuted alike in the base and in every expert, the merge is permuted alike, whatever the permutation
    ("entries"), if it is one along each axis ("axes": ranks in rows, or singular vectors, are made of those), or never
    ("nothing": places count). Where an option decides, it is a property.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    leaves: ClassVar[Literal["one model", "shared vector + masks"]] = "one model"
    symmetric: ClassVar[bool] = True  # False: the order of the tasks is part of the method
    experts: ClassVar[tuple[int, int | None]] = (1, None)  # how many it takes, least and most
    generic: ClassVar[bool] = False  # True: determined only where no two numbers at a cut are equal
    random: ClassVar[bool] = False  # True: draws from (seed, task, tensor name), so names and places count
    homogeneous: ClassVar[bool] = True  # False: all task vectors times c (> 0) do not give c times the result
    commutes: ClassVar[Literal["entries", "axes", "nothing"]] = "entries"  # which permutations of every model alike
    per_task: ClassVar[tuple[str, ...]] = ("weights", "scale")  # fields that may hold one number per task
    edit_rounds: ClassVar[int] = 0  # rounds of `measure` that `edit` needs
    late: ClassVar[bool] = False  # True: `merge` does not look at the last round, which is measured in the same walk
    stacks: ClassVar[int] = 12  # so many times all task vectors is what its intermediate results come to, as measured
    grain: ClassVar[Grain] = "tensor"  # "entry": the same bits from any pieces of a tensor, flattened and cut anywhere

    def rounds(self, dtype: torch.dtype) -> int:
        """How many rounds of `measure` come before `merge`, when computing in this dtype."""
        return 0

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        """Numbers of one tensor that add up over the model; `totals` holds the sums of the earlier rounds."""
        return {}

    @abstractmethod
    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Made:
        """One tensor's merged task vector `*shape`, or that and one bool mask per task `task *shape`.

        Or nothing shared, and per task the factors `out rank`, `rank in` of its own vector; [] leaves each its own tensor.
        """

    def edit(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals = ()) -> Float[Tensor, "task *shape"]:
        """What this method does to task vectors on the left of `|`; `totals` holds its `edit_rounds`."""
        raise NotImplementedError

    def notes(self, taus: TaskVectors, totals: Totals) -> list[str]:
        """What to warn of once all is measured: a task that counts for nothing, say."""
        return []

    def scales(self, taus: TaskVectors, totals: Totals) -> dict[str, float] | None:
        """The rescaler of every task, for methods that leave masks; None for those that leave one model."""
        return None

    def __or__(self, other: Method) -> Chain:
        check_method(self, other)
        if isinstance(other, Post):
            return After(self, other)
        if type(self).edit is Method.edit:
            raise TypeError(_last(self))
        return Chain(self, other)

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, _natural(getattr(self, name)))
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
        """Refuse a number of tasks the method does not take, and per-task hyper-parameters of another number."""
        for name in self.per_task:
            value = getattr(self, name, None)
            if isinstance(value, tuple) and len(value) != len(tasks):
                raise ValueError(
                    f"{type(self).__name__}.{name} has {len(value)} numbers for {len(tasks)} tasks ({', '.join(tasks)})"
                )
        least, most = self.experts
        if not least <= len(tasks) <= (most or len(tasks)):
            wanted = (
                f"exactly {least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            )
            raise ValueError(f"{self.label} merges {wanted} experts; got {len(tasks)} ({', '.join(tasks)})")


@dataclass(frozen=True)
class Chain(Method):
    """`first | then`: the task vectors that `first` edits are what `then` merges."""

    first: Method
    then: Method
    name: ClassVar[str] = "chain"
    paper: ClassVar[str] = ""

    @property
    def edit_rounds(self) -> int:
        return self.first.edit_rounds + self.then.edit_rounds

    @property
    def grain(self) -> Grain:
        return "entry" if self.first.grain == self.then.grain == "entry" else "tensor"

    @property
    def late(self) -> bool:
        return self.then.late

    @property
    def stacks(self) -> int:
        return max(self.first.stacks, self.then.stacks) + 1  # what `first` edited is still there

    def rounds(self, dtype: torch.dtype) -> int:
        return self.first.edit_rounds + self.then.rounds(dtype)

    @property
    def leaves(self) -> str:
        return self.then.leaves

    @property
    def random(self) -> bool:
        return self.first.random or self.then.random

    @property
    def homogeneous(self) -> bool:
        return self.first.homogeneous and self.then.homogeneous

    @property
    def commutes(self) -> str:
        return max(self.first.commutes, self.then.commutes, key=("entries", "axes", "nothing").index)

    def measure(self, site: Site, taus: Tensor, totals: Totals) -> dict[str, Tensor]:
        if len(totals) < self.first.edit_rounds:
            return self.first.measure(site, taus, totals)
        return self.then.measure(_edited(site), self._edited(site, taus, totals), self._later(totals))

    def merge(self, site: Site, taus: Tensor, totals: Totals) -> Made:
        return self.then.merge(_edited(site), self._edited(site, taus, totals), self._later(totals))

    def edit(self, site: Site, taus: Tensor, totals: Totals = ()) -> Tensor:
        return self.then.edit(_edited(site), self._edited(site, taus, totals), self._later(totals))

    def scales(self, taus: TaskVectors, totals: Totals) -> dict[str, float] | None:
        return self.then.scales(taus, self._later(totals))

    def notes(self, taus: TaskVectors, totals: Totals) -> list[str]:
        return self.first.notes(taus, totals) + self.then.notes(taus, self._later(totals))

    def _edited(self, site: Site, taus: Tensor, totals: Totals) -> Tensor:
        return self.first.edit(site, taus, totals[: self.first.edit_rounds])

    def _later(self, totals: Totals) -> Totals:
        return totals[self.first.edit_rounds :]

    def __or__(self, other: Method) -> Chain:
        check_method(self, other)
        return Chain(self.first, self.then | other)

    @property
    def label(self) -> str:
        return f"{self.first.label} | {self.then.label}"

    def options(self) -> dict[str, Any]:
        return {self.first.label: self.first.options(), self.then.label: self.then.options()}

    def check_tasks(self, tasks: tuple[str, ...]) -> None:
        self.first.check_tasks(tasks)
        self.then.check_tasks(tasks)


class Post(Method):
    """A method that works on a merged vector: on the right of `|` on what the left side made, alone on the sum.

    `left | post` runs all of `left` first, its scale included, whatever `left` is.
    """

    post_rounds: ClassVar[int] = 0  # rounds of `survey` that `post` needs

    def survey(self, site: Site, taus: Tensor, vector: Float[Tensor, "*shape"], totals: Totals) -> dict[str, Tensor]:
        """As `measure`, of the task vectors and of the vector made of them."""
        return {}

    @abstractmethod
    def post(self, site: Site, taus: Tensor, vector: Float[Tensor, "*shape"], totals: Totals) -> Made:
        """As `merge`, of the task vectors and of the vector made of them."""

    def rounds(self, dtype: torch.dtype) -> int:
        return self.post_rounds

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        return self.survey(site, taus, ordered_sum(taus), totals)

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Made:
        return self.post(site, taus, ordered_sum(taus), totals)


@dataclass(frozen=True)
class After(Chain):
    """`first | then` where `then` is a `Post`: it works on the vector that `first` merged; masks of `first` stay."""

    then: Post

    def __post_init__(self) -> None:
        if "low-rank" in self.first.leaves:
            raise TypeError(f"{self.first.label} makes no merged vector, and {self.then.label} works on one")
        if "masks" in self.first.leaves and "masks" in self.then.leaves:
            raise TypeError(f"{self.first.label} leaves masks already; {self.then.label} cannot make others of them")

    @property
    def leaves(self) -> str:
        return self.then.leaves if "masks" in self.then.leaves else self.first.leaves

    edit_rounds: ClassVar[int] = 0
    late: ClassVar[bool] = False

    def rounds(self, dtype: torch.dtype) -> int:
        return self.first.rounds(dtype) + self.then.post_rounds

    def measure(self, site: Site, taus: Tensor, totals: Totals) -> dict[str, Tensor]:
        before = self.first.rounds(taus.dtype)
        if len(totals) < before:
            return self.first.measure(site, taus, totals)
        return self.then.survey(site, taus, _vector(self.first.merge(site, taus, totals[:before])), totals[before:])

    def merge(self, site: Site, taus: Tensor, totals: Totals) -> Made:
        before = self.first.rounds(taus.dtype)
        made = self.first.merge(site, taus, totals[:before])
        done = self.then.post(site, taus, _vector(made), totals[before:])
        return (done, made[1]) if isinstance(made, tuple) else done

    def scales(self, taus: TaskVectors, totals: Totals) -> dict[str, float] | None:
        first, then = self._parts(totals)
        return self.then.scales(taus, then) or self.first.scales(taus, first)

    def notes(self, taus: TaskVectors, totals: Totals) -> list[str]:
        first, then = self._parts(totals)
        return self.first.notes(taus, first) + self.then.notes(taus, then)

    def _parts(self, totals: Totals) -> tuple[Totals, Totals]:
        cut = len(totals) - self.then.post_rounds
        return totals[:cut], totals[cut:]

    def __or__(self, other: Method) -> Chain:
        check_method(self, other)
        if isinstance(other, Post):
            return After(self, other)
        raise TypeError(_last(self))


def _edited(site: Site) -> Site:
    """The same place, where the task vectors are no longer the experts' own."""
    return replace(site, experts=None)


def check_method(left: Method, right: object) -> None:
    """Refuse what is no method on the right of `|`: a class without parentheses, most likely."""
    if isinstance(right, Method):
        return
    hint = f"; write {right.__name__}()" if isinstance(right, type) and issubclass(right, Method) else ""
    raise TypeError(f"after {left.label} | comes a method object, such as Ties(); got {right!r}{hint}")


def _last(method: Method) -> str:
    return (
        f"{method.label} makes one vector of many, so it can only stand last in a composition, "
        "or before what works on a merged vector"
    )


def _vector(made: Made) -> Tensor:
    return made[0] if isinstance(made, tuple) else made


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
    parts = [hint, *get_args(hint)] if get_origin(hint) in (Union, UnionType) else [hint]
    return next((k for part in parts for k in getattr(part, "__metadata__", ()) if isinstance(k, Knob)), None)


def _natural(value: Any) -> Any:
    """NumPy's and torch's numbers as Python's own, lists and arrays as tuples; anything else as it is."""
    value = value.tolist() if isinstance(value, Tensor | np.ndarray | np.generic) else value
    return tuple(_natural(part) for part in value) if isinstance(value, list | tuple) else value


def _check(field: str, value: Any, hint: Any) -> None:
    knob, choices = _knob(hint), _choices(hint)
    if choices and value not in choices:
        raise ValueError(f"{field} is one of {', '.join(map(repr, choices))}; got {value!r}")
    kinds = (hint, *get_args(hint))
    if knob and not (value is None and NoneType in kinds):
        several = isinstance(value, tuple) and tuple in map(get_origin, kinds)
        for number in value if several else (value,):
            _check_number(field, number, knob)
        if int in kinds and not isinstance(value, int):
            raise ValueError(f"{field} is a {knob.unit}, a whole number; got {value!r}")
    elif not choices and not knob and not (value is None and NoneType in kinds):
        _check_kind(field, value, kinds)


def _check_kind(field: str, value: Any, kinds: tuple) -> None:
    """A field without a range: yes or no, a whole number, a number, one number per task, or texts."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if bool in kinds and not isinstance(value, bool):
        raise ValueError(f"{field} is True or False; got {value!r}")
    if int in kinds and not (number and isinstance(value, int)):
        raise ValueError(f"{field} is a whole number; got {value!r}")
    if float in kinds and not (number and isfinite(value)):
        raise ValueError(f"{field} is a number; got {value!r}")
    if tuple[str, ...] in kinds and not (isinstance(value, tuple) and all(isinstance(text, str) for text in value)):
        raise ValueError(f"{field} is a tuple of texts; got {value!r}")
    if tuple[float, ...] in kinds and not (
        isinstance(value, tuple) and all(isinstance(n, int | float) and isfinite(n) for n in value)
    ):
        raise ValueError(f"{field} is one number per task, in the order of the tasks; got {value!r}")


def _check_number(field: str, value: Any, knob: Knob) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not knob.low <= value <= knob.high:
        raise ValueError(
            f"{field} is a {knob.unit}, in [{knob.low:g}, {knob.high:g}]; got {value!r}{_slip(value, knob)}"
        )


def _slip(value: Any, knob: Knob) -> str:
    """A percentage where a fraction is meant, or a number typed as text."""
    if isinstance(value, str):
        return "; write it as a number, without quotes"
    if isinstance(value, tuple):
        return "; it is one number for all tasks"
    percent = isinstance(value, int | float) and not isinstance(value, bool) and 1 < value <= 100
    if percent and knob.unit.startswith(FRACTIONS) and knob.low <= value / 100 <= knob.high:
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
