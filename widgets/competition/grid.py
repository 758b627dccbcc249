"""The grid of single weights: what the page draws, as bytes."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import traitlets

from mergekit_nb.plots.theme import SIGNED
from mergekit_nb.widgets.competition.columns import Columns
from mergekit_nb.widgets.walk.grid import Grid, esm

SMALL = ("kept", "winner", "survivors")
AGAINST, ALONG, COUNT = "#cc79a7", "#009e73", "#8c8c8c"  # scores below and above 0, and counts


class CompetitionGrid(Grid):
    """T tasks by K single weights in the competition."""

    _esm = esm(Path(__file__).parent / "view.js")
    step = traitlets.Int(0, help="0 task vectors, 1 intra, 2 inter, 3 drop, 4 rescale & fuse").tag(sync=True)


def pack(columns: Columns, tasks: tuple[str, ...], tensor: str, legend: tuple[str, ...]) -> dict:
    """Columns for the page: matrices row-major "task weight", float32 or int8 as bytes.

    Args:
        legend: one line for each step, shown under the grid.
    """
    arrays = {field.name: getattr(columns, field.name) for field in fields(columns)}
    plain = {name: arrays.pop(name) for name in ("index", "place", "scale", "here", "cut")}
    return {
        "tasks": list(tasks),
        "tensor": tensor,
        "legend": list(legend),
        "negative": SIGNED[0][1],
        "positive": SIGNED[-1][1],
        "against": AGAINST,
        "along": ALONG,
        "count": COUNT,
        **{name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in plain.items()},
        **{name: _bytes(array, np.int8 if name in SMALL else np.float32) for name, array in arrays.items()},
    }


def _bytes(array: np.ndarray, dtype: type) -> bytes:
    return np.ascontiguousarray(array, dtype).tobytes()
