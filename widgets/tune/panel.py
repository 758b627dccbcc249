"""Tune: any method, its hyper-parameters on sliders, its accuracy as you move them."""

import threading
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import ipywidgets
import pandas as pd

import mergekit_nb as mk
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.methods import METHODS, Method, taking
from mergekit_nb.widgets.accuracy_figure import Counts, mean
from mergekit_nb.widgets.job import Job, headless
from mergekit_nb.widgets.models import Model, given, tests_of
from mergekit_nb.widgets.panel import SHORT, Panel, bar, html
from mergekit_nb.widgets.sliders import Sliders
from mergekit_nb.widgets.tune.compute import REFERENCES, Bench, Key, Trial
from mergekit_nb.widgets.tune.figure import show, show_tried, two
from mergekit_nb.widgets.tune.parts import Parts, afters, befores, parts, written
from mergekit_nb.widgets.tune.state import ALL, TuneState
from mergekit_nb.widgets.tune.twin import picture
from mergekit_nb.widgets.walk.state import StateError
from mergekit_nb.widgets.walk.words import size

NOTHING = ""  # a menu's word for no method: a Dropdown cannot hold None
PLACES = {"before": "before it", "main": "method", "after": "after it"}
Request = tuple[Method, int | None]


class Tune(Panel):
    """Choose a method, move its hyper-parameters, and see the accuracy per task beside base, average and experts.

    All of it is measured on *validation* images, off the main thread, from when the page shows it; what moves while a
    measurement runs overtakes it.

    Args:
        base, experts, tasks: the models and what to test them on; or a zoo alone; or nothing, for the embedded zoo.
        method: what to begin with: a name or a method object, a composition such as `Dare() | Ties()` too.
        limit: validation images of each task; None is all.

    Attributes:
        state: `state.method` and `state.limit`; set them from any cell.
        trials: what was measured, in order; `history()` is the same as a table.
    """

    def __init__(
        self,
        base: Model | Any = None,
        experts: Mapping[str, Model] | None = None,
        tasks: Mapping[str, Task] | None = None,
        *,
        method: str | Method = "task_arithmetic",
        limit: int | None = 50,
    ):
        if experts is None and hasattr(base, "experts"):  # a zoo
            base, experts, tasks = base.base, base.experts, base.tasks if tasks is None else tasks
        base, experts, tasks = given(base, experts, tasks)
        tests = tests_of(tasks, tuple(experts))
        if not tests:
            raise ValueError("Tune needs tasks= to test on, such as zoo.tasks; these models came without")
        super().__init__(TuneState(tuple(experts), method, limit))
        self.bench = Bench(mk.open(base), {task: mk.open(expert) for task, expert in experts.items()}, tests)
        self.tasks = self.state.tasks
        self.trials: list[Trial] = []
        self._known: dict[tuple[Key, int | None], Trial] = {}
        self._shown: dict[str, Counts] = {}
        self.job = Job(self._measure, self.guarded(self._show_partial), self.guarded(self._finish), interval=0.2)
        self.figure = self.adopt(two(self.tasks), "mk-tune")
        self.sliders: dict[str, Sliders | None] = dict.fromkeys(PLACES)
        self.children = [*self._controls(), self.problem, self.figure, self.page]
        self.state.observe(self.guarded(self._moved), ["method", "limit"])
        self._follow()
        self.figure.observe(self.guarded(lambda _: self.measure()), "_drawn")  # before, nobody would see it
        if headless():
            self.measure()

    def measure(self) -> None:
        """Measure what is on show, and the references where they are not known. `job.wait()` waits for it."""
        self.job.submit((self.state.method, self.state.limit or None))

    def history(self) -> pd.DataFrame:
        """A row for every setting measured: method, images a task, mean, low, high, bytes, seconds."""
        return pd.DataFrame([trial.row() for trial in self.trials])

    def table(self) -> pd.DataFrame:
        """What is on show: a row for each task of base, average, individual and this setting, as `mk.compare` has it."""
        keys = [(key, self.state.limit or None) for key in (*REFERENCES, self.state.method)]
        known = [self._known[key].table() for key in keys if key in self._known]
        return pd.concat(known, ignore_index=True) if known else pd.DataFrame()

    def png(self) -> bytes:
        return picture(self._title(), self._shown, self._comparable(), self._now(), self.tasks)

    def _controls(self) -> list[ipywidgets.Widget]:
        names = {"before": [NOTHING, *befores()], "main": taking(len(self.tasks)), "after": [NOTHING, *afters()]}
        self.menus = {}
        for place, label in PLACES.items():
            options = [(name or "nothing", name) for name in names[place]]
            menu = ipywidgets.Dropdown(options=options, description=label, style=SHORT, layout={"width": "230px"})
            menu.add_class(f"mk-{place}")
            menu.observe(self.guarded(self._chosen), "value")
            self.menus[place] = menu
        images = ipywidgets.Dropdown(description="images a task", style=SHORT, layout={"width": "170px"})
        images.add_class("mk-images")
        self.bind(images, "limit", options=self._image_options)
        self.default = ipywidgets.Button(description="Defaults")
        self.default.on_click(self.guarded(self._back))
        self.run = ipywidgets.Button(description="Measure")
        self.run.on_click(self.guarded(self._pressed))
        self.run.add_class("mk-run")
        self.progress = ipywidgets.IntProgress(layout={"width": "180px", "visibility": "hidden"})
        self.knobs = ipywidgets.VBox()
        self.said = html("", "mk-say", "mk-tune-say")
        buttons = bar(images, self.default, self.run, self.progress)
        return [html("Tune a method", "mk-title"), bar(*self.menus.values()), self.knobs, buttons, self.said]

    def _image_options(self) -> list[tuple[str, int]]:
        return [(str(n or "all"), n) for n in [*sorted({25, 50, 100, 200, self.state.limit} - {ALL}), ALL]]

    # --- method, menus and sliders move together --------------------------------------------------------------------

    def _follow(self) -> None:
        """Menus and sliders show the state's method."""
        self._following = True
        try:
            for place, part in parts(self.state.method)._asdict().items():
                self.menus[place].value = NOTHING if part is None else part.name
                self.sliders[place] = self._sliders(place, part)
        finally:
            self._following = False
        there = [sliders for sliders in self.sliders.values() if sliders is not None]
        self.knobs.children = [box for sliders in there for box in (html(about(sliders.method), "mk-part"), sliders)]
        self._say()

    def _sliders(self, place: str, part: Method | None) -> Sliders | None:
        """Those there are where they are of the same method: whoever holds one keeps it."""
        if part is None:
            return None
        there = self.sliders[place]
        if there is not None and type(there.method) is type(part):
            there.method = part
            return there
        made = Sliders(part, self.tasks)
        made.observe(self.guarded(self._slid), "method")
        return made

    def _slid(self, _: dict) -> None:
        if not self._following:
            self._take(Parts(*(s and s.method for s in self.sliders.values())))

    def _chosen(self, _: dict) -> None:
        """A menu's new method comes with its defaults; the other parts keep what was set."""
        if self._following:
            return
        kept = parts(self.state.method)._asdict()
        chosen = {place: METHODS[menu.value] if menu.value else None for place, menu in self.menus.items()}
        new = {p: kept[p] if type(kept[p]) is cls else cls and cls() for p, cls in chosen.items()}
        self._take(Parts(**new))

    def _take(self, new: Parts) -> None:
        """Show the new method, or say why there is none and show the old one."""
        try:
            self.state.method = new.joined()
            self.calm()
        except (TypeError, ValueError) as error:
            self._follow()
            self.complain(error if isinstance(error, StateError) else StateError(str(error)))

    def _back(self, _: Any) -> None:
        self._take(Parts(*(part and type(part)() for part in parts(self.state.method))))

    def _moved(self, change: dict) -> None:
        self._shown.pop("before", None)
        if change["name"] == "method" and "now" in self._shown:
            self._shown["before"] = self._shown["now"]
        self._follow()
        self.measure()

    # --- measuring --------------------------------------------------------------------------------------------------

    def _measure(self, request: Request, cancel: threading.Event) -> Iterator[tuple[str, Counts, int]]:
        """Yields what is under way, what was counted of it, and images done of all."""
        method, limit = request
        for name, key in [("now", method), *((reference, reference) for reference in REFERENCES)]:
            if (key, limit) in self._known:
                yield name, self._known[key, limit].found, 0
                continue
            for found, trial in self.bench.measure(key, limit, cancel):
                if trial is not None:
                    self._known[key, limit] = trial
                    self.trials += [trial] if name == "now" else []
                yield name, found, self.bench.images(limit)

    def _show_partial(self, partial: tuple[str, Counts, int]) -> None:
        name, found, whole = partial
        self._shown[name] = found
        self.run.description, self.run.button_style = "Cancel", "warning"
        self.progress.layout.visibility = "visible"
        if whole:
            self.progress.max, self.progress.value = whole, sum(n for _, n in found.values())
        self._draw()

    def _finish(self, outcome: str | Exception) -> None:
        self.run.description, self.run.button_style = "Measure", ""
        self.progress.layout.visibility = "hidden"
        for name in (*REFERENCES, "now"):
            key = self.state.method if name == "now" else name, self.state.limit or None
            self._shown.pop(name, None)
            if key in self._known:
                self._shown[name] = self._known[key].found
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

    # --- what the page shows ----------------------------------------------------------------------------------------

    def _now(self) -> Trial | None:
        return self._known.get((self.state.method, self.state.limit or None))

    def _comparable(self) -> list[Trial]:
        """The settings measured on as many images as are chosen now."""
        return [trial for trial in self.trials if trial.limit == (self.state.limit or None)]

    def _draw(self) -> None:
        with self.figure.batch_update():
            for name in (*REFERENCES, "before", "now"):
                show(self.figure, name, self._shown.get(name), self.tasks)
            show_tried(self.figure, self._comparable(), self._now())

    def _say(self, first: str = "") -> None:
        """The setting as code, and what it comes to."""
        code = (
            f"<code>mk.merge(mk.methods.{escape(written(self.state.method).replace('| ', '| mk.methods.'))}, …)</code>"
        )
        now = self._now()
        self.said.value = f"{first}{code} {words(now) if now else 'is not measured yet.'}"

    def _title(self) -> str:
        return f"Tune: {written(self.state.method)}"


def about(method: Method) -> str:
    """A line above the sliders of one method."""
    none = "" if method.options() else "; it has no hyper-parameters"
    return f"<b>{escape(method.label)}</b> <span style='opacity:.75'>{escape(method.paper)}{none}</span>"


def words(trial: Trial) -> str:
    """What a setting comes to, in a sentence."""
    share, low, high = mean(trial.found)
    images = "all validation images" if trial.limit is None else f"at most {trial.limit} validation images of each"
    return (
        f"is right on <b>{share:.1%}</b> ({low:.1%} to {high:.1%}), mean over {len(trial.found)} tasks, {images}. "
        f"Serving all tasks takes {size(trial.nbytes)}. Merged in {trial.merged:.2f} s, measured in {trial.measured:.1f} s."
    )
