"""The two linked figures: accuracy jointly and task by task beside its brackets, and accuracy against cost."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mergekit_nb.plots.theme import COLOURS, SYMBOLS, TEXT
from mergekit_nb.tradeoff import METHODS
from mergekit_nb.widgets.accuracy_figure import GREY
from mergekit_nb.widgets.lean import LeanFigure
from mergekit_nb.widgets.zipwalk.compute import Point
from mergekit_nb.widgets.zipwalk.state import ALL, NOTHING, Key, ZipState
from mergekit_nb.widgets.zipwalk.study import Study

NOW = "#D55E00"
LOOK = {method: (COLOURS[k], SYMBOLS[k]) for k, method in enumerate(METHODS)}  # as in plots.accuracy_against_flops
ALONE = ("line-ew-open", "x-thin-open", "y-down-open", "cross-thin-open")  # one for each network
BAR = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3}
TITLES = ("Accuracy, 95 % intervals", "Joint accuracy against the cost of a picture")
OTHER = "other α and β of zip"


def two(study: Study) -> LeanFigure:
    """Nothing measured yet."""
    figure = make_subplots(1, 2, column_widths=[0.5, 0.5], horizontal_spacing=0.1, subplot_titles=TITLES)
    for trace in _left(study):
        figure.add_trace(trace, row=1, col=1)
    for trace in _right():
        figure.add_trace(trace, row=1, col=2)
    figure.update_layout(
        template="mk", height=360, margin={"t": 34, "b": 90, "l": 8, "r": 8}, font={"size": 12}, autosize=True,
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}, uirevision="zip", hovermode="closest",
    )  # fmt: skip
    figure.update_annotations(font_size=13)
    figure.update_yaxes(tickformat=".0%", fixedrange=True, range=[0, 1])
    figure.update_xaxes(fixedrange=True, ticks="", showgrid=False)
    ticks = {"tickvals": list(range(len(_tasks(study)))), "ticktext": _tasks(study)}
    figure.update_xaxes(**ticks, range=[-0.5, len(_tasks(study)) - 0.5], zeroline=False, row=1, col=1)
    title = {"text": "million operations for a picture", "font": {"size": 12}}
    figure.update_xaxes(title=title, rangemode="tozero", row=1, col=2)
    return LeanFigure(figure)


def show(figure: LeanFigure, state: ZipState, known: Mapping[Key, Point]) -> None:
    """Draw what is known, seen from where the reader stands."""
    traces = {trace.name: trace for trace in figure.data if trace.xaxis in (None, "x")}
    tasks = _tasks(state.study)
    for name, key in _left_keys(state.study, state.key()).items():
        point = known.get(key)
        shares = [point.share(task) for task in tasks] if point else [(None,) * 3] * len(tasks)
        traces[name].update(visible=point is not None, y=[share[0] for share in shares])
        if point:
            traces[name].error_y.update(**_bars(shares))
    _show_curve(figure, state, known)


def _show_curve(figure: LeanFigure, state: ZipState, known: Mapping[Key, Point]) -> None:
    traces = {trace.name: trace for trace in figure.data if trace.xaxis == "x2"}
    groups: dict[str, list[Point]] = {name: [] for name in traces}
    for key, point in known.items():
        other = key.method == "zip" and (key.alpha, key.beta) != (state.alpha, state.beta)
        groups[OTHER if other else key.method].append(point)
    groups["on show"] = [known[state.key()]] if state.key() in known else []
    for name, points in groups.items():
        points = sorted(points, key=lambda point: point.flops)
        shares = [point.share() for point in points]
        said = [point.key.boundary if name == "on show" else _named(point.key) for point in points]
        traces[name].update(
            x=[point.flops / 1e6 for point in points], y=[share[0] for share in shares], text=said, visible=bool(points)
        )
        if name in METHODS:
            traces[name].error_y.update(**_bars(shares))
    most = max((point.flops for point in known.values()), default=1e6)
    figure.layout.xaxis2.range = [0, most * 1.08 / 1e6]


def _knobs(key: Key) -> str:
    return "" if key.alpha is None else f", α = {key.alpha:g}, β = {key.beta:g}"


def _named(key: Key) -> str:
    return f"{key.method}, {key.boundary}{_knobs(key)}"


def _left_keys(study: Study, now: Key) -> dict[str, Key]:
    alone = {f"{name} alone": Key("alone", name) for name in study.networks}
    return {"ensemble": Key("ensemble", NOTHING), **alone, "on show": now}


def _tasks(study: Study) -> list[str]:
    return ["joint", *study.tests]


def _left(study: Study) -> list[go.Scatter]:
    tasks = _tasks(study)
    looks = {"ensemble": {"symbol": "triangle-up", "size": 11, "color": TEXT}}
    for place, name in enumerate(study.networks):
        colour, symbol = COLOURS[(4, 5, 2)[place % 3]], ALONE[place % len(ALONE)]
        looks[f"{name} alone"] = {"symbol": symbol, "size": 11, "color": colour, "line": {"width": 3, "color": colour}}
    looks["on show"] = {"symbol": "circle", "size": 11, "color": NOW}
    apart = np.linspace(-0.24, 0.24, len(looks))
    return [
        go.Scatter(
            x=[place + shift for place in range(len(tasks))], y=[None] * len(tasks), text=tasks, name=name, mode="markers",
            marker=look, cliponaxis=False, error_y={**BAR, "color": look["color"]}, visible=False,
            hovertemplate=f"{name}, %{{text}}: %{{y:.1%}}<extra></extra>",
        )
        for (name, look), shift in zip(looks.items(), apart, strict=True)
    ]  # fmt: skip


def _right() -> list[go.Scatter]:
    hover = {"hovertemplate": "%{text}: %{y:.1%} at %{x:.1f} million<extra></extra>", "visible": False}
    ring = {"symbol": "circle-open", "size": 18, "color": NOW, "line": {"width": 2.5}}
    faint = {"symbol": "circle", "size": 6, "color": GREY, "opacity": 0.6}
    traces = [go.Scatter(name=OTHER, mode="markers", marker=faint, **hover)]
    for method, (colour, symbol) in LOOK.items():
        marker, line = {"symbol": symbol, "size": 9, "color": colour}, {"color": colour}
        bars = {**BAR, "color": colour}
        traces.append(go.Scatter(name=method, mode="lines+markers", marker=marker, line=line, error_y=bars, **hover))
    for name, symbol in (("ensemble", "triangle-up"), ("alone", "triangle-down")):
        marker = {"symbol": symbol, "size": 11, "color": TEXT}
        traces.append(go.Scatter(name=name, mode="markers", marker=marker, showlegend=name != "ensemble", **hover))
    said = {"textposition": "top center", "textfont": {"size": 12}, "hoverinfo": "skip", "showlegend": False}
    traces.append(go.Scatter(name="on show", mode="markers+text", marker=ring, **said))
    return traces


def _bars(shares: list[tuple[float, float, float]]) -> dict[str, list[float]]:
    above, below = [high - share for share, _, high in shares], [share - low for share, low, _ in shares]
    return {"array": above, "arrayminus": below}


def title(key: Key) -> str:
    """The model on show, in words."""
    if key.boundary == NOTHING:
        return "nothing shared: the ensemble"
    where = "all of it" if key.boundary == ALL else f"up to {key.boundary}"
    return f"{key.method}, {where}{_knobs(key)}"
