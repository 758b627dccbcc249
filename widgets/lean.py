"""A FigureWidget that does not bring plotly.js along each time: 5 MB travel once per notebook instead of once per figure."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import plotly
import plotly.graph_objects as go
import traitlets

from mergekit_nb.plots.theme import CONFIG

BUNDLE = Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"
LOADER = Path(__file__).parent / "static" / "lean.js"


class Hub(anywidget.AnyWidget):
    """Holds plotly's own widget code; never shown."""

    _esm = "export default {}"
    source = traitlets.Unicode().tag(sync=True)


_hub: list[Hub] = []


def hub() -> Hub:
    """The one hub of this kernel; a new one where its connection was closed."""
    if not _hub or _hub[0].comm is None:
        _hub[:] = [Hub(source=BUNDLE.read_text(encoding="utf-8"))]
    return _hub[0]


def cells(matrix: np.ndarray) -> list[list[float | None]]:
    """A matrix for a heat map, None where it is NaN: NaN is no JSON, and matrices travel as JSON."""
    return [[value if np.isfinite(value) else None for value in row] for row in matrix.tolist()]


class LeanFigure(go.FigureWidget):
    """plotly's FigureWidget with its code fetched from the hub; no logo, no upload button.

    plotly sends changes as messages that a page which is still loading does not hear. Until the page has drawn the
    figure, the whole of it is kept up to date as well.
    """

    _esm = LOADER.read_text(encoding="utf-8")
    _hub_ref = traitlets.Unicode().tag(sync=True)
    _drawn = traitlets.Bool(False).tag(sync=True)

    def __init__(self, figure: go.Figure):
        super().__init__(figure)
        self._config = {**self._config, **CONFIG, "displayModeBar": False}

    @traitlets.default("_hub_ref")  # a default: set later, it would miss the message that opens the widget
    def _default_hub_ref(self) -> str:
        return hub().model_id

    def _send_relayout_msg(self, *args: Any, **kwargs: Any) -> None:
        super()._send_relayout_msg(*args, **kwargs)
        self._keep_whole()

    def _send_restyle_msg(self, *args: Any, **kwargs: Any) -> None:
        super()._send_restyle_msg(*args, **kwargs)
        self._keep_whole()

    def _send_update_msg(self, *args: Any, **kwargs: Any) -> None:
        super()._send_update_msg(*args, **kwargs)
        self._keep_whole()

    def _keep_whole(self) -> None:
        if not self._drawn:
            self._widget_layout, self._widget_data = deepcopy(self._layout_obj._props), deepcopy(self._data)
