"""What Python and the page agree on: which step, layer, tensor and weights are on show. No maths and no drawing in here."""

import re
import threading
from collections.abc import Callable
from typing import Any

import traitlets

STEPS = ("task vectors", "elect", "mask", "rescale")
PICKS = ("most conflicting", "largest", "random", "typed")
SCOPES = ("layer", "model")


class StateError(traitlets.TraitError, ValueError):
    """A value the state cannot take; the message is one sentence that says what it can take."""


class Checked(traitlets.TraitType):
    """A trait whose value is whatever `check(state, value)` returns; `check` raises StateError for a wrong one."""

    def __init__(self, default: Any, check: Callable[["WalkState", Any], Any], help: str):
        self.check = check
        super().__init__(default, help=help)

    def validate(self, obj: "WalkState", value: Any) -> Any:
        return self.check(obj, value)


def whole(name: str, low: int, high: int) -> Callable[["WalkState", Any], int]:
    """A check: a whole number from `low` to `high`, both included."""

    def check(_: "WalkState", value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise StateError(f"state.{name} is a whole number from {low} to {high}; got {value!r}")
        return value

    return check


def one_of(name: str, options: tuple[str, ...]) -> Callable[["WalkState", Any], str]:
    """A check: one of the words in `options`."""

    def check(_: "WalkState", value: Any) -> str:
        if value not in options:
            raise StateError(f"state.{name} is one of {', '.join(map(repr, options))}; got {value!r}")
        return value

    return check


def a_step(steps: tuple[str, ...]) -> Callable[["WalkState", Any], int]:
    """A check: a step's number, or its name, which is turned into the number."""
    number = whole("step", 0, len(steps) - 1)
    return lambda state, value: (
        steps.index(value) if isinstance(value, str) and value in steps else number(state, value)
    )


def a_layer(state: "WalkState", value: Any) -> int:
    """A layer's number, or its name, which is turned into the number."""
    names = state.layers
    if isinstance(value, str) and value in names:
        return names.index(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(names):
        raise StateError(f"state.layer is 0 to {len(names) - 1} or one of {', '.join(names)}; got {value!r}")
    return value


def a_tensor(state: "WalkState", value: Any) -> str:
    if value in state.tensors:
        return value
    if value in state.study.sizes:
        where = next(layer for layer, names in state.study.layers.items() if value in names)
        raise StateError(f"tensor {value!r} belongs to layer {where!r}; set state.layer first")
    raise StateError(f"{state.layer_name} has no tensor {value!r}; it has {', '.join(state.tensors)}")


def some_indices(state: "WalkState", value: Any) -> tuple[int, ...]:
    size = state.study.sizes[state.tensor]
    indices = tuple(value)
    wrong = [i for i in indices if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < size]
    if wrong:
        raise StateError(f"{state.tensor} has weights 0 to {size - 1}; got {', '.join(map(repr, wrong[:5]))}")
    return indices[:64]


def a_cell(state: "WalkState", value: Any) -> tuple[str, int] | None:
    if value is None:
        return None
    size = state.study.sizes[state.tensor]
    if not (isinstance(value, list | tuple) and len(value) == 2 and value[0] in state.study.tasks):
        tasks = ", ".join(state.study.tasks)
        raise StateError(f"state.selected is (task, weight), the task one of {tasks}; got {value!r}")
    if not isinstance(value[1], int) or not 0 <= value[1] < size:
        raise StateError(f"{state.tensor} has weights 0 to {size - 1}; got {value[1]!r}")
    return value[0], value[1]


class WalkState(traitlets.HasTraits):
    """Where the reader stands. Panels that share one state move together.

    Set any of it from a cell, `state.layer = "block 2"`: the panels follow. `study` holds the models and what was measured
    on them: anything with `tasks`, `layers` (name -> tensor names) and `sizes` (tensor name -> entries).
    """

    step = Checked(0, a_step(STEPS), "0 task vectors, 1 elect, 2 mask, 3 rescale")
    layer = Checked(0, a_layer, "number of the layer; a layer's name is understood")
    tensor = Checked("", a_tensor, "full name of the tensor whose weights are shown")
    pick = Checked(PICKS[0], one_of("pick", PICKS), "which weights are shown")
    k = Checked(32, whole("k", 4, 64), "how many weights are shown")
    seed = Checked(0, whole("seed", 0, 2**31 - 1), "seed of pick='random'")
    indices = Checked((), some_indices, "flat positions shown when pick is 'typed'")
    selected = Checked(None, a_cell, "(task, flat position) of the chosen weight, or None")
    scope = Checked("layer", one_of("scope", SCOPES), "what Similarity compares: the layer, or the whole model")

    def __init__(self, study: Any):
        self.study = study
        self.lock = threading.RLock()  # one change at a time, from whichever panel or thread it comes
        super().__init__()
        self.tensor = self._main_tensor(self.tensors)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the order of the network."""
        return tuple(self.study.layers)

    @property
    def layer_name(self) -> str:
        return self.layers[self.layer]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Full names of the tensors of the layer on show."""
        return tuple(self.study.layers[self.layer_name])

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values: what a report or a parameter cell would store."""
        return {name: getattr(self, name) for name in sorted(self.trait_names())} | {"layer_name": self.layer_name}

    def _main_tensor(self, names: tuple[str, ...]) -> str:
        return max(names, key=self.study.sizes.__getitem__)

    @traitlets.observe("layer")
    def _keep_the_tensor(self, _: Any) -> None:
        """Stay on the same tensor of the new layer (`blocks.0.fc` -> `blocks.3.fc`), or take its largest."""
        role = re.sub(r"\d+", "#", self.tensor)
        same = [name for name in self.tensors if re.sub(r"\d+", "#", name) == role]
        self.tensor = same[0] if same else self._main_tensor(self.tensors)

    @traitlets.observe("tensor")
    def _forget_what_is_gone(self, _: Any) -> None:
        """Weights chosen in another tensor may not exist in this one."""
        size = self.study.sizes[self.tensor]
        self.selected = None
        self.indices = tuple(i for i in self.indices if i < size)
