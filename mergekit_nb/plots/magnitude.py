"""Magnitude alignment: how long each expert's task vector is, and what the mask and the rescaler make of it."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mergekit_nb.plots import theme

# a bar to measure by, marks to compare with it: told apart by shape and fill, not by colour alone
_MARKS = {
    "masked": {"symbol": "diamond-open", "size": 10, "line": {"width": 2}, "color": theme.COLOURS[3]},
    "rescaled": {"symbol": "circle", "size": 9, "color": theme.COLOURS[0]},
    "merged": {"symbol": "square", "size": 9, "color": theme.COLOURS[0]},
}
_LABELS = {
    "expert": "expert, |τ|",
    "masked": "after mask, |M ⊙ τ<sub>uni</sub>|",
    "rescaled": "after rescale, |λ M ⊙ τ<sub>uni</sub>|",
    "merged": "merged",
}


def magnitude_alignment(table: pd.DataFrame, *, columns: int = 4) -> go.Figure:
    """Mean |·| of task vectors by layer, a panel for each task: bars for the expert, marks for the merge.

    Args:
        table: what `magnitudes` returns.
        columns: panels in a row.
    """
    tasks = list(table["task"].unique())
    columns = min(columns, len(tasks))
    rows = -(-len(tasks) // columns)
    fig = make_subplots(
        rows, columns, shared_xaxes=True, shared_yaxes="all", subplot_titles=tasks,
        horizontal_spacing=0.02, vertical_spacing=0.22 / rows,
    )  # fmt: skip
    for place, task in enumerate(tasks):
        for kind, part in table[table["task"] == task].groupby("kind", sort=False):
            fig.add_trace(_trace(kind, part, first=place == 0), row=place // columns + 1, col=place % columns + 1)
    fig.update_yaxes(rangemode="tozero", exponentformat="power").update_xaxes(type="category", tickangle=-45)
    fig.update_yaxes(title_text="mean |·|, weight units", col=1)
    fig.update_annotations(font_size=13)
    title = {"text": "Magnitude of task vectors, by layer and task"}
    legend = {"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 1, "xanchor": "right"}
    return fig.update_layout(template="mk", title=title, height=200 + 170 * rows, legend=legend, margin={"t": 80})


def _trace(kind: str, part: pd.DataFrame, *, first: bool) -> go.Bar | go.Scatter:
    label = _LABELS[kind]
    common = {"x": part["layer"], "y": part["mean_abs"], "name": label, "legendgroup": kind, "showlegend": first}
    common["hovertemplate"] = "%{x}: %{y:.2e}"
    if kind == "expert":
        return go.Bar(**common, marker={"color": theme.TEXT, "opacity": 0.55})
    return go.Scatter(**common, mode="markers", marker=_MARKS[kind])
