"""EmrWalk: elect, mask and rescale, one weight, one layer, one model at a time."""

from collections.abc import Mapping
from typing import Any

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.progress import Progress
from mergekit_nb.widgets.accuracy import Accuracy
from mergekit_nb.widgets.models import Model
from mergekit_nb.widgets.panel import bar, html
from mergekit_nb.widgets.walk import words
from mergekit_nb.widgets.walk.figure import show_layer, three
from mergekit_nb.widgets.walk.grid import Grid, pack
from mergekit_nb.widgets.walk.state import STEPS, WalkState
from mergekit_nb.widgets.walk.study import study
from mergekit_nb.widgets.walk.twin import picture
from mergekit_nb.widgets.where import Where

NO_TASKS = (
    "Accuracy needs something to test on: pass tasks= (a mapping from task name to mergekit_nb.evaluation.tasks.Task)."
)


class EmrWalk(Where):
    """Walk through EMR-Merging: step by step, layer by layer, down to single weights, with the accuracy it leads to.

    Args:
        base, experts: the models, as in `mk.merge`; without them, the embedded zoo.
        tasks: what to test on, such as `zoo.tasks`; None leaves the accuracy panel out.
        progress: as in `mk.merge`.
        options: further arguments of `mk.merge("emr", ...)`, such as `rescale="global"`.

    Raises:
        ValueError: the models do not fit together; the message names all that is wrong.
    """

    def __init__(
        self,
        base: Model | None = None,
        experts: Mapping[str, Model] | None = None,
        tasks: Mapping[str, Task] | None = None,
        *,
        progress: Progress = False,
        **options: Any,
    ):
        self.study = study(base, experts, tasks, progress=progress, **options)
        super().__init__(WalkState(self.study))
        self.text, self.grid = html("", "mk-say", "mk-text"), Grid()
        self.figure = self.adopt(three(self.study.overview, self.state.layer), "mk-figure")
        self.grid.add_class("mk-grid")
        self.accuracy = Accuracy(state=self.state) if self.study.tests else None
        self._follow()
        below = self.accuracy or html(NO_TASKS, "mk-say")
        self.children = [
            bar(*self.step_and_layer(STEPS)),
            bar(*self.weights()),
            self.text,
            self.grid,
            self.problem,
            self.figure,
            below,
            self.page,
        ]

    def png(self) -> bytes:
        return picture(self.state, self.accuracy.table() if self.accuracy else None)

    def _follow(self) -> None:
        """Redraw what a change of the state touches, and nothing else."""
        state = self.state
        state.observe(self.guarded(self._show_layer), "layer")
        state.observe(self.guarded(self._show_weights), ["tensor", "pick", "k", "seed", "indices"])
        state.observe(self.guarded(self._show_step), "step")
        state.observe(self.guarded(self._show_selected), "selected")
        self.grid.observe(self.guarded(lambda change: setattr(state, "step", change["new"])), "step")
        self.grid.observe(self.guarded(self._select), "selected")
        for trace in self.figure.data[:2]:
            trace.on_click(self.guarded(self._go))
        self._show_weights()
        self._show_step()

    def _show_weights(self, _: dict | None = None) -> None:
        state = self.state
        columns = self.study.columns(state.tensor, state.pick, state.k, state.seed, state.indices)
        self.grid.columns = pack(columns, state.study.tasks, state.tensor, words.legends(columns))

    def _show_layer(self, _: dict) -> None:
        show_layer(self.figure, self.study.overview, self.state.layer)
        self._say()

    def _show_step(self, _: dict | None = None) -> None:
        self.grid.step = self.state.step
        self._say()

    def _say(self) -> None:
        self.text.value = words.step_text(self.study, self.state.step, self.state.layer)

    def _show_selected(self, change: dict) -> None:
        self.grid.selected = list(change["new"] or ())

    def _select(self, change: dict) -> None:
        self.state.selected = tuple(change["new"]) or None

    def _go(self, _: Any, points: Any, __: Any) -> None:
        if points.ys:
            self.state.layer = points.ys[0]
