"""Distance between an expert's task vector and its share of a merge, as the share is scaled."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mergekit_nb.plots import theme


def distance_by_scale(table: pd.DataFrame, rescalers: Mapping[str, float]) -> go.Figure:
    """One parabola for each task, relative to the base (scale 0), and a mark at the rescaler the merge uses.

    Args:
        table: what `distances` returns, for many scales, 0 among them.
        rescalers: task -> λ.
    """
    fig = theme.figure("Squared distance to the expert's task vector, by scale", height=420)
    for place, (task, part) in enumerate(table.groupby("task", sort=False)):
        colour = theme.COLOURS[place % len(theme.COLOURS)]
        curve = part.set_index("scale")["distance"].sort_index()
        curve = curve / curve.loc[0.0]
        fig.add_scatter(x=curve.index, y=curve, name=task, legendgroup=task, line={"color": colour, "width": 2})
        mark = rescalers[task]
        look = {"color": colour, "symbol": theme.SYMBOLS[place % len(theme.SYMBOLS)], "size": 11}
        own = {"legendgroup": task, "showlegend": False, "name": f"{task}, λ"}
        fig.add_scatter(x=[mark], y=[np.interp(mark, curve.index, curve)], mode="markers", marker=look, **own)
    fig.add_vline(
        x=1, line={"dash": "dot", "color": theme.TEXT}, annotation={"text": "mask only", "yref": "paper", "y": 1}
    )
    fig.update_traces(hovertemplate="scale %{x:.2f}: %{y:.3f}")
    fig.update_xaxes(title={"text": "scale s of M ⊙ τ<sub>uni</sub>; the mark is the rescaler λ"})
    return fig.update_yaxes(rangemode="tozero", title={"text": "distance, share of the base's"})
