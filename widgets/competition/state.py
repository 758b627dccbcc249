"""What Python and the page agree on: a walk's state, and which competition is on show. No maths and no drawing in here."""

from collections.abc import Callable
from typing import Any

from mergekit_nb.methods.pcb import RELEASED_Q, Pcb
from mergekit_nb.widgets.walk.state import Checked, StateError, WalkState, a_step, one_of

STEPS = ("task vectors", "intra-balance", "inter-balance", "drop", "rescale & fuse")
VARIANTS = tuple(RELEASED_Q)


def a_knob(name: str) -> Callable[[WalkState, Any], float]:
    """A check: what this hyper-parameter of PCB-Merging may be, as one number."""

    def check(_: WalkState, value: Any) -> float:
        try:
            Pcb(**{name: value})
        except ValueError as error:
            raise StateError(str(error).replace("Pcb.", "state.")) from None
        if isinstance(value, tuple):
            raise StateError(f"state.{name} is one number here, the same for every task; got {value!r}")
        return float(value)

    return check


class CompetitionState(WalkState):
    """Where the reader stands, and with which hyper-parameters the parameters compete."""

    step = Checked(0, a_step(STEPS), "0 task vectors, 1 intra-balance, 2 inter-balance, 3 drop, 4 rescale & fuse")
    variant = Checked("A", one_of("variant", VARIANTS), "which of PCB-Merging's forms")
    ratio = Checked(Pcb.ratio, a_knob("ratio"), "fraction of entries each task keeps")
    scale = Checked(Pcb.scale, a_knob("scale"), "λ, what the merged vector is multiplied by")
