"""Many methods at once: what they reach on every task, and what they cost."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mergekit_nb.plots import theme
from mergekit_nb.plots.accuracy import means
from mergekit_nb.plots.heat import add_heat

REFERENCES = ("base", "individual")


def accuracy_map(table: pd.DataFrame, families: Mapping[str, str] | None = None) -> go.Figure:
    """Accuracy of every method (row) on every task (column), best mean on top, within its family where that is given.

    The colour says how far from the base (0, grey) to the task's own expert (1, orange) it came; blue fell below the
    base. Where expert and base are equal there is no way to go, and no colour.

    Args:
        table: what `compare` returns.
        families: method -> family; families stand in the order in which they first come.
    """
    grid = table.pivot(index="method", columns="task", values="accuracy")[list(table["task"].unique())]
    grid["mean"] = grid.mean(axis=1)
    grid = grid.loc[_order(table, families)]
    gain = recovered(grid)
    fig = theme.figure("Accuracy by method and task", height=130 + 23 * len(grid), margin={"t": 70, "l": 190})
    bar = {"title": {"text": "from base to expert", "side": "right"}, "tickformat": ".0%", "thickness": 14}
    dark = (gain.abs() > 0.7).to_numpy()
    add_heat(fig, gain, ".0%", dark, grid, colorscale=theme.SIGNED, zmin=-1, zmax=1, colorbar=bar)
    hover = "%{y}, %{x}: %{customdata:.1%}, %{z:.0%} of the way<extra></extra>"
    fig.data[0].update(customdata=grid.to_numpy(), hovertemplate=hover)
    _bracket(fig, [_kind(method, families or {}) for method in grid.index])
    return fig.update_xaxes(side="top", tickangle=0)


def leaderboard(table: pd.DataFrame, families: Mapping[str, str] | None = None) -> go.Figure:
    """Mean accuracy with its 95 % interval, megabytes and merge seconds of every method, on the same rows.

    Args:
        table: what `compare` returns.
        families: method -> family: the colours. Bytes and seconds are on logarithmic axes; what takes no merging has no time.
    """
    cost = table.groupby("method", sort=False)[["bytes", "seconds"]].first()
    rows = means(table).set_index("method").join(cost).loc[_order(table, None)]
    fig = make_subplots(1, 3, shared_yaxes=True, column_widths=[0.56, 0.22, 0.22], horizontal_spacing=0.03)
    kinds = {method: (families or {}).get(method, "merges") for method in rows.index} | dict.fromkeys(REFERENCES, "")
    for place, kind in enumerate(dict.fromkeys([kinds[m] for m in rows.index if kinds[m]])):
        look = {"color": theme.COLOURS[place % 8], "symbol": theme.SYMBOLS[place % 8]}
        _dots(fig, rows[[kinds[m] == kind for m in rows.index]], kind, look)
    _dots(
        fig, rows[[m in REFERENCES for m in rows.index]], "not merged", {"color": theme.TEXT, "symbol": "diamond-open"}
    )
    for method, row in rows[[m in REFERENCES for m in rows.index]].iterrows():
        note = {"text": method, "font": {"size": 11}}
        line = {"dash": "dot", "color": theme.TEXT, "width": 1}
        fig.add_vline(x=row["accuracy"], line=line, annotation=note, row=1, col=1)
    fig.update_xaxes(title_text="mean accuracy over tasks, 95 % interval", tickformat=".0%", row=1, col=1)
    fig.update_xaxes(title_text="MB for all tasks", type="log", tickvals=[1, 2, 5, 10, 20, 50], row=1, col=2)
    fig.update_xaxes(title_text="seconds to merge", type="log", tickvals=[0.01, 0.1, 1, 10, 100], row=1, col=3)
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=list(rows.index)[::-1], showgrid=True)
    tall = 190 + 21 * len(rows)
    legend = {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0}
    title = {"text": "What each method reaches, keeps and takes", "y": 1 - 25 / tall, "yref": "container"}
    return fig.update_layout(template="mk", title=title, height=tall, legend=legend, margin={"t": 120})


def recovered(grid: pd.DataFrame) -> pd.DataFrame:
    """How far from the base (0) to the expert (1) every accuracy came; NaN where these two are equal.

    Args:
        grid: accuracy by method (row) and task (column), rows "base" and "individual" among them.
    """
    way = grid.loc["individual"] - grid.loc["base"]
    return (grid - grid.loc["base"]) / way.where(way != 0)


def _order(table: pd.DataFrame, families: Mapping[str, str] | None) -> list[str]:
    """References first where families are given, then family by family; the best mean on top."""
    ranked = means(table).sort_values("accuracy", ascending=False, kind="stable")["method"].tolist()
    if families is None:
        return ranked
    kinds = ["", *dict.fromkeys(families.values()), "other"]
    return sorted(ranked, key=lambda method: kinds.index(_kind(method, families)))


def _kind(method: str, families: Mapping[str, str]) -> str:
    return "" if method in REFERENCES or not families else families.get(method, "other")


def _bracket(fig: go.Figure, kinds: list[str]) -> None:
    """Write the name of each family beside its rows, and a line between families."""
    for kind in dict.fromkeys(filter(None, kinds)):
        rows = [row for row, other in enumerate(kinds) if other == kind]
        words = {"text": kind, "textangle": -90, "font": {"size": 12}, "showarrow": False}
        fig.add_annotation(xref="paper", x=0, xshift=-150, y=sum(rows) / len(rows), **words)
        if rows[0]:
            line = {"color": theme.TEXT, "width": 1.5}
            fig.add_shape(type="line", xref="paper", x0=-0.02, x1=1, y0=rows[0] - 0.5, y1=rows[0] - 0.5, line=line)


def _dots(fig: go.Figure, rows: pd.DataFrame, name: str, look: dict) -> None:
    error = {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 3,
        "array": rows["high"] - rows["accuracy"], "arrayminus": rows["accuracy"] - rows["low"],
    }  # fmt: skip
    columns = {
        "accuracy": (rows["accuracy"], ".1%"),
        "bytes": (rows["bytes"] / 1e6, ".3g"),
        "seconds": (rows["seconds"], ".2g"),
    }
    for place, (column, (values, form)) in enumerate(columns.items(), start=1):
        marker = {**look, "size": 9, "line": {"width": 1, "color": theme.TEXT}}
        hover = "%{y}: %{x:" + form + "}<extra></extra>"
        shown = values.where(values > 0)  # a logarithmic axis has no 0
        common = {"mode": "markers", "marker": marker, "name": name, "legendgroup": name, "showlegend": place == 1}
        bars = error if column == "accuracy" else None
        fig.add_trace(go.Scatter(x=shown, y=list(rows.index), error_x=bars, hovertemplate=hover, **common), 1, place)
