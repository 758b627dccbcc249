"""The two linked figures of Tune: every task beside its references, and every setting tried so far."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mergekit_nb.widgets.accuracy_figure import GREY, Counts, mean, shares
from mergekit_nb.widgets.lean import LeanFigure
from mergekit_nb.widgets.tune.compute import REFERENCES, Trial

# Okabe and Ito's colours; references are ticks, settings are dots: told apart without colour
COLOUR = {"base": "#999999", "average": "#e69f00", "individual": "#009e73", "before": "#cc79a7", "now": "#0072b2"}
LABELS = {
    "base": "base, zero-shot",
    "average": "average of the experts",
    "individual": "individual experts",
    "before": "the setting before",
    "now": "this setting, 95 % interval",
}
PLACE = {name: place for place, name in enumerate((*REFERENCES, "before", "now", "tried"))}
BAR = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3}


def two(tasks: tuple[str, ...]) -> LeanFigure:
    """Nothing measured yet."""
    figure = make_subplots(1, 2, column_widths=[0.68, 0.32], horizontal_spacing=0.07)
    for name in REFERENCES:
        look = {"symbol": "line-ew", "size": 22, "line": {"width": 3, "color": COLOUR[name]}, "color": COLOUR[name]}
        figure.add_trace(_dots(name, tasks, look), row=1, col=1)
    hollow = {"symbol": "circle-open", "size": 9, "color": COLOUR["before"], "line": {"width": 2}}
    solid = {"symbol": "circle", "size": 10, "color": COLOUR["now"]}
    figure.add_trace(_dots("before", tasks, hollow), row=1, col=1)
    figure.add_trace(_dots("now", tasks, solid), row=1, col=1)
    tried = {"mode": "lines+markers", "showlegend": False, "line": {"color": GREY, "width": 1}}
    hover = "%{customdata}<br>mean %{y:.1%}<extra></extra>"
    figure.add_trace(
        go.Scatter(**tried, marker={"size": 9, "opacity": 1}, error_y={**BAR, "color": GREY}, hovertemplate=hover), 1, 2
    )
    figure.update_layout(
        template="mk", height=400, margin={"t": 84, "b": 50, "l": 50, "r": 10}, font={"size": 12}, autosize=True,
        title={"text": "Accuracy per task on validation images", "font": {"size": 14}, "y": 0.98, "yanchor": "top"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, uirevision="tune",
    )  # fmt: skip
    figure.add_vline(x=len(tasks) - 0.5, line={"dash": "dot", "color": GREY, "width": 1}, row=1, col=1)
    figure.update_xaxes(type="category", showgrid=False, fixedrange=True, ticks="", row=1, col=1)
    figure.update_xaxes(title_text="setting tried", tickformat="d", showgrid=False, row=1, col=2)
    figure.update_yaxes(tickformat=".0%", range=[0, 1], fixedrange=True, row=1, col=1)
    figure.update_yaxes(tickformat=".1%", title_text="mean over tasks", row=1, col=2)
    return LeanFigure(figure)


def show(figure: LeanFigure, name: str, found: Counts | None, tasks: tuple[str, ...]) -> None:
    """Draw what is known of a reference, of the setting before, or of the one on show; None hides it."""
    share, low, high = shares(found or {}, tasks)
    trace = figure.data[PLACE[name]]
    trace.update(visible=found is not None, y=share)
    if name == "now":
        trace.error_y.update(array=high - share, arrayminus=share - low)
    lowest = min([value for t in figure.data[:5] for value in t.y if value is not None and np.isfinite(value)] or [0])
    figure.layout.yaxis.range = [max(0, np.floor(10 * lowest - 0.5) / 10), 1]


def show_tried(figure: LeanFigure, trials: Sequence[Trial], now: Trial | None) -> None:
    """Draw the means of all settings; the best is a star, the one on show is filled."""
    means = np.array([mean(trial.found) for trial in trials]).reshape(-1, 3)
    best = int(np.argmax(means[:, 0])) if len(trials) else None
    trace = figure.data[PLACE["tried"]]
    trace.update(x=list(range(1, len(trials) + 1)), y=means[:, 0], customdata=[trial.label for trial in trials])
    figure.layout.xaxis2.update(range=[0.5, len(trials) + 0.5], dtick=max(1, len(trials) // 6))
    trace.error_y.update(array=means[:, 2] - means[:, 0], arrayminus=means[:, 0] - means[:, 1])
    trace.marker.update(
        symbol=["star" if place == best else "circle" for place in range(len(trials))],
        color=[COLOUR["now"] if trial is now else GREY for trial in trials],
        size=[14 if place == best else 9 for place in range(len(trials))],
    )


def _dots(name: str, tasks: tuple[str, ...], marker: dict) -> go.Scatter:
    hover = LABELS[name].partition(",")[0] + ", %{x}: %{y:.1%}<extra></extra>"
    error = {**BAR, "color": COLOUR[name]} if name == "now" else None
    x = [*tasks, "mean"]
    common = {"mode": "markers", "marker": marker, "error_y": error, "hovertemplate": hover, "cliponaxis": False}
    return go.Scatter(x=x, y=[None] * len(x), name=LABELS[name], **common)
