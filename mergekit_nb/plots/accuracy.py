"""Accuracy of merged models: task by task with intervals, and against the bytes they cost."""

import math
from collections.abc import Iterable

import pandas as pd
import plotly.graph_objects as go

from mergekit_nb.evaluation.interval import mean_interval
from mergekit_nb.plots import theme

_USUAL = ("average", "task_arithmetic", "ties", "emr", "dare")  # these look the same in every figure
_REFERENCES = {
    "base": (theme.TEXT, "triangle-down"), "individual": (theme.TEXT, "triangle-up"),
    "ensemble": (theme.TEXT, "triangle-up-open"),
}  # fmt: skip


def accuracy_by_task(table: pd.DataFrame) -> go.Figure:
    """Accuracy of every method on every task with 95 % intervals, and the mean over tasks at the right.

    Args:
        table: what `compare` returns, or what `evaluate` returns (then there is one method).

    The axis ends at 100 % and begins at the ten per cent below the lowest interval: these are dots, not lengths.
    """
    if "method" not in table:
        table = table.assign(method="accuracy")
    table = pd.concat([table, means(table).assign(task="mean")])
    fig = theme.figure("Accuracy by task, 95 % intervals", height=440, scattermode="group", scattergap=0.35)
    looks = _looks(table["method"].unique())
    for method, part in table.groupby("method", sort=False):
        fig.add_scatter(x=part["task"], y=part["accuracy"], name=str(method), **looks[method], error_y=_bars(part))
    fig.add_vline(x=table["task"].nunique() - 1.5, line={"dash": "dot", "color": theme.TEXT, "width": 1})
    fig.update_traces(hovertemplate="%{x}: %{y:.1%}", cliponaxis=False)
    lowest = math.floor(10 * table["low"].min()) / 10
    fig.update_xaxes(type="category", showgrid=False)
    return fig.update_yaxes(range=[lowest, 1], tickformat=".0%", title={"text": "accuracy"})


def bytes_against_accuracy(table: pd.DataFrame) -> go.Figure:
    """Mean accuracy of every method against what it takes on disk to serve all tasks.

    Args:
        table: what `compare` returns: method, task, accuracy, n, bytes.
    """
    mean = means(table).merge(table.groupby("method", sort=False)["bytes"].first().reset_index(), on="method")
    fig = theme.figure("Mean accuracy against size on disk, all tasks, 95 % intervals", height=420)
    looks = _looks(mean["method"])
    for method, part in mean.groupby("method", sort=False):
        fig.add_scatter(x=part["bytes"] / 1e6, y=part["accuracy"], name=method, **looks[method], error_y=_bars(part))
    fig.update_traces(hovertemplate="%{x:.2f} MB, %{y:.1%}")
    fig.update_xaxes(range=[0, mean["bytes"].max() / 1e6 * 1.05], title={"text": "MB for all tasks"})
    return fig.update_yaxes(tickformat=".0%", title={"text": "mean accuracy"})


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over tasks by method, every task with the same weight.

    Returns:
        Columns method, accuracy, low, high: 95 % for the sampling of test images, see `evaluation.interval`.
    """
    rows = []
    for method, part in table.groupby("method", sort=False):
        low, high = mean_interval(part["accuracy"], part["low"], part["high"])
        rows.append((method, part["accuracy"].mean(), low, high))
    return pd.DataFrame(rows, columns=["method", "accuracy", "low", "high"])


def _looks(methods: Iterable[str]) -> dict[str, dict]:
    """Colour and shape both change from method to method; the references, which merge nothing, are grey."""
    merges = [*_USUAL, *(method for method in methods if method not in (*_USUAL, *_REFERENCES))]
    looks = {method: (theme.COLOURS[i % 8], theme.SYMBOLS[i % 8]) for i, method in enumerate(merges)} | _REFERENCES
    line = {"width": 1, "color": theme.TEXT}
    return {
        method: {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": 9, "line": line}}
        for method, (colour, symbol) in looks.items()
    }


def _bars(part: pd.DataFrame) -> dict:
    above, below = part["high"] - part["accuracy"], part["accuracy"] - part["low"]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 3}
