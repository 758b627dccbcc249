"""The search's figure: the score trial by trial, and where in the hyper-parameters it looked."""

import pandas as pd
from plotly.subplots import make_subplots

from mergekit_nb.plots.theme import GRID, SHARE, TEXT
from mergekit_nb.widgets.lean import LeanFigure

NAMES = {"scale": "λ (scale)", "ratio": "ratio, fraction kept", "score": "mean validation accuracy"}
BLUE, ORANGE = "#0072b2", "#d55e00"


def two() -> LeanFigure:
    """Empty figures."""
    figure = make_subplots(1, 2, subplot_titles=("Trial by trial", "Where it looked"), horizontal_spacing=0.11)
    dots = {"color": BLUE, "size": 8, "line": {"color": TEXT, "width": 1}}
    figure.add_scatter(name="trial", mode="markers", marker=dots, hovertemplate="trial %{x}: %{y:.2%}", row=1, col=1)
    line = {"color": ORANGE, "width": 2, "shape": "hv"}
    figure.add_scatter(name="best so far", mode="lines", line=line, hoverinfo="skip", row=1, col=1)
    where = {"colorscale": SHARE, "size": 10, "line": {"color": TEXT, "width": 1}}
    where["colorbar"] = {"title": {"text": "score"}, "thickness": 12, "outlinewidth": 0, "tickformat": ".0%"}
    figure.add_scatter(name="", mode="markers", marker=where, showlegend=False, row=1, col=2)
    star = {"symbol": "circle-open", "size": 18, "color": ORANGE, "line": {"width": 3}}
    figure.add_scatter(name="best", mode="markers", marker=star, hoverinfo="skip", row=1, col=2)
    figure.update_layout(
        template="mk", height=320, margin={"t": 34, "b": 76, "l": 8, "r": 8}, font={"size": 11}, autosize=True,
        uirevision="search", legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
    )  # fmt: skip
    figure.update_annotations(font_size=13)
    figure.update_xaxes(fixedrange=True, ticks="", gridcolor=GRID, zeroline=False)
    figure.update_yaxes(fixedrange=True, ticks="", gridcolor=GRID, zeroline=False)
    figure.update_xaxes(title={"text": "trial", "font": {"size": 11}}, row=1, col=1)
    figure.update_yaxes(title={"text": NAMES["score"], "font": {"size": 11}}, tickformat=".1%", row=1, col=1)
    return LeanFigure(figure)


def show(figure: LeanFigure, history: pd.DataFrame, budget: int) -> None:
    """Draw the trials so far.

    Args:
        history: as `mk.search` gives it; at least one row.
        budget: trials in all, the end of the left axis.
    """
    x, y = axes(history)
    best = history["score"].idxmax()
    form = {"score": ":.2%"}
    hover = (
        f"{NAMES[x]} %{{x:.3f}}<br>{NAMES[y]} %{{y{form.get(y, ':.3f')}}}<br>score %{{marker.color:.2%}}<extra></extra>"
    )
    with figure.batch_update():
        figure.data[0].update(x=history["step"], y=history["score"])
        figure.data[1].update(x=[*history["step"], len(history)], y=[*history["best"], history["best"].iloc[-1]])
        figure.data[2].update(x=history[x], y=history[y], marker_color=history["score"], hovertemplate=hover)
        figure.data[3].update(x=[history[x][best]], y=[history[y][best]])
        figure.layout.xaxis.range = [-0.5, budget - 0.5]
        figure.layout.xaxis2.title = {"text": NAMES[x], "font": {"size": 11}}
        figure.layout.yaxis2.title = {"text": NAMES[y], "font": {"size": 11}}
        figure.layout.yaxis2.tickformat = ".1%" if y == "score" else ".2f"


def axes(history: pd.DataFrame) -> tuple[str, str]:
    """What the right figure shows: the two hyper-parameters, or the one against its score."""
    searched = [name for name in ("scale", "ratio") if name in history]
    return (searched[0], searched[1]) if len(searched) == 2 else (searched[0], "score")
