"""PCB-Merging's figures: scores of single weights, shares by layer, and a search's trials."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mergekit_nb.plots import theme
from mergekit_nb.plots.heat import add_heat


def score_grid(values: pd.DataFrame, title: str, form: str = ".2f", *, highest: float | None = None) -> go.Figure:
    """Scores of single weights as a grid of numbers, orange for positive, blue for negative if any is; NaN stays empty.

    Args:
        values: a row for each task, a column for each weight.
        title: what is shown, with its unit if it has one.
        form: Python format of the numbers.
        highest: the magnitude with the deepest colour; None takes the largest shown.
    """
    limit = highest if highest is not None else values.abs().max(axis=None)
    fig = theme.figure(title, height=120 + 30 * len(values))
    white = values.to_numpy() < -0.7 * limit  # black reads best on every orange
    signed = bool((values < 0).any(axis=None))
    scale = theme.SIGNED if signed else [[0.0, theme.SIGNED[1][1]], [1.0, theme.SIGNED[2][1]]]
    return add_heat(fig, values, form, white, colorscale=scale, zmin=-limit if signed else 0, zmax=limit)


def share_by_layer(shares: pd.DataFrame, title: str) -> go.Figure:
    """Shares of a layer's entries, in per cent; the colours end at the largest.

    Args:
        shares: a row for each layer, a column for each task, in [0, 1].
        title: what the shares are of.
    """
    values = shares.to_numpy(float)
    most = float(values.max())
    fig = theme.figure(title, height=140 + 34 * len(shares))
    bar = {"title": {"text": "share"}, "tickformat": ".0%"}
    return add_heat(fig, shares, ".0%", values < most / 2, colorscale=theme.SHARE, zmin=0, zmax=most, colorbar=bar)


def search_history(history: pd.DataFrame, numbers: list[str] | None = None) -> go.Figure:
    """The trials of a search, one panel for each number that was searched: its value against the score.

    Args:
        history: what `mk.search` returns as `Found.history`, or a grid of one's own: a column for each number, and score.
        numbers: the columns searched; None takes all but step, score and best.

    Darker trials came later where there is a column "step"; the best is circled.
    """
    numbers = numbers or [name for name in history if name not in ("step", "score", "best")]
    best = history.loc[history["score"].idxmax()]
    order = history["step"] if "step" in history else pd.Series(np.zeros(len(history)))
    fig = theme.figure("Score of every trial on validation images", height=360, showlegend=False)
    fig.set_subplots(1, len(numbers), shared_yaxes=True, horizontal_spacing=0.06)
    for column, name in enumerate(numbers, start=1):
        dots = {"color": order, "colorscale": "Blues", "cmin": -len(history), "size": 9, "line": {"width": 1}}
        hover = f"{name} %{{x:.3f}}: %{{y:.2%}}<extra></extra>"
        fig.add_scatter(
            x=history[name], y=history["score"], mode="markers", marker=dots, hovertemplate=hover, row=1, col=column
        )
        ring = {"symbol": "circle-open", "size": 18, "color": theme.COLOURS[3], "line": {"width": 3}}
        fig.add_scatter(
            x=[best[name]], y=[best["score"]], mode="markers", marker=ring, hoverinfo="skip", row=1, col=column
        )
        fig.update_xaxes(title={"text": name}, row=1, col=column)
    return fig.update_yaxes(tickformat=".0%").update_yaxes(title={"text": "mean accuracy"}, col=1)
