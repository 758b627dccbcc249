"""The accuracy panel's figure: a bar with an interval for every variant and task, and for the mean over tasks."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from mergekit_nb.evaluation.interval import mean_interval, wilson
from mergekit_nb.widgets.lean import LeanFigure

GREY = "#8a8a8a"  # readable on a light and on a dark page
Counts = dict[str, tuple[int, int]]  # task -> images right, images seen


@dataclass(frozen=True)
class Look:
    """How one variant of a model is drawn: its name, a colour, and a pattern that tells it apart in print."""

    label: str
    colour: str
    pattern: str


def bars(tasks: tuple[str, ...], looks: Iterable[Look]) -> LeanFigure:
    """An empty figure with a trace for every look."""
    figure = go.Figure()
    for look in looks:
        marker = {"color": look.colour, "pattern": {"shape": look.pattern, "size": 5, "fillmode": "overlay"}}
        error = {"type": "data", "symmetric": False, "thickness": 1, "width": 2, "color": GREY}
        hover = "%{x}: %{y:.1%}"
        figure.add_bar(x=[*tasks, "mean"], name=look.label, marker=marker, error_y=error, hovertemplate=hover)
    figure.update_layout(
        template="mk", height=330, margin={"t": 56, "b": 50, "l": 50, "r": 8}, font={"size": 11}, bargap=0.18,
        title={"font": {"size": 13}, "y": 0.98, "yanchor": "top"}, uirevision="accuracy", autosize=True,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    figure.update_xaxes(type="category", showgrid=False, fixedrange=True, ticks="")
    figure.add_vrect(x0=len(tasks) - 0.5, x1=len(tasks) + 0.5, fillcolor=GREY, opacity=0.12, line_width=0)
    figure.update_yaxes(range=[0, 1], tickformat=".0%", fixedrange=True)
    return LeanFigure(figure)


def show(figure: LeanFigure, place: int, found: Counts | None, tasks: tuple[str, ...]) -> None:
    """Draw what is known of the variant at a place; None hides it."""
    trace = figure.data[place]
    share, low, high = shares(found or {}, tasks)
    error = {"array": high - share, "arrayminus": share - low}
    trace.update(visible=found is not None, y=share, error_y=error)


def outline(figure: LeanFigure, place: int) -> None:
    """Mark the bars of the variant at a place, and of no other."""
    with figure.batch_update():
        for other, trace in enumerate(figure.data):
            trace.marker.line = {"width": 2 if other == place else 0, "color": GREY}


def mean(found: Counts) -> tuple[float, float, float]:
    """The plain mean over tasks and the two ends of its interval."""
    right, n = np.array(list(found.values()), float).T
    return (right / n).mean(), *mean_interval(right / n, *wilson(right, n))


def shares(found: Counts, tasks: tuple[str, ...]) -> np.ndarray:
    """Share right, low and high: three rows, a column for every task and one for their mean; NaN where not known yet."""
    values = np.full((3, len(tasks) + 1), np.nan)
    for place, task in enumerate(tasks):
        if task in found:
            right, n = found[task]
            values[:, place] = right / n, *wilson(right, n)
    if len(found) == len(tasks):
        values[:, -1] = mean(found)
    return values
