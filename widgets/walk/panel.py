"""EmrWalk: elect, mask and rescale, one weight, one layer, one model at a time."""

from collections.abc import Mapping
from typing import Any

import ipywidgets

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.progress import Progress
from mergekit_nb.widgets.accuracy import Accuracy
from mergekit_nb.widgets.panel import SHORT, Panel, bar, html
from mergekit_nb.widgets.walk import words
from mergekit_nb.widgets.walk.figure import show_layer, three
from mergekit_nb.widgets.walk.grid import Grid, pack
from mergekit_nb.widgets.walk.state import PICKS, STEPS, StateError, WalkState
from mergekit_nb.widgets.walk.study import Model, study
from mergekit_nb.widgets.walk.twin import picture

NO_TASKS = (
    "Accuracy needs something to test on: pass tasks= (a mapping from task name to mergekit_nb.evaluation.tasks.Task)."
)


class EmrWalk(Panel):
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
        self.children = [*self._controls(), self.text, self.grid, self.problem, self.figure, below, self.page]

    def png(self) -> bytes:
        return picture(self.state, self.accuracy.table() if self.accuracy else None)

    def _controls(self) -> list[ipywidgets.Widget]:
        state = self.state
        step = ipywidgets.ToggleButtons(options=[(f"{i} {name}", i) for i, name in enumerate(STEPS)])
        layer = ipywidgets.SelectionSlider(
            options=[(name, i) for i, name in enumerate(state.layers)],
            description="layer",
            style=SHORT,
            layout={"width": "360px"},
        )
        tensor = ipywidgets.Dropdown(description="tensor", style=SHORT, layout={"width": "330px"})
        pick = ipywidgets.Dropdown(options=PICKS, description="weights", style=SHORT, layout={"width": "220px"})
        count = ipywidgets.IntSlider(min=4, max=64, description="how many", style=SHORT, layout={"width": "250px"})
        seed = ipywidgets.BoundedIntText(
            min=0, max=2**31 - 1, description="seed", style=SHORT, layout={"width": "130px"}
        )
        typed = ipywidgets.Text(description="positions", placeholder="3, 17, 42", continuous_update=False, style=SHORT)
        self.bind(step, "step")
        self.bind(layer, "layer")
        self.bind(tensor, "tensor", options=self._tensor_options)
        self.bind(pick, "pick")
        self.bind(count, "k")
        self.bind(seed, "seed")
        self.bind(typed, "indices", positions, lambda indices: ", ".join(map(str, indices)))
        for control, name in ((step, "step"), (layer, "layer"), (tensor, "tensor"), (pick, "pick"), (count, "k")):
            control.add_class(f"mk-{name}")
        seed.add_class("mk-seed")
        typed.add_class("mk-indices")
        self._only_where_used({"random": [seed, count], "typed": [typed]}, [seed, typed, count])
        return [bar(step, layer), bar(tensor, pick, count, seed, typed)]

    def _tensor_options(self) -> list[tuple[str, str]]:
        """The layer's tensors, without the part of the name they all share, with their shapes."""
        names = self.state.tensors
        parts = [name.split(".") for name in names]
        shared = next((i for i, words in enumerate(zip(*parts, strict=False)) if len(set(words)) > 1), 0)
        shapes = ("×".join(map(str, self.study.vectors.site(name).shape)) or "scalar" for name in names)
        return [
            (f"{'.'.join(words[shared:])}  ({shape})", name)
            for words, shape, name in zip(parts, shapes, names, strict=True)
        ]

    def _only_where_used(self, used: Mapping[str, list], controls: list[ipywidgets.Widget]) -> None:
        """Show those controls that mean something for the way weights are picked."""

        def offer(_: dict | None = None) -> None:
            wanted = used.get(self.state.pick, controls[-1:])
            for control in controls:
                control.layout.display = "" if control in wanted else "none"

        offer()
        self.state.observe(self.guarded(offer), "pick")

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


def positions(text: str) -> tuple[int, ...]:
    """The whole numbers in a line such as "3, 17 42"."""
    words = text.replace(",", " ").split()
    wrong = [word for word in words if not word.isdigit()]
    if wrong:
        raise StateError(f"positions are whole numbers such as 3, 17, 42; got {', '.join(wrong[:5])}")
    return tuple(map(int, words))
