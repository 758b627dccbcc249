"""What Python and the page agree on: up to where is zipped, how, and which layer and group are on show. No maths in here."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import traitlets

from mergekit_nb.tradeoff import METHODS
from mergekit_nb.widgets.walk.state import Checked, StateError, one_of

NOTHING, ALL = "nothing", "all"  # the two ends of the boundary's slider, as `mk.tradeoff` calls them
ORDERS = ("by group", "as they are")


class Key(NamedTuple):
    """A model that can be measured; method and boundary are those of `mk.tradeoff`'s table.

    Attributes:
        method: one of `METHODS`, or "ensemble", or "alone".
        boundary: what is zipped up to there; of a network alone, its name.
        alpha, beta: of a zip; None for all others, which have none.
    """

    method: str
    boundary: str
    alpha: float | None = None
    beta: float | None = None


def named(what: str, options: Callable[["ZipState"], tuple[str, ...]]) -> Callable[["ZipState", Any], str]:
    """A check: one of the names in `options(state)`, or its number, which is turned into the name."""

    def check(state: "ZipState", value: Any) -> str:
        names = options(state)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
            return names[value]
        if value not in names:
            raise StateError(f"state.{what} is 0 to {len(names) - 1} or one of {', '.join(names)}; got {value!r}")
        return value

    return check


def between(name: str, low: float, high: float, open: bool = False) -> Callable[["ZipState", Any], float]:
    """A check: a number from `low` (itself left out where the range is `open`) to `high`."""

    def check(_: "ZipState", value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high or (open and value == low):
            raise StateError(f"state.{name} is a number in {'(' if open else '['}{low}, {high}]; got {value!r}")
        return round(float(value), 6)  # a slider's 0.30000000000000004 is the reader's 0.3

    return check


def a_group(state: "ZipState", value: Any) -> int | None:
    last = state.study.axes.space(state.layer).width - 1
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= last):
        raise StateError(f"state.group is a group of {state.layer}, 0 to {last}, or None; got {value!r}")
    return value


class ZipState(traitlets.HasTraits):
    """Where the reader stands. Set any of it from a cell, `state.boundary = "layer2"`: the panel follows.

    `study` holds the networks: anything with `boundaries`, `layers` and `axes`.
    """

    boundary = Checked(NOTHING, named("boundary", lambda state: state.study.boundaries), "zipped up to here")
    method = Checked("zip", one_of("method", tuple(METHODS)), "how features are matched")
    alpha = Checked(0.3, between("alpha", 0, 1, open=True), "of `mk.zipit`")
    beta = Checked(0.125, between("beta", 0, 1), "of `mk.zipit`")
    layer = Checked("", named("layer", lambda state: state.study.layers), "the space whose features are shown")
    order = Checked(ORDERS[0], one_of("order", ORDERS), "in which order the features are shown")
    group = Checked(None, a_group, "which group of the layer, as in `zipped.groups[layer]`; None is not chosen yet")

    def __init__(self, study: Any, **start: Any):
        self.study = study
        self.lock = threading.RLock()  # one change at a time, from whichever thread it comes
        super().__init__(layer=study.layers[0], **start)

    def key(self, boundary: str | None = None) -> Key:
        """The model on show, or the same with another boundary."""
        boundary = boundary or self.boundary
        if boundary == NOTHING:
            return Key("ensemble", NOTHING)
        return Key(self.method, boundary, *((self.alpha, self.beta) if self.method == "zip" else ()))

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {name: getattr(self, name) for name in sorted(self.trait_names())}

    @traitlets.observe("layer", "method", "alpha", "beta")
    def _forget_the_group(self, _: Any) -> None:
        """A group's number means something else where features are matched differently."""
        self.group = None
