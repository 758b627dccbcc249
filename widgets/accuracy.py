"""Accuracy: how often each step of the merge is right on each task, measured while you watch."""

import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping
from html import escape
from typing import Any, ClassVar

import ipywidgets
import pandas as pd

from mergekit_nb.evaluation.accuracy import counts
from mergekit_nb.evaluation.interval import wilson
from mergekit_nb.evaluation.subject import Subject
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.widgets.accuracy_figure import Look, bars, mean, outline, show
from mergekit_nb.widgets.job import Job, headless
from mergekit_nb.widgets.models import Model
from mergekit_nb.widgets.panel import Panel, bar, html
from mergekit_nb.widgets.twin import accuracy_picture
from mergekit_nb.widgets.variants import LOOKS, subject
from mergekit_nb.widgets.walk.state import WalkState
from mergekit_nb.widgets.walk.study import state_of

ALL = 0  # an ipywidgets Dropdown cannot hold None
BATCH = 64  # images between two looks at the cancel flag: a fraction of a second on a laptop
Key = tuple[str, Hashable]  # variant, and what of the state it depends on


class Accuracy(Panel):
    """Accuracy per task with 95 % intervals for the steps of EMR, on test images, off the main thread.

    Args:
        base, experts, tasks: as in `EmrWalk`; without them, the embedded zoo.
        state: another panel's state: the two move together, and nothing is merged again.
        limit: at most so many images of each task; None is all.
    """

    looks: ClassVar[Mapping[str, Look]] = LOOKS
    off: ClassVar[tuple[str, ...]] = ("base",)  # variants that are measured only when asked for
    of_step: ClassVar[tuple[str, ...]] = ("individual", "elect", "mask", "rescale")  # whose bars a step outlines
    moved_by: ClassVar[tuple[str, ...]] = ("layer",)  # traits of the state that some variants depend on
    again: ClassVar[str] = "again when the layer moves"

    def __init__(
        self,
        base: Model | None = None,
        experts: Mapping[str, Model] | None = None,
        tasks: Mapping[str, Task] | None = None,
        *,
        state: WalkState | None = None,
        limit: int | None = 100,
    ):
        state = state_of(state, base, experts, tasks)
        if not state.study.tests:
            raise ValueError("Accuracy needs tasks= to test on, such as zoo.tasks; these models came without")
        super().__init__(state)
        self.study, self.limit = state.study, limit
        self.measured: dict[tuple[Key, int | None], dict[str, tuple[int, int]]] = {}
        self.partial: tuple[Key | None, int | None, dict[str, tuple[int, int]]] = (None, None, {})
        self.job = Job(self._measure, self.guarded(self._show_partial), self.guarded(self._finish), interval=0.2)
        self.figure = self.adopt(bars(self.study.tasks, self.looks.values()), "mk-accuracy")
        self.children = [
            html("Accuracy on test images", "mk-title"),
            *self._controls(),
            self.problem,
            self.figure,
            self.page,
        ]
        state.observe(self.guarded(self._moved), list(self.moved_by))
        state.observe(self.guarded(self._outline), "step")
        self._entitle()
        self._outline()
        self._draw()
        if headless():
            self.measure()

    def measure(self) -> None:
        """Measure what is chosen and not yet known. Returns at once; `job.wait()` waits for it."""
        self.job.submit((self._missing(), self.limit))

    def about(self, variant: str) -> Hashable:
        """What of the state a variant depends on; None where it is always the same."""
        return self.state.layer if variant == "partial" else None

    def subject(self, variant: str, about: Hashable, cancel: threading.Event) -> Subject:
        """What is evaluated for a variant; may raise Cancelled once `cancel` is set."""
        return subject(self.study, variant, about or 0)

    def title(self) -> str:
        return f"Accuracy per task, 95 % intervals; merged up to {self.state.layer_name}, later layers from the task's own expert"

    def table(self) -> pd.DataFrame:
        """What is known so far: columns variant, task, accuracy, n, low, high; in the order shown."""
        rows = [
            (self.looks[key[0]].label, task, right, n)
            for key in self._keys()
            for task, (right, n) in self._known(key).items()
        ]
        table = pd.DataFrame(rows, columns=["variant", "task", "correct", "n"])
        low, high = wilson(table["correct"], table["n"]) if rows else ([], [])
        return table.assign(accuracy=table["correct"] / table["n"], low=low, high=high).drop(columns="correct")

    def png(self) -> bytes:
        return accuracy_picture(self.table(), self.study.tasks, self.title(), self.looks.values())

    def _controls(self) -> list[ipywidgets.Widget]:
        self.boxes = {
            variant: ipywidgets.Checkbox(variant not in self.off, description=look.label, indent=False)
            for variant, look in self.looks.items()
        }
        for box in self.boxes.values():
            box.layout.width = "auto"
            box.observe(self.guarded(lambda _: self._draw()), "value")
        self.images = ipywidgets.Dropdown(
            options=[(str(n or "all"), n) for n in [*sorted({50, 100, 250, self.limit or 50}), ALL]],
            value=self.limit or ALL, description="images a task",
            style={"description_width": "initial"}, layout={"width": "170px"},
        )  # fmt: skip
        self.images.add_class("mk-images")
        self.images.observe(self.guarded(self._other_limit), "value")
        self.run = ipywidgets.Button(description="Measure", button_style="primary")
        self.run.on_click(self.guarded(self._pressed))
        self.follow = ipywidgets.Checkbox(True, description=self.again, indent=False, layout={"width": "auto"})
        self.progress = ipywidgets.IntProgress(layout={"width": "180px", "display": "none"})
        self.said = html("Not measured yet.", "mk-say", "mk-accuracy-say")
        self.run.add_class("mk-run")
        return [bar(*self.boxes.values()), bar(self.run, self.images, self.follow), bar(self.progress, self.said)]

    # --- what to measure -------------------------------------------------------------------------------------------

    def _keys(self) -> list[Key]:
        chosen = [variant for variant, box in self.boxes.items() if box.value]
        return [(variant, self.about(variant)) for variant in chosen]

    def _known(self, key: Key) -> dict[str, tuple[int, int]]:
        """Task -> images right, images seen; of the variant under way, what has been counted so far."""
        if self.partial[:2] == (key, self.limit):
            return self.partial[2]
        return self.measured.get((key, self.limit), {})

    def _missing(self) -> list[Key]:
        tasks = len(self.study.tasks)
        return [key for key in self._keys() if len(self.measured.get((key, self.limit), {})) < tasks]

    def _measure(
        self, request: tuple[list[Key], int | None], cancel: threading.Event
    ) -> Iterator[tuple[int, int, str]]:
        """Count batch by batch; yields images done, images in all, what is being tested."""
        keys, limit = request
        sizes = [len(task.split("test")[1]) for task in self.study.tests.values()]
        whole = sum(min(size, limit or size) for size in sizes)
        for place, (variant, about) in enumerate(keys):
            found: dict[str, tuple[int, int]] = {}
            model = self.subject(variant, about, cancel)
            for task, right, n in counts(model, self.study.tests, limit=limit, batch_size=BATCH, cancel=cancel):
                found[task] = (right, n)
                self.partial = ((variant, about), limit, dict(found))
                said = f"{self.looks[variant].label}: {task}"
                yield place * whole + sum(n for _, n in found.values()), len(keys) * whole, said
            self.measured[(variant, about), limit] = found

    # --- what the page shows ---------------------------------------------------------------------------------------

    def _pressed(self, _: Any) -> None:
        self.calm()
        if self.job.running:
            self.job.cancel()
            self.said.value = "Cancelling …"
        else:
            self.measure()

    def _moved(self, _: dict) -> None:
        with self.figure.batch_update():
            self._entitle()
            self._draw([variant for variant in self.looks if self.about(variant) is not None])
        missing = self._missing()
        rest_is_known = all(about is not None for _, about in missing)  # or was cancelled
        if self.follow.value and missing and (self.job.running or rest_is_known):
            self.measure()

    def _other_limit(self, change: dict) -> None:
        self.limit = change["new"] or None
        self.said.value = "Not measured with so many images yet." if self._missing() else self._summary()
        self._draw()

    def _show_partial(self, partial: tuple[int, int, str]) -> None:
        done, whole, text = partial
        self.progress.max, self.progress.value = whole, done
        self.progress.layout.display = ""
        self.run.description, self.run.button_style = "Cancel", "warning"
        self.said.value = f"{escape(text)} ({done} of {whole} images)"
        under_way = self.partial[0]
        self._draw(None if under_way is None else [under_way[0]])

    def _finish(self, outcome: str | Exception) -> None:
        self.partial = (None, None, {})
        self.run.description, self.run.button_style = "Measure", "primary"
        self.progress.layout.display = "none"
        self.said.value = {"done": self._summary(), "cancelled": "Cancelled."}.get(str(outcome), "")
        self._draw()
        if isinstance(outcome, Exception):
            raise outcome

    def _summary(self) -> str:
        """The means, in words."""
        known = {key[0]: self._known(key) for key in self._keys()}
        means = [
            f"{self.looks[v].label} {mean(found)[0]:.1%}"
            for v, found in known.items()
            if len(found) == len(self.study.tasks)
        ]
        images = "all images" if self.limit is None else f"at most {self.limit} images"
        return f"Mean over {len(self.study.tasks)} tasks, {images} of each: {', '.join(means)}."

    def _draw(self, variants: Iterable[str] | None = None) -> None:
        """Bring some variants' bars up to date; None is all."""
        keys, places = dict(self._keys()), list(self.looks)
        with self.figure.batch_update():
            for variant in places if variants is None else variants:
                found = self._known((variant, keys[variant])) if variant in keys else None
                show(self.figure, places.index(variant), found, self.study.tasks)

    def _entitle(self) -> None:
        self.figure.layout.title.text = self.title()

    def _outline(self, _: dict | None = None) -> None:
        outline(self.figure, list(self.looks).index(self.of_step[self.state.step]))
