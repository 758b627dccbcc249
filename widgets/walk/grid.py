"""The grid of single weights: what the page draws, as bytes."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from mergekit_nb.plots.theme import SIGNED
from mergekit_nb.widgets.page import STATIC
from mergekit_nb.widgets.walk.columns import Columns

HERE = Path(__file__).parent


def esm(look: Path) -> str:
    """The page's code for a grid: how it is drawn, then what its cells mean."""
    return (STATIC / "grid.js").read_text(encoding="utf-8") + look.read_text(encoding="utf-8")


class Grid(anywidget.AnyWidget):
    """T tasks by K single weights, drawn by view.js; it draws and reports, all numbers come from here."""

    _esm, _css = esm(HERE / "view.js"), STATIC / "grid.css"
    columns = traitlets.Dict(help="see `pack`").tag(sync=True)
    step = traitlets.Int(0, help="0 task vectors, 1 elect, 2 mask, 3 rescale").tag(sync=True)
    selected = traitlets.List(help="[task, flat position] of the chosen weight, or empty").tag(sync=True)


def pack(columns: Columns, tasks: tuple[str, ...], tensor: str, legend: tuple[str, ...]) -> dict:
    """Columns for the page: matrices row-major "task weight", float32 or int8 as bytes.

    Args:
        legend: one line for each step, shown under the grid.
    """
    floats = {name: getattr(columns, name) for name in ("tau", "rebuilt", "shared", "total")}
    small = {name: getattr(columns, name) for name in ("elected", "kept", "winner")}
    return {
        "tasks": list(tasks),
        "tensor": tensor,
        "index": columns.index.tolist(),
        "place": list(columns.place),
        "scalers": columns.scalers.tolist(),
        "scale": columns.scale,
        "legend": list(legend),
        "negative": SIGNED[0][1],
        "positive": SIGNED[-1][1],
        **{name: np.ascontiguousarray(array, np.float32).tobytes() for name, array in floats.items()},
        **{name: np.ascontiguousarray(array, np.int8).tobytes() for name, array in small.items()},
    }
