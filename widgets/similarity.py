"""Similarity: how alike the task vectors are, in one layer or over the whole model."""

from collections.abc import Mapping

import ipywidgets
import numpy as np
import plotly.graph_objects as go

from mergekit_nb.plots.theme import SIGNED
from mergekit_nb.widgets.lean import LeanFigure, cells
from mergekit_nb.widgets.models import Model
from mergekit_nb.widgets.panel import SHORT, Panel, bar, html
from mergekit_nb.widgets.twin import similarity_picture
from mergekit_nb.widgets.walk.state import WalkState
from mergekit_nb.widgets.walk.study import state_of


class Similarity(Panel):
    """Cosine between every two task vectors, for the layer on show or the whole model.

    Args:
        base, experts: as in `EmrWalk`; without them, the embedded zoo.
        state: another panel's state: the two move together, and nothing is merged again.
    """

    def __init__(
        self,
        base: Model | None = None,
        experts: Mapping[str, Model] | None = None,
        *,
        state: WalkState | None = None,
    ):
        state = state_of(state, base, experts)
        super().__init__(state)
        self.overview = state.study.overview
        self.limit = _limit([self.overview.similarity(None), *map(self.overview.similarity, range(len(state.layers)))])
        self.figure = self.adopt(self._figure(), "mk-similarity")
        self.said = html("", "mk-say")
        scope = ipywidgets.ToggleButtons(options=[("one layer", "layer"), ("whole model", "model")])
        layer = ipywidgets.SelectionSlider(
            options=[(name, i) for i, name in enumerate(state.layers)],
            description="layer",
            style=SHORT,
            layout={"width": "360px"},
        )
        self.bind(scope, "scope")
        self.bind(layer, "layer")
        scope.add_class("mk-scope")
        layer.add_class("mk-layer")
        state.observe(self.guarded(self._draw), ["layer", "scope"])
        self._draw()
        self.children = [
            html("Similarity of the task vectors", "mk-title"),
            bar(scope, layer),
            self.said,
            self.problem,
            self.figure,
            self.page,
        ]

    def matrix(self) -> np.ndarray:
        """The cosines on show: task task, in [-1, 1]; NaN where a task vector is zero."""
        return self.overview.similarity(self.state.layer if self.state.scope == "layer" else None)

    def png(self) -> bytes:
        return similarity_picture(self.matrix(), self.overview.tasks, self._title(), self.limit)

    def _title(self) -> str:
        where = self.state.layer_name if self.state.scope == "layer" else "whole model"
        return f"Cosine between task vectors (expert − base), {where}"

    def _figure(self) -> LeanFigure:
        tasks = self.overview.tasks
        heat = go.Heatmap(
            x=tasks, y=tasks, zmin=-self.limit, zmax=self.limit, colorscale=SIGNED, xgap=1, ygap=1,
            texttemplate="%{z:.2f}" if len(tasks) <= 16 else None, hovertemplate="%{y} · %{x}: %{z:.4f}<extra></extra>",
            colorbar={"title": {"text": "cosine"}, "thickness": 12, "outlinewidth": 0},
        )  # fmt: skip
        height = 110 + max(220, 36 * len(tasks))
        figure = go.Figure(heat).update_layout(
            template="mk",
            height=height,
            width=height + 130,
            font={"size": 12},
            margin={"t": 40, "l": 8, "r": 8, "b": 60},
        )
        figure.update_xaxes(type="category", tickangle=-45, showgrid=False, fixedrange=True)
        figure.update_yaxes(type="category", autorange="reversed", showgrid=False, fixedrange=True)
        return LeanFigure(figure)

    def _draw(self, _: dict | None = None) -> None:
        cosines = self.matrix()
        with self.figure.batch_update():
            self.figure.data[0].z = cells(_without_diagonal(cosines))
            self.figure.layout.title = {"text": self._title(), "font": {"size": 14}}
        self.said.value = _summary(cosines)


def _summary(cosines: np.ndarray) -> str:
    pairs = cosines[np.triu_indices(len(cosines), 1)]
    pairs = pairs[np.isfinite(pairs)]
    if not pairs.size:
        return "No two task vectors here differ from zero, so there is no angle between any."
    return f"Between two tasks the cosine is {pairs.mean():.3f} on average, {pairs.min():.3f} to {pairs.max():.3f}."


def _without_diagonal(cosines: np.ndarray) -> np.ndarray:
    """A task vector's cosine with itself is 1 and would drown the rest."""
    return np.where(np.eye(len(cosines), dtype=bool), np.nan, cosines)


def _limit(all_cosines: list[np.ndarray]) -> float:
    """One colour scale for all layers, so that colours can be compared while sliding: the largest |cosine|, rounded up."""
    largest = max(float(np.nan_to_num(np.abs(_without_diagonal(cosines))).max()) for cosines in all_cosines)
    return min(1.0, np.ceil(largest * 20) / 20 or 1.0)
