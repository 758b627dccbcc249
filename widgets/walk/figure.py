"""The three linked figures in one plotly widget: conflict and cosine by layer and task, magnitudes in the layer on show."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mergekit_nb.plots.theme import GRID, SHARE
from mergekit_nb.widgets.lean import LeanFigure, cells
from mergekit_nb.widgets.variants import COLOUR
from mergekit_nb.widgets.walk.measure import Overview

OWN, MASKED, RESCALED = "#8c8c8c", "#d55e00", COLOUR["rescale"]
TITLES = ("Sign conflict, share of entries", "Cosine of τ and rebuilt", "Mean |·| in this layer")
BARS = (
    ("own", "|τ|", OWN, ""),
    ("masked", "|M⊙τ<sub>uni</sub>|", MASKED, "/"),
    ("rescaled", "λ|M⊙τ<sub>uni</sub>|", RESCALED, ""),
)
READABLE = 130  # cells with a number in them


def three(overview: Overview, layer: int) -> LeanFigure:
    """The figures; click a cell of a heat map to go to its layer."""
    figure = make_subplots(1, 3, column_widths=[0.33, 0.33, 0.34], subplot_titles=TITLES, horizontal_spacing=0.085)
    figure.add_trace(_heat(overview, overview.conflict, (0, 0.5), ".0%"), row=1, col=1)
    figure.add_trace(_heat(overview, overview.cosine, (0, 1), ".2f"), row=1, col=2)
    for kind, label, colour, pattern in BARS:
        marker = {"color": colour, "pattern": {"shape": pattern, "size": 5, "fillmode": "overlay"}}
        values = getattr(overview, kind)[layer]
        hover = "%{x}: %{y:.2e}"
        figure.add_trace(
            go.Bar(x=overview.tasks, y=values, name=label, marker=marker, hovertemplate=hover), row=1, col=3
        )
    for column in (1, 2):
        figure.add_shape(_row(layer), row=1, col=column)
    return LeanFigure(_dress(figure, len(overview.layers)))


def show_layer(figure: LeanFigure, overview: Overview, layer: int) -> None:
    """Move the marks and the bars to another layer."""
    with figure.batch_update():
        for trace, (kind, *_) in zip(figure.data[2:], BARS, strict=True):
            trace.y = getattr(overview, kind)[layer]
        for shape in figure.layout.shapes:
            shape.y0, shape.y1 = layer - 0.5, layer + 0.5


def _heat(overview: Overview, values: np.ndarray, ends: tuple[float, float], form: str) -> go.Heatmap:
    small = len(overview.layers) * len(overview.tasks) <= READABLE
    return go.Heatmap(
        z=cells(values),
        x=overview.tasks,
        y=overview.layers,
        zmin=ends[0],
        zmax=ends[1],
        colorscale=SHARE,
        showscale=False,
        xgap=1,
        ygap=1,
        texttemplate=f"%{{z:{form}}}" if small else None,
        textfont={"size": 10},
        hovertemplate=f"%{{y}}, %{{x}}: %{{z:{form}}}<br>click to go there<extra></extra>",
    )


def _row(layer: int) -> dict:
    return {
        "type": "rect", "xref": "x domain", "x0": 0, "x1": 1, "y0": layer - 0.5, "y1": layer + 0.5,
        "line": {"color": MASKED, "width": 3}, "fillcolor": "rgba(0,0,0,0)",
    }  # fmt: skip


def _dress(figure: go.Figure, layers: int) -> go.Figure:
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": -0.34, "yanchor": "top", "font": {"size": 11}}
    figure.update_layout(
        template="mk", height=max(270, min(460, 170 + 24 * layers)), margin={"t": 34, "b": 96, "l": 8, "r": 8},
        font={"size": 11}, legend=legend, autosize=True, uirevision="walk", bargap=0.2, hovermode="closest",
    )  # fmt: skip
    figure.update_annotations(font_size=13)
    figure.update_xaxes(ticks="", tickangle=-45, type="category", showgrid=False, fixedrange=True)
    figure.update_yaxes(ticks="", fixedrange=True)
    for column in (1, 2):
        figure.update_yaxes(ticksuffix=" ", autorange="reversed", type="category", showgrid=False, row=1, col=column)
    return figure.update_yaxes(rangemode="tozero", exponentformat="power", gridcolor=GRID, row=1, col=3)
