"""Scores along the way from one model to another."""

import pandas as pd
import plotly.graph_objects as go

from mergekit_nb.plots import theme


def score_along_path(table: pd.DataFrame, *, score: str = "accuracy") -> go.Figure:
    """One line per task over the way x from the first model (0) to the second (1).

    Args:
        table: columns x, task and the score: `pd.concat(mk.evaluate(m, tasks).assign(x=x) for x, m in path.items())`.
        score: the column that is drawn.
    """
    fig = go.Figure()
    for place, (task, part) in enumerate(table.groupby("task", sort=False)):
        part = part.sort_values("x")
        colour = theme.COLOURS[place % len(theme.COLOURS)]
        line = {"color": colour, "dash": ("solid", "dash", "dot")[place // len(theme.COLOURS) % 3]}
        fig.add_trace(go.Scatter(x=part["x"], y=part[score], name=task, mode="lines+markers", line=line))
    fig.update_xaxes(title_text="share of the second model").update_yaxes(title_text=score)
    return fig.update_layout(template="mk", title={"text": f"{score.capitalize()} from one model to the other"})
