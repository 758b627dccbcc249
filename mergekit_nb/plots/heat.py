"""A heat map with its numbers in the cells, legible on every colour."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go


def add_heat(
    fig: go.Figure, grid: pd.DataFrame, form: str, white: np.ndarray, said: pd.DataFrame | None = None, **scale: object
) -> go.Figure:
    """Draw the grid, first row on top, and write each number over its cell.

    Args:
        fig: a figure without axes of its own.
        grid: rows and columns as they shall appear; NaN leaves a cell empty.
        form: Python format of the numbers, such as ".0%".
        white: bool "row column", the cells dark enough for white ink. Plotly's own choice is grey on grey in mid-scale.
        said: numbers to write where they are not those the colours show.
        scale: colour scale, its two fixed ends and the colour bar, as `go.Heatmap` takes them.
    """
    rows, columns = [str(name) for name in grid.index], [str(name) for name in grid.columns]
    values, numbers = (part.to_numpy(dtype=float) for part in (grid, grid if said is None else said))
    hover = "%{y}, %{x}: %{z:.4f}<extra></extra>"
    fig.add_heatmap(z=values, x=columns, y=rows, xgap=2, ygap=2, hovertemplate=hover, hoverongaps=False, **scale)
    for ink, cells in (("white", white), ("black", ~white)):
        where = [(row, column) for row, column in np.argwhere(cells & ~np.isnan(numbers))]
        fig.add_scatter(
            x=[columns[column] for _, column in where], y=[rows[row] for row, _ in where],
            text=[format(numbers[cell], form) for cell in where],
            mode="text", textfont={"color": ink, "size": 12}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    fig.update_xaxes(type="category", showgrid=False, zeroline=False, range=[-0.5, len(columns) - 0.5])
    return fig.update_yaxes(type="category", showgrid=False, zeroline=False, range=[len(rows) - 0.5, -0.5])
