"""ZipWalk: networks that never shared a parent, zipped up to where you like, feature by feature."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ipywidgets
import pandas as pd
import torch
from torch import Tensor, nn

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.maths.matching import Zip, identity
from mergekit_nb.tradeoff import METHODS
from mergekit_nb.widgets.job import Job, headless
from mergekit_nb.widgets.lean import LeanFigure
from mergekit_nb.widgets.panel import SHORT, Panel, bar, html
from mergekit_nb.widgets.walk.state import StateError
from mergekit_nb.widgets.zipwalk import words
from mergekit_nb.widgets.zipwalk.compute import Point, history, measured, references
from mergekit_nb.widgets.zipwalk.contact import contact_sheet
from mergekit_nb.widgets.zipwalk.excite import Excited
from mergekit_nb.widgets.zipwalk.figure import show, two
from mergekit_nb.widgets.zipwalk.matrix import arranged, draw, matrix, ranked
from mergekit_nb.widgets.zipwalk.state import NOTHING, ORDERS, Key, ZipState
from mergekit_nb.widgets.zipwalk.study import Matching, study
from mergekit_nb.widgets.zipwalk.twin import picture


class ZipWalk(Panel):
    """Zip networks up to a boundary, see what it is worth and what it costs, and which features become one.

    Accuracy is measured on *validation* pictures, since there are sliders to choose by it; off the main thread, from when
    the page shows it. What moves while a measurement runs overtakes it.

    Args:
        networks: by name, of one architecture; they are copied, not touched.
        tasks: a task for each network, under the same names, such as `Strangers.tasks_of`.
        batches: pictures of all tasks, for the matching, such as `Strangers.batches`. With none of these three, the first
            pair of the embedded strangers.
        alpha, beta: what to begin with, see `mk.zipit`.
        scale: logits are ``scale`` times the cosine of embedding and class; None is the zoo's own, or 100.
        split, limit: of `mk.joint`.

    Attributes:
        state: `state.boundary`, `.method`, `.alpha`, `.beta`, `.layer`, `.order`, `.group`; set them from any cell.
        known: what was measured; `history()` is the same as a table.

    Raises:
        ValueError: some of networks, tasks and batches were left out, or they do not fit together.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module] | None = None,
        tasks: Mapping[str, Task] | None = None,
        batches: Sequence | None = None,
        *,
        alpha: float = 0.3,
        beta: float = 0.125,
        scale: float | None = None,
        split: str = "validation",
        limit: int | None = None,
    ):
        self.study = study(networks, tasks, batches, scale, split, limit)
        super().__init__(ZipState(self.study, alpha=alpha, beta=beta))
        self.known: dict[Key, Point] = {}
        self._matched: tuple[Matching, Zip] | None = None
        self._excited: Excited | None = None
        self.job = Job(self._measure, self.guarded(self._show_point), self.guarded(self._finish), interval=0.0)
        self.looking = Job(self._look, self.guarded(self._show_layer), self.guarded(self._looked), interval=0.0)
        self.figure = self.adopt(two(self.study), "mk-zip")
        self.matrix = self.adopt(self._empty_matrix(), "mk-matrix")
        self.children = [*self._upper(), self.problem, self.figure, *self._lower(), self.page]
        self._follow()
        self.look()
        if headless():
            self.measure()

    def measure(self) -> None:
        """Measure what is on show, its brackets, and the other boundaries. `job.wait()` waits for it."""
        here = self.state.key(), *references(self.study)
        self.job.submit([*dict.fromkeys([*here, *map(self.state.key, self.study.boundaries)])])

    def look(self) -> None:
        """Match the features of the layer on show. `looking.wait()` waits for it."""
        self.looking.submit(self._matching())

    @property
    def found(self) -> Zip | None:
        """How the features of the layer on show are matched; None until that is known."""
        return self._matched[1] if self._matched and self._matched[0] == self._matching() else None

    def history(self) -> pd.DataFrame:
        """A row for each model measured and each task: as `mk.tradeoff` has it, with alpha and beta."""
        return history(self.known)

    def png(self) -> bytes:
        self.looking.wait()
        return picture(self.state, self.found, self._excited, self.known)

    # --- controls ---------------------------------------------------------------------------------------------------

    def _upper(self) -> list[ipywidgets.Widget]:
        """What is zipped, how, and what it is worth."""
        boundary = ipywidgets.SelectionSlider(
            options=self.study.boundaries, description="zip up to", style=SHORT, layout={"width": "380px"}
        )
        method = ipywidgets.ToggleButtons(options=list(METHODS))
        self.knobs = [
            ipywidgets.FloatSlider(
                min=low, max=1, step=step, readout_format=".3f", description=label, style=SHORT, continuous_update=False,
                layout={"width": "400px"},
            )
            for label, low, step in (("α, how freely groups grow", 0.05, 0.05), ("β, share within a network", 0, 0.025))
        ]  # fmt: skip
        self.run = ipywidgets.Button(description="Measure")
        self.run.on_click(self.guarded(self._pressed))
        self.progress = ipywidgets.IntProgress(layout={"width": "140px", "visibility": "hidden"})
        self.said = html("", "mk-say", "mk-zip-say")
        names = ("boundary", "method", "alpha", "beta")
        for control, name in zip((boundary, method, *self.knobs), names, strict=True):
            self.bind(control, name)
            control.add_class(f"mk-{name}")
        method.add_class("mk-step")
        self.run.add_class("mk-run")
        return [bar(method, boundary, self.run, self.progress), bar(*self.knobs), self.said]

    def _lower(self) -> list[ipywidgets.Widget]:
        """Which features of a layer become one, and what excites them."""
        layer = ipywidgets.SelectionSlider(
            options=self.study.layers, description="layer", style=SHORT, layout={"width": "380px"}
        )
        order = ipywidgets.ToggleButtons(options=ORDERS)
        self.groups = ipywidgets.Select(description="group", rows=9, style=SHORT, layout={"width": "440px"})
        self.about = html("", "mk-say", "mk-layer-say")
        self.told, self.sheet = html("", "mk-say", "mk-group-say"), html("", "mk-sheet")
        for control, name in ((layer, "layer"), (order, "order")):
            self.bind(control, name)
            control.add_class(f"mk-{name}")
        self.bind(self.groups, "group", options=self._group_options)
        self.groups.add_class("mk-group")
        order.add_class("mk-step")
        beside = ipywidgets.VBox([self.groups, self.told, self.sheet], layout={"width": "470px", "overflow": "visible"})
        both = ipywidgets.HBox([self.matrix, beside], layout={"flex_flow": "row wrap", "overflow": "visible"})
        return [html("Which features become one?", "mk-title"), bar(layer, order), self.about, both]

    def _group_options(self) -> list[tuple[str, int]]:
        if self.found is None:
            return []
        correlation, names = self._correlation(), self._names()
        return [
            (words.group_label(correlation, self.found.groups[k], names), k) for k in ranked(correlation, self.found)
        ]

    def _follow(self) -> None:
        state = self.state
        state.observe(self.guarded(self._moved), ["boundary", "method", "alpha", "beta"])
        state.observe(self.guarded(lambda _: self.look()), ["layer", "method", "alpha", "beta"])
        state.observe(self.guarded(lambda _: self._show_group()), ["group", "order"])
        self.matrix.data[0].on_click(self.guarded(self._go))
        self.figure.observe(self.guarded(lambda _: self.measure()), "_drawn")  # before, nobody would see it
        self._say()

    # --- measuring --------------------------------------------------------------------------------------------------

    def _measure(self, wanted: list[Key], cancel: threading.Event) -> Iterator[tuple[int, int, Key | None]]:
        """Measures what is not known yet; yields how many are done, of how many, and which is under way."""
        for done, key in enumerate(wanted):
            if key not in self.known:
                yield done, len(wanted), key
                self.known[key] = measured(self.study, key, cancel)
        yield len(wanted), len(wanted), None

    def _show_point(self, partial: tuple[int, int, Key | None]) -> None:
        done, whole, key = partial
        self.progress.max, self.progress.value = whole, done
        if key is not None:
            self.run.description, self.run.button_style = "Cancel", "warning"
            self.progress.layout.visibility = "visible"
        self._draw()
        self._say()

    def _finish(self, outcome: str | Exception) -> None:
        self.run.description, self.run.button_style = "Measure", ""
        self.progress.layout.visibility = "hidden"
        self._draw()
        self._say("Cancelled. " if outcome == "cancelled" else "")
        if isinstance(outcome, Exception):
            raise StateError(str(outcome)) if isinstance(outcome, ValueError) else outcome

    def _pressed(self, _: Any) -> None:
        self.calm()
        if self.job.running:
            self.job.cancel()
            self.said.value = "Cancelling …"
        else:
            self.measure()

    def _moved(self, _: dict) -> None:
        for knob in self.knobs:
            knob.layout.visibility = "visible" if self.state.method == "zip" else "hidden"
        self._draw()
        self._say()
        if self.found is not None:
            self._say_layer()
        self.measure()

    def _draw(self) -> None:
        with self.figure.batch_update():
            show(self.figure, self.state, dict(self.known))

    def _say(self, first: str = "") -> None:
        key, ensemble = self.state.key(), self.known.get(Key("ensemble", NOTHING))
        self.said.value = first + words.measured_text(key, self.known.get(key), ensemble, self.study.split)

    # --- looking at features ----------------------------------------------------------------------------------------

    def _look(self, request: Matching, _: threading.Event) -> Iterator[tuple[Matching, Zip, Excited | None]]:
        found = self.study.matched(*request)
        yield request, found, self._excited
        yield request, found, self.study.excited

    def _show_layer(self, partial: tuple[Matching, Zip, Excited | None]) -> None:
        *self._matched, self._excited = partial
        if self.found is None:
            return  # the reader has gone on: another is under way
        if self.state.group is None:
            self.state.group = ranked(self._correlation(), self.found)[0]
        self._say_layer()
        self._show_group()

    def _looked(self, outcome: str | Exception) -> None:
        if isinstance(outcome, Exception):
            raise StateError(str(outcome)) if isinstance(outcome, ValueError) else outcome

    def _say_layer(self) -> None:
        state = self.state
        self.about.value = words.layer_text(state.layer, state.method, self.found, state.boundary, self.study.layers)

    def _show_group(self) -> None:
        if self.found is None or self.state.group is None:
            return
        group, correlation, names = self.found.groups[self.state.group], self._correlation(), self._names()
        draw(self.matrix, matrix(correlation, self.found, names, self.state.order, self.state.group))
        self.told.value = words.group_text(correlation, group, names)
        if self._excited is None:
            self.sheet.value = "looking at the pictures …"
        else:
            self.sheet.value = contact_sheet(self._excited, self.state.layer, group, names)

    def _go(self, _: Any, points: Any, __: Any) -> None:
        """To the group of the feature whose row was clicked."""
        if points.point_inds and self.found is not None:
            row = points.point_inds[0][0]
            feature = arranged(self._correlation(), self.found, self.state.order)[row]
            self.state.group = next((k for k, group in enumerate(self.found.groups) if feature in group), None)

    def _matching(self) -> Matching:
        state = self.state
        return state.layer, state.method, state.alpha, state.beta

    def _correlation(self) -> Tensor:
        return self.study.correlations[self.state.layer]

    def _names(self) -> list[str]:
        return self.study.names(self.state.layer)

    def _empty_matrix(self) -> LeanFigure:
        nobody = identity(torch.eye(len(self._names())), len(self.study.networks))
        return LeanFigure(
            matrix(torch.zeros(len(nobody.unmerge), len(nobody.unmerge)), nobody, self._names(), ORDERS[0], None)
        )
