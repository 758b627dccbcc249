"""What Python and the page agree on: which method, and how many images. No maths and no drawing in here."""

import threading
from typing import Any

import traitlets

from mergekit_nb.methods import Method, resolve
from mergekit_nb.widgets.tune.parts import parts
from mergekit_nb.widgets.walk.state import Checked, StateError

ALL = 0  # images: a Dropdown cannot hold None


def a_method(state: "TuneState", value: Any) -> Method:
    """A method object, or the name or class of one, that takes these tasks and that the panel has controls for."""
    try:
        method = resolve(value)
        method.check_tasks(state.tasks)
    except ValueError as error:
        raise StateError(str(error)) from error
    parts(method)
    return method


def images(_: "TuneState", value: Any) -> int:
    if value is None:
        return ALL
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise StateError(f"state.limit is a number of images of each task, or None for all; got {value!r}")
    return value


class TuneState(traitlets.HasTraits):
    """What is tuned. Set it from a cell, `state.method = mk.methods.Ties(density=0.3)`: the panel follows."""

    method = Checked(None, a_method, "the method object, a composition too; a name is understood")
    limit = Checked(50, images, "validation images of each task; 0, or None, for all")

    def __init__(self, tasks: tuple[str, ...], method: Any, limit: int | None):
        self.tasks = tasks
        self.lock = threading.RLock()  # one change at a time, from whichever thread it comes
        super().__init__(method=method, limit=limit)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"method": self.method.label, "options": self.method.options(), "limit": self.limit or None}
