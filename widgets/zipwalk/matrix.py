"""The correlation of all networks' features in one layer, with a mark on every pair that becomes one."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from mergekit_nb.analysis import matched
from mergekit_nb.maths.matching import Zip
from mergekit_nb.plots import matched_features
from mergekit_nb.widgets.lean import LeanFigure

SIDE = 520  # of the figure, in pixels
CHOSEN, FRAME = "group on show", "#000000"  # on cells, which are never dark


def strength(correlation: Tensor, group: Sequence[int]) -> float | None:
    """Mean correlation of every two features of a group, in [-1, 1]; None where it has one only."""
    if len(group) < 2:
        return None
    inner, count = correlation[list(group)][:, list(group)], len(group)
    return float((inner.sum() - inner.trace()) / (count * (count - 1)))


def ranked(correlation: Tensor, found: Zip) -> list[int]:
    """Numbers of the groups: those of several features first, the most alike ahead."""
    by = {k: strength(correlation, group) for k, group in enumerate(found.groups)}
    return sorted(by, key=lambda k: (by[k] is None, -(by[k] or 0.0), k))


def arranged(correlation: Tensor, found: Zip, order: str) -> list[int]:
    """Features in the order shown: as they are, or group by group, the groups as `ranked`; lost ones last."""
    if order == "as they are":
        return list(range(len(correlation)))
    return [feature for k in ranked(correlation, found) for feature in found.groups[k]] + list(found.lost)


def matrix(correlation: Tensor, found: Zip, names: Sequence[str], order: str, chosen: int | None) -> go.Figure:
    """The figure.

    Args:
        names: of all features, network by network.
        order: one of `state.ORDERS`.
        chosen: number of the group whose cells are framed.
    """
    places = arranged(correlation, found, order)
    shown = [names[feature] for feature in places]
    figure = matched_features(pd.DataFrame(correlation.numpy(), names, names), matched(found), "")
    figure.data[0].update(x=shown, y=shown, z=correlation[places][:, places].float().numpy())
    group = [] if chosen is None else found.groups[chosen]
    members = [names[feature] for feature in group] if order == "as they are" else []
    look = {"symbol": "square-open", "size": figure.data[-1].marker.size + 4, "color": FRAME, "line": {"width": 2}}
    figure.add_scatter(
        x=[b for _ in members for b in members], y=[a for a in members for _ in members], name=CHOSEN, mode="markers",
        marker=look, hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    here = sorted(places.index(feature) for feature in group) if order != "as they are" else []
    return _dress(figure, shown, here)


def draw(figure: LeanFigure, fresh: go.Figure) -> None:
    """Bring the figure on the page to what another one shows."""
    with figure.batch_update():
        figure.data[0].update(x=fresh.data[0].x, y=fresh.data[0].y, z=fresh.data[0].z)
        for old, new in zip(figure.data[1:], fresh.data[1:], strict=True):
            old.update(x=new.x, y=new.y, name=new.name, marker_size=new.marker.size)
        for old, new in zip(figure.layout.shapes, fresh.layout.shapes, strict=True):
            old.update({key: new[key] for key in ("x0", "x1", "y0", "y1", "visible")})
        for axis in ("xaxis", "yaxis"):
            figure.layout[axis].update(
                {key: fresh.layout[axis][key] for key in ("range", "tickvals", "ticktext", "title", "categoryarray")}
            )


def _dress(figure: go.Figure, shown: list[str], here: list[int]) -> go.Figure:
    """Sizes, words and lines; `here` is where a group stands together, empty where features are as they are."""
    figure.update_layout(
        title=None, width=SIDE + 60, height=SIDE, margin={"t": 40, "l": 8, "r": 8, "b": 40}, uirevision="matrix",
        font={"size": 12}, legend={"font": {"size": 11}},
    )  # fmt: skip
    figure.data[0].colorbar.update(thickness=12, outlinewidth=0, title={"text": "correlation", "side": "right"})
    figure.data[0].hovertemplate = "%{y}, %{x}: %{z:.2f}<br>click to see the group<extra></extra>"
    axes = {"categoryorder": "array", "categoryarray": shown, "fixedrange": True, "ticks": ""}
    figure.update_xaxes(**axes, title={"text": " ", "font": {"size": 12}}).update_yaxes(**axes, tickangle=-90)
    figure.update_shapes(visible=not here)
    first, last = (here[0] - 0.5, here[-1] + 0.5) if here else (0, 0)
    frame = {"x0": first, "x1": last, "y0": first, "y1": last, "line": {"color": FRAME, "width": 3}}
    figure.add_shape(type="rect", visible=bool(here), **frame)
    if here:
        figure.update_yaxes(tickvals=[], ticktext=[])
        figure.update_xaxes(tickvals=[], ticktext=[], title_text="features of all networks, group by group")
    return figure
