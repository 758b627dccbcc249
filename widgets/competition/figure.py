"""The three linked figures in one plotly widget: what survives, who wins, and how the scores are distributed."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mergekit_nb.plots.theme import GRID, SHARE
from mergekit_nb.widgets.competition.measure import EDGES, MIDDLES, Overview
from mergekit_nb.widgets.lean import LeanFigure, cells

MARK, KEPT, DROPPED, OTHERS = "#d55e00", "#0072b2", "#8c8c8c", "rgba(140, 140, 140, 0.55)"
TITLES = ("Survive, share of a task's entries", "Won, share of a layer's entries", "Scores")
READABLE = 140  # cells with a number in them
NOBODY = "nobody"
GREYS = [[0, "#d9d9d9"], [1, "#6f6f6f"]]  # of the column that no task has won
POWERS = {"−1000": -1e3, "−10": -10, "0": 0, "10": 10, "1000": 1e3}
SMALLEST = 1e-5  # share of entries at which the axis of the distribution begins


def three(overview: Overview, layer: int, task: int) -> LeanFigure:
    """The figures; click a cell of a heat map to go to its layer."""
    figure = make_subplots(1, 3, column_widths=[0.32, 0.36, 0.32], subplot_titles=TITLES, horizontal_spacing=0.075)
    for column, scale in ((1, SHARE), (2, SHARE), (2, GREYS)):
        figure.add_trace(_heat(overview, scale), row=1, col=column)
    for column in (1, 2):
        figure.add_shape(_row(layer), row=1, col=column)
    others = {"mode": "lines", "line": {"color": OTHERS, "width": 1, "shape": "hvh"}, "hoverinfo": "skip"}
    figure.add_scatter(name="other tasks", **others, row=1, col=3)
    for name, colour in (("dropped", DROPPED), ("kept", KEPT)):
        line = {"color": colour, "width": 1.5, "shape": "hvh"}
        figure.add_scatter(
            name=name, mode="lines", line=line, fill="tozeroy", fillcolor=f"rgba({_rgb(colour)}, 0.35)",
            hovertemplate="%{y:.2%} of the entries<extra></extra>", row=1, col=3,
        )  # fmt: skip
    figure.add_shape(_threshold(), row=1, col=3)
    lean = LeanFigure(_dress(figure, len(overview.layers)))
    show(lean, overview, layer, task)
    return lean


def show(figure: LeanFigure, overview: Overview, layer: int, task: int) -> None:
    """Draw a competition, with its marks at one layer and its distribution for one task."""
    blank = np.full((len(overview.layers), 1), np.nan)
    nobody = np.column_stack([np.full_like(overview.won, np.nan), overview.nobody])
    columns = (*overview.tasks, NOBODY)
    with figure.batch_update():
        figure.data[0].update(z=cells(overview.kept), x=overview.tasks, zmax=_end(overview.kept))
        figure.data[1].update(z=cells(np.hstack([overview.won, blank])), x=columns, zmax=_end(overview.won))
        figure.data[2].update(z=cells(nobody), x=columns, zmax=1)
        for shape in figure.layout.shapes[:2]:
            shape.y0, shape.y1 = layer - 0.5, layer + 0.5
        _show_spread(figure, overview, layer, task)


def _show_spread(figure: LeanFigure, overview: Overview, layer: int, task: int) -> None:
    spread, cut = overview.spread[layer], overview.cut[task]
    rest = [[*MIDDLES, None], *[[*row, None] for row in _shown(np.delete(spread, task, 0))]]
    figure.data[3].update(x=rest[0] * (len(rest) - 1), y=[value for row in rest[1:] for value in row])
    above = EDGES[:-1] >= cut - 1e-9
    for trace, chosen in ((figure.data[4], ~above), (figure.data[5], above)):
        trace.update(x=MIDDLES[chosen], y=_shown(spread[task])[chosen])
    figure.layout.shapes[2].update(x0=cut, x1=cut)
    figure.layout.annotations[2].text = f"Scores of {overview.tasks[task]}, {overview.layers[layer]}"


def _shown(shares: np.ndarray) -> np.ndarray:
    """What a logarithmic axis can show."""
    return np.where(shares > 0, shares, SMALLEST / 10)


def _end(values: np.ndarray) -> float:
    """The end of a colour scale: the largest value, rounded up to two digits, so that it means the same in every layer."""
    return max(float(np.ceil(values.max() * 100) / 100), 0.01)


def _heat(overview: Overview, scale: str | list) -> go.Heatmap:
    small = len(overview.layers) * (len(overview.tasks) + 1) <= READABLE
    return go.Heatmap(
        y=overview.layers, zmin=0, colorscale=scale, showscale=False, xgap=1, ygap=1, hoverongaps=False,
        texttemplate="%{z:.0%}" if small else None, textfont={"size": 10},
        hovertemplate="%{y}, %{x}: %{z:.2%}<br>click to go there<extra></extra>",
    )  # fmt: skip


def _row(layer: int) -> dict:
    return {
        "type": "rect", "xref": "x domain", "x0": 0, "x1": 1, "y0": layer - 0.5, "y1": layer + 0.5,
        "line": {"color": MARK, "width": 3}, "fillcolor": "rgba(0,0,0,0)",
    }  # fmt: skip


def _threshold() -> dict:
    line = {"color": MARK, "width": 2, "dash": "dash"}
    return {"type": "line", "yref": "y domain", "y0": 0, "y1": 1, "x0": 0, "x1": 0, "line": line}


def _rgb(colour: str) -> str:
    return ", ".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))


def _ticks() -> dict:
    """Scores as multiples of the threshold, on the axis of `measure.place`."""
    values = [float(np.sign(power) * np.log10(1 + abs(power))) for power in POWERS.values()]
    return {"tickvals": values, "ticktext": list(POWERS), "range": [EDGES[0], EDGES[-1]], "tickangle": 0}


def _dress(figure: go.Figure, layers: int) -> go.Figure:
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": -0.34, "yanchor": "top", "font": {"size": 11}}
    figure.update_layout(
        template="mk", height=max(270, min(460, 170 + 24 * layers)), margin={"t": 34, "b": 96, "l": 8, "r": 8},
        font={"size": 11}, legend=legend, autosize=True, uirevision="competition", hovermode="closest",
    )  # fmt: skip
    figure.update_annotations(font_size=13)
    figure.update_xaxes(ticks="", fixedrange=True, showgrid=False)
    figure.update_yaxes(ticks="", fixedrange=True)
    for column in (1, 2):
        figure.update_xaxes(tickangle=-45, type="category", row=1, col=column)
        figure.update_yaxes(ticksuffix=" ", autorange="reversed", type="category", showgrid=False, row=1, col=column)
    title = {"text": "score in thresholds of the task; dashed: 1", "font": {"size": 11}, "standoff": 4}
    figure.update_xaxes(**_ticks(), title=title, row=1, col=3)
    log = {"type": "log", "range": [np.log10(SMALLEST), 0], "gridcolor": GRID, "tickformat": "~%", "dtick": 1}
    return figure.update_yaxes(**log, row=1, col=3)
