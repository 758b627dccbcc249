"""A handful of single weights, task by task: small enough to follow each of them through a method."""

import pandas as pd
import plotly.graph_objects as go

from mergekit_nb.plots import theme
from mergekit_nb.plots.heat import add_heat


def weight_grid(values: pd.DataFrame, title: str, *, highest: float | None = None) -> go.Figure:
    """Single weights as a grid of numbers in thousandths, blue for negative, orange for positive; NaN stays empty.

    Args:
        values: a row for each task (or step), a column for each weight, in weight units.
        title: what is shown.
        highest: the magnitude with the deepest colour, in weight units; pass the same to all figures of a series. None
            takes the largest shown.
    """
    thousandths = values * 1000
    limit = 1000 * highest if highest is not None else thousandths.abs().max(axis=None)
    fig = theme.figure(f"{title}, in thousandths", height=120 + 30 * len(values))
    white = thousandths.to_numpy() < -0.7 * limit  # black reads best on every orange
    return add_heat(fig, thousandths, "+.1f", white, colorscale=theme.SIGNED, zmin=-limit, zmax=limit)
