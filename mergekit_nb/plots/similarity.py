"""Heat maps of `mergekit_nb.similarity`: how alike models are, and where they pull against each other."""

import pandas as pd
import plotly.graph_objects as go

from mergekit_nb.plots import theme
from mergekit_nb.plots.heat import add_heat


def cosine_matrix(table: pd.DataFrame, *, limit: float = 1.0) -> go.Figure:
    """Cosine of every pair of models, blue for opposed, orange for alike; the diagonal, 1 by definition, is left out.

    Args:
        table: what `similarity` returns, for one scope.
        limit: the cosine with the deepest colour, in (0, 1]; fixed, so that figures can be compared.

    Raises:
        ValueError: the table has several scopes; they would lie on top of each other.
    """
    scope, of = _only(table, "scope"), _only(table, "of")
    grid = _square(table) if _every_pair_once(table) else table.pivot(index="a", columns="b", values="cosine")
    grid = grid.reindex(index=_seen(table, grid.index), columns=_seen(table, grid.columns))
    where = "whole model" if scope == "model" else scope
    fig = theme.figure(f"Cosine similarity of {of}, {where}", height=120 + 42 * len(grid))
    white = grid.to_numpy() < -0.7 * limit  # black reads best on every orange
    bar = {"title": {"text": "cosine"}}
    return add_heat(fig, grid, ".2f", white, colorscale=theme.SIGNED, zmin=-limit, zmax=limit, colorbar=bar)


def sign_conflict(table: pd.DataFrame, *, highest: float = 0.5) -> go.Figure:
    """Share of entries on which the two sides have opposite signs, for every scope and pair (or task).

    Args:
        table: what `similarity` returns, as a rule with `by="layer"`.
        highest: the share with the brightest colour; 0.5, the default, is what unrelated vectors reach.
    """
    of = _only(table, "of")
    alone = table["a"].nunique() == 1
    column = table["b"] if alone else table["a"] + " · " + table["b"]
    grid = table.assign(pair=column).pivot(index="scope", columns="pair", values="sign_conflict")
    grid = grid.reindex(index=table["scope"].unique(), columns=column.unique())
    against = f": {table['a'].iloc[0]} against each" if alone else ""
    fig = theme.figure(f"Sign conflict of {of}{against}", height=140 + 34 * len(grid))
    bar = {"title": {"text": "share"}, "tickformat": ".0%"}
    white = grid.to_numpy() < highest / 2
    return add_heat(fig, grid, ".0%", white, colorscale=theme.SHARE, zmin=0, zmax=highest, colorbar=bar)


def _only(table: pd.DataFrame, column: str) -> str:
    values = table[column].unique()
    if len(values) != 1:
        raise ValueError(f"one {column} a figure; this table has {len(values)}: {', '.join(map(str, values))}")
    return values[0]


def _every_pair_once(table: pd.DataFrame) -> bool:
    models = len(set(table["a"]) | set(table["b"]))
    return len(table) == models * (models - 1) // 2


def _square(table: pd.DataFrame) -> pd.DataFrame:
    """Both halves of a symmetric matrix of which the table has one."""
    other_half = table.rename(columns={"a": "b", "b": "a"})
    return pd.concat([table, other_half]).pivot(index="a", columns="b", values="cosine")


def _seen(table: pd.DataFrame, names: pd.Index) -> list[str]:
    """Names in the order in which the table brings them; pivot would sort them."""
    order = pd.unique(pd.concat([table["a"], table["b"]]))
    return [name for name in order if name in names]
