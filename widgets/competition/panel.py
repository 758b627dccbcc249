"""Competition: PCB-Merging, one weight, one layer, one model at a time, and the search for its coefficients."""

import threading
from collections.abc import Iterator, Mapping
from math import log10
from typing import Any

import ipywidgets
import pandas as pd

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.methods.pcb import Pcb
from mergekit_nb.widgets.competition import words
from mergekit_nb.widgets.competition.accuracy import StageAccuracy
from mergekit_nb.widgets.competition.columns import Columns, columns
from mergekit_nb.widgets.competition.figure import show, three
from mergekit_nb.widgets.competition.grid import CompetitionGrid, pack
from mergekit_nb.widgets.competition.search import CoefficientSearch
from mergekit_nb.widgets.competition.state import STEPS, CompetitionState
from mergekit_nb.widgets.competition.study import study
from mergekit_nb.widgets.competition.twin import chosen_task, picture
from mergekit_nb.widgets.job import Job
from mergekit_nb.widgets.models import Model
from mergekit_nb.widgets.panel import SHORT, bar, html
from mergekit_nb.widgets.where import Where

LEAST_RATIO = 1e-3  # where the slider begins: below it a handful of entries is left
NO_TASKS = (
    "Accuracy and search need something to test on: pass tasks= "
    "(a mapping from task name to mergekit_nb.evaluation.tasks.Task)."
)


class Competition(Where):
    """Walk through PCB-Merging: how parameters compete within and between tasks, who is dropped, who wins, what it scores.

    Args:
        base, experts: the models, as in `mk.merge`; without them, the embedded zoo.
        tasks: what to test on, such as `zoo.tasks`; None leaves accuracy and search out.

    Attributes:
        contest: what is on show; where a slider asked for another, it comes as soon as it is measured (`job.wait()`).
        accuracy, search: the panels below, None without tasks.

    Raises:
        ValueError: the models do not fit together; the message names all that is wrong.
    """

    def __init__(
        self,
        base: Model | None = None,
        experts: Mapping[str, Model] | None = None,
        tasks: Mapping[str, Task] | None = None,
    ):
        self.study = study(base, experts, tasks)
        super().__init__(CompetitionState(self.study))
        self.contest = self.study.contest(self.state.variant, self.state.ratio)
        self.state.layer = int(self.contest.overview.kept.mean(1).argmax())  # where there is most to see
        self.text, self.grid = html("", "mk-say", "mk-text"), CompetitionGrid()
        self.grid.add_class("mk-grid")
        self.figure = self.adopt(three(self.contest.overview, self.state.layer, 0), "mk-figure")
        self.job = Job(self._measure, self.guarded(self._say_busy), self.guarded(self._finish))
        tested = bool(self.study.tests)
        self.accuracy = StageAccuracy(state=self.state) if tested else None
        self.search = CoefficientSearch(self.state) if tested else None
        below = [self.accuracy, self.search] if tested else [html(NO_TASKS, "mk-say")]
        controls = [bar(*self.step_and_layer(STEPS)), bar(*self.weights()), bar(*self._hyper_parameters())]
        self._follow()
        self.children = [*controls, self.text, self.grid, self.problem, self.figure, *below, self.page]

    def png(self) -> bytes:
        self.job.wait()
        table = self.accuracy.table() if self.accuracy else pd.DataFrame()
        history = self.search.history if self.search else pd.DataFrame()
        return picture(self.state, self.contest, self._columns(), table, history)

    def _hyper_parameters(self) -> list[ipywidgets.Widget]:
        knobs = Pcb.knobs()
        ratio, scale = knobs["ratio"], knobs["scale"]
        variant = ipywidgets.Dropdown(
            options=[(text, key) for key, text in words.ABOUT.items()], description="variant", style=SHORT,
            layout={"width": "330px"},
        )  # fmt: skip
        kept = ipywidgets.FloatLogSlider(
            min=log10(max(ratio.low, LEAST_RATIO)), max=log10(ratio.high), step=0.05, readout_format=".3f",
            description="ratio", style=SHORT, layout={"width": "300px"}, continuous_update=False,
        )  # fmt: skip
        factor = ipywidgets.FloatSlider(
            min=scale.low, max=scale.high, step=scale.step, description="λ", style=SHORT, layout={"width": "260px"},
            continuous_update=False,
        )  # fmt: skip
        self.busy = html("", "mk-say", "mk-busy")
        for control, name in ((variant, "variant"), (kept, "ratio"), (factor, "scale")):
            self.bind(control, name)
            control.add_class(f"mk-{name}")
        return [variant, kept, factor, self.busy]

    # --- measuring another competition -----------------------------------------------------------------------------

    def _measure(self, request: tuple[str, float], cancel: threading.Event) -> Iterator[str]:
        yield f"measuring variant {request[0]}, ratio {request[1]:.3g} …"
        found = self.study.contest(*request, cancel)
        _ = found.overview

    def _compete(self, _: dict) -> None:
        """Show the competition the state asks for, at once where it is known."""
        wanted = self.state.variant, self.state.ratio
        if wanted in self.study.contests:
            self.job.cancel()
            self._show_contest()
        else:
            self.job.submit(wanted)

    def _say_busy(self, text: str) -> None:
        self.busy.value = text

    def _finish(self, outcome: str | Exception) -> None:
        self.busy.value = ""
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "done":
            self._show_contest()

    def _show_contest(self) -> None:
        self.contest = self.study.contest(self.state.variant, self.state.ratio)
        self._show_layer()
        self._show_weights()

    # --- what the page shows ---------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Redraw what a change of the state touches, and nothing else."""
        state = self.state
        state.observe(self.guarded(self._show_layer), "layer")
        state.observe(self.guarded(self._show_weights), ["tensor", "pick", "k", "seed", "indices", "scale"])
        state.observe(self.guarded(self._show_step), ["step", "scale"])
        state.observe(self.guarded(self._compete), ["variant", "ratio"])
        state.observe(self.guarded(self._show_selected), "selected")
        self.grid.observe(self.guarded(lambda change: setattr(state, "step", change["new"])), "step")
        self.grid.observe(
            self.guarded(lambda change: setattr(state, "selected", tuple(change["new"]) or None)), "selected"
        )
        for trace in self.figure.data[:3]:
            trace.on_click(self.guarded(self._go))
        self._show_weights()
        self._show_step()

    def _columns(self) -> Columns:
        s = self.state
        return columns(self.contest, s.tensor, s.scale, s.pick, s.k, s.seed, s.indices)

    def _show_weights(self, _: dict | None = None) -> None:
        shown = self._columns()
        self.grid.columns = pack(shown, self.study.tasks, self.state.tensor, words.legends(shown))

    def _show_layer(self, _: dict | None = None) -> None:
        show(self.figure, self.contest.overview, self.state.layer, chosen_task(self.state))
        self._say()

    def _show_step(self, _: dict | None = None) -> None:
        self.grid.step = self.state.step
        self._say()

    def _say(self) -> None:
        self.text.value = words.step_text(self.contest, self.state.step, self.state.layer, self.state.scale)

    def _show_selected(self, change: dict) -> None:
        self.grid.selected = list(change["new"] or ())
        show(self.figure, self.contest.overview, self.state.layer, chosen_task(self.state))

    def _go(self, _: Any, points: Any, __: Any) -> None:
        if points.ys:
            self.state.layer = points.ys[0]
