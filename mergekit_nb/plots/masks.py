"""What the masks of a merge keep, and the rescaler of each task."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mergekit_nb.plots import theme
from mergekit_nb.plots.heat import add_heat


def mask_density(table: pd.DataFrame) -> go.Figure:
    """Share of entries each task keeps, layer by layer.

    Args:
        table: what `densities` returns.
    """
    kept = table.assign(kept=table["density"] * table["n"]).groupby(["layer", "task"], sort=False)[["kept", "n"]].sum()
    grid = (kept["kept"] / kept["n"]).unstack().reindex(index=table["layer"].unique(), columns=table["task"].unique())
    fig = theme.figure("Mask density: share of entries kept", height=140 + 34 * len(grid))
    bar = {"title": {"text": "kept"}, "tickformat": ".0%"}
    white = grid.to_numpy() < 0.5
    return add_heat(fig, grid, ".0%", white, colorscale=theme.SHARE, zmin=0, zmax=1, colorbar=bar)


def density_and_rescaler(table: pd.DataFrame) -> go.Figure:
    """A bar for each task: share of all entries kept, and beside it the factor that makes up for the rest.

    Args:
        table: what `densities` returns.
    """
    parts = dict(iter(table.groupby("task", sort=False)))
    density = [np.average(part["density"], weights=part["n"]) for part in parts.values()]
    rescaler = [part["rescaler"].iloc[0] for part in parts.values()]
    fig = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.08)
    fig.add_trace(_bars(list(parts), density, ".1%"), row=1, col=1)
    fig.add_trace(_bars(list(parts), rescaler, ".3f"), row=1, col=2)
    fig.update_xaxes(title_text="mask density", range=[0, 1], tickformat=".0%", col=1)
    fig.update_xaxes(title_text="rescaler λ (1 leaves lengths alone)", range=[0, 1.05 * max(1, *rescaler)], col=2)
    fig.add_vline(x=1, line={"dash": "dot", "color": theme.TEXT}, row=1, col=2)
    fig.update_yaxes(autorange="reversed", showgrid=False, type="category")
    fig.update_layout(template="mk", title={"text": "Mask density and rescaler of each task"}, showlegend=False)
    return fig.update_layout(height=140 + 30 * len(parts))


def _bars(tasks: list[str], values: list[float], form: str) -> go.Bar:
    colours = [theme.COLOURS[place % len(theme.COLOURS)] for place in range(len(tasks))]
    return go.Bar(
        x=values, y=tasks, orientation="h", marker={"color": colours, "line": {"color": theme.TEXT, "width": 1}},
        texttemplate="%{x:" + form + "}", insidetextanchor="start", insidetextfont={"color": "black"},
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )  # fmt: skip
