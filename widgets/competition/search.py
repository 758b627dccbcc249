"""The search for λ and ratio, live: trials appear as they come, test images are looked at once, at the end."""

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import ipywidgets
import pandas as pd

import mergekit_nb as mk
from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.evaluation.interval import mean_interval
from mergekit_nb.methods.pcb import Pcb
from mergekit_nb.search import Found
from mergekit_nb.widgets.competition.search_figure import show, two
from mergekit_nb.widgets.competition.stages import Remembered
from mergekit_nb.widgets.competition.state import CompetitionState
from mergekit_nb.widgets.job import Job, headless
from mergekit_nb.widgets.panel import SHORT, Panel, bar, html

BOUNDS = {"scale": (0.5, 3.0), "ratio": (0.01, 0.5)}  # of λ as in the authors' own search for language models
TEST_IMAGES = 250  # of each task, for the one look at the end
FEW = 12  # trials where nobody can press the button
SEED = 0


class Request(NamedTuple):
    """One search: from which hyper-parameters, which of them move, how long, on how many validation images a task."""

    start: Pcb
    searched: tuple[str, ...]
    budget: int
    limit: int


class CoefficientSearch(Panel):
    """Search λ, the ratio, or both with `mk.search`, on validation images.

    Attributes:
        history: a row per trial of the last search, as it grows: step, scale and/or ratio, score, best.
        found: what `mk.search` returned, its method ready for `mk.merge`; None until a search has ended.
        tested: mean test accuracy with its interval, rows "start" and "chosen"; None until a search has ended.
    """

    def __init__(self, state: CompetitionState):
        super().__init__(state)
        self.study = state.study
        self.history, self.found, self.tested = pd.DataFrame(), None, None
        self.job = Job(self._search, self.guarded(self._say_where), self.guarded(self._finish), interval=0.0)
        self.figure = self.adopt(two(), "mk-search")
        self.children = [
            html("Search for λ, live", "mk-title"),
            *self._controls(),
            self.problem,
            self.figure,
            self.page,
        ]
        if headless():
            self.search(FEW)

    def search(self, budget: int | None = None) -> None:
        """Start a search from what is on show. Returns at once; `job.wait()` waits for it."""
        state = self.state
        searched = tuple(name for name, box in self.boxes.items() if box.value)
        if not searched:
            raise ValueError("nothing to search: tick λ, ratio, or both")
        start = Pcb(variant=state.variant, ratio=state.ratio, scale=state.scale)
        self.job.submit(Request(start, searched, budget or self.budget.value, self.images.value))

    def _controls(self) -> list[ipywidgets.Widget]:
        labels = {"scale": f"λ, {_range('scale')}", "ratio": f"ratio, {_range('ratio')}"}
        self.boxes = {
            name: ipywidgets.Checkbox(name == "scale", description=label, indent=False, layout={"width": "auto"})
            for name, label in labels.items()
        }
        self.budget = ipywidgets.IntSlider(
            20, min=4, max=60, description="trials", style=SHORT, layout={"width": "250px"}
        )
        self.images = ipywidgets.Dropdown(
            options=[25, 50, 100, 250], value=50, description="validation images a task", style=SHORT,
            layout={"width": "240px"},
        )  # fmt: skip
        self.run = ipywidgets.Button(description="Search", button_style="primary")
        self.run.on_click(self.guarded(self._pressed))
        self.progress = ipywidgets.IntProgress(layout={"width": "180px", "display": "none"})
        self.said = html("Not searched yet. The test images are looked at once, when the search has ended.", "mk-say")
        self.run.add_class("mk-search-run")
        self.said.add_class("mk-search-say")
        return [bar(self.run, *self.boxes.values(), self.budget, self.images), bar(self.progress, self.said)]

    def _search(self, request: Request, cancel: threading.Event) -> Iterator[tuple[int, int, str]]:
        """Search, then look at the test images once; yields trials done, in all, and what is being done."""
        start = Remembered(**vars(request.start), study=self.study, cancel=cancel)
        vectors, tests = self.study.vectors, self.study.tests
        rows: list[dict] = []
        self.history, self.found, self.tested = pd.DataFrame(), None, None

        def watch(row: dict) -> None:
            rows.append(row)
            self.guarded(self._show_trials)(pd.DataFrame(rows), request.budget)

        def score(merged: mk.Merged) -> float:
            table = evaluate(merged, tests, split="validation", limit=request.limit, cancel=cancel)
            return float(table["accuracy"].mean())

        yield 0, request.budget, "measuring the scores"
        bounds = {name: BOUNDS[name] for name in request.searched}
        found = mk.search(
            start, vectors.base, vectors.experts, score, bounds, request.budget, seed=SEED, cancel=cancel, watch=watch
        )
        yield request.budget, request.budget, "looking at the test images, once"
        looks = {"start": start, "chosen": found.method}
        self.tested = pd.DataFrame({name: self._test(method, cancel) for name, method in looks.items()}).T
        self.found = Found(found.method.plain(), found.options, found.score, found.history, found.optimizer)

    def _test(self, method: Remembered, cancel: threading.Event) -> dict[str, float]:
        merged = mk.merge(method, self.study.vectors.base, self.study.vectors.experts, cancel=cancel)
        table = evaluate(merged, self.study.tests, limit=TEST_IMAGES, cancel=cancel)
        low, high = mean_interval(table["accuracy"], table["low"], table["high"])
        return {"accuracy": table["accuracy"].mean(), "low": low, "high": high, "n": table["n"].sum()}

    # --- what the page shows ---------------------------------------------------------------------------------------

    def _pressed(self, _: Any) -> None:
        self.calm()
        if self.job.running:
            self.job.cancel()
            self.said.value = "Cancelling …"
        else:
            self.search()

    def _show_trials(self, history: pd.DataFrame, budget: int) -> None:
        self.history = history
        show(self.figure, history, budget)
        last = history.iloc[-1]
        self._say_where((len(history), budget, f"{_named(last)}: {last['score']:.2%}"))

    def _say_where(self, partial: tuple[int, int, str]) -> None:
        done, whole, text = partial
        self.progress.max, self.progress.value = whole, done
        self.progress.layout.display = ""
        self.run.description, self.run.button_style = "Cancel", "warning"
        self.said.value = f"{text} ({done} of {whole} trials)"

    def _finish(self, outcome: str | Exception) -> None:
        self.run.description, self.run.button_style = "Search", "primary"
        self.progress.layout.display = "none"
        self.said.value = {"done": self.summary, "cancelled": self._cancelled}.get(str(outcome), str)()
        if isinstance(outcome, Exception):
            raise outcome

    def _cancelled(self) -> str:
        return f"Cancelled after {len(self.history)} trials; no test accuracy is shown."

    def summary(self) -> str:
        """What came out, in words (HTML); nothing where no search has ended."""
        if self.found is None:
            return ""
        start, chosen = self.tested.loc["start"], self.tested.loc["chosen"]
        apart = chosen["low"] > start["high"] or start["low"] > chosen["high"]
        return (
            f"Best of {len(self.history)} trials on validation: {_named(pd.Series(self.found.options))}, "
            f"{self.found.score:.1%} (start {self.history['score'][0]:.1%}). "
            f"On {chosen['n']:.0f} test images, looked at once: <b>{_interval(chosen)}</b>, as it was {_interval(start)}. "
            f"The intervals {'do not overlap' if apart else 'overlap'}. "
            f"<span style='opacity:.75'>{self.found.optimizer}, seed {SEED}</span>"
        )


def _named(values: pd.Series) -> str:
    words = {"scale": "λ", "ratio": "ratio"}
    return ", ".join(f"{words[name]} = {values[name]:.3f}" for name in words if name in values)


def _interval(row: pd.Series) -> str:
    return f"{row['accuracy']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"


def _range(name: str) -> str:
    low, high = BOUNDS[name]
    return f"{low:g} to {high:g}"
