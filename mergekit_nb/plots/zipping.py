"""Networks zipped: which features were paired, and what accuracy costs as the boundary moves."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mergekit_nb.plots import theme

KINDS = {
    "across models": ("#009E73", "square-open"),
    "within a model": ("#0072B2", "circle-open"),
}  # seen on orange, where what is merged lies
_REFERENCES = {"ensemble": "triangle-up", "alone": "triangle-down"}


def matched_features(
    correlation: pd.DataFrame, pairs: pd.DataFrame, title: str = "Correlation of features"
) -> go.Figure:
    """The correlation of all features of all models with each other, and a mark on every pair that was merged.

    Args:
        correlation: square, in [-1, 1]; index and columns name the features, model by model.
        pairs: columns a and b, two features by their place in `correlation`; kind, one of `KINDS`.
        title: what is shown.
    """
    names = [str(name) for name in correlation.index]
    fig = theme.figure(title, height=660, width=700, margin={"t": 90})
    fig.add_heatmap(
        z=correlation.to_numpy(np.float32), x=names, y=names, colorscale=theme.SIGNED, zmin=-1, zmax=1,
        colorbar={"title": {"text": "correlation"}}, hovertemplate="%{y}, %{x}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    size = max(5, 380 / len(names))  # of a mark, in pixels: about a cell
    for kind, (colour, symbol) in KINDS.items():
        of = pairs[pairs["kind"] == kind]
        rows, columns = [*of["a"], *of["b"]], [*of["b"], *of["a"]]
        fig.add_scatter(
            x=[names[k] for k in columns], y=[names[k] for k in rows], mode="markers", name=f"{kind} ({len(of)})",
            marker={"symbol": symbol, "size": size, "color": colour, "line": {"width": 2.5}}, hoverinfo="skip",
        )  # fmt: skip
    models, ticks = _models(names)
    for edge in np.flatnonzero(models[1:] != models[:-1]) + 0.5:
        fig.add_vline(x=edge, line={"color": theme.TEXT, "width": 1})
        fig.add_hline(y=edge, line={"color": theme.TEXT, "width": 1})
    fig.update_layout(legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0})
    last = len(names) - 0.5
    plain = {"type": "category", "showgrid": False, "zeroline": False, **ticks}
    fig.update_xaxes(range=[-0.5, last], constrain="domain", **plain)
    return fig.update_yaxes(range=[last, -0.5], scaleanchor="x", **plain)


def accuracy_against_flops(table: pd.DataFrame) -> go.Figure:
    """Accuracy against the cost of a forward pass; a line per method, through its boundaries.

    Args:
        table: columns method, boundary (what is zipped up to there), flops, accuracy, low, high; the methods "ensemble"
            and "alone" are references and drawn grey.
    """
    fig = theme.figure("Accuracy against the cost of a picture, 95 % intervals", height=440)
    merges = [method for method in table["method"].unique() if method not in _REFERENCES]
    for method, part in table.groupby("method", sort=False):
        part = part.sort_values("flops")
        fig.add_scatter(
            x=part["flops"] / 1e6, y=part["accuracy"], name=str(method), text=part["boundary"], **_look(method, merges),
            error_y=_bars(part), hovertemplate="%{text}: %{y:.1%} at %{x:.1f} MFLOP",
        )  # fmt: skip
    fig.update_xaxes(title={"text": "million operations per picture"}, rangemode="tozero")
    return fig.update_yaxes(title={"text": "accuracy"}, tickformat=".0%")


def _look(method: str, merges: list[str]) -> dict:
    if method in _REFERENCES:
        return {"mode": "markers", "marker": {"color": theme.TEXT, "symbol": _REFERENCES[method], "size": 10}}
    place = merges.index(method)
    colour, symbol = theme.COLOURS[place % 8], theme.SYMBOLS[place % 8]
    return {
        "mode": "lines+markers",
        "line": {"color": colour},
        "marker": {"color": colour, "symbol": symbol, "size": 9},
    }


def _bars(part: pd.DataFrame) -> dict:
    above, below = part["high"] - part["accuracy"], part["accuracy"] - part["low"]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 3}


def _models(names: list[str]) -> tuple[np.ndarray, dict]:
    """The model of each feature, and a tick in the middle of each model's; a name is the model's and a number."""
    models = np.array([name.rsplit(" ", 1)[0] for name in names])
    middles = {model: float(np.flatnonzero(models == model).mean()) for model in dict.fromkeys(models.tolist())}
    return models, {"tickvals": list(middles.values()), "ticktext": list(middles)}
