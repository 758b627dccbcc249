"""Pictures of the panels, for previews that run no widgets."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from mergekit_nb.evaluation.interval import mean_interval
from mergekit_nb.plots.theme import SIGNED
from mergekit_nb.widgets.accuracy_figure import Look
from mergekit_nb.widgets.sheet import FAINT, Box, Sheet, bars, heat, shades
from mergekit_nb.widgets.variants import LOOKS


def accuracy_bars(
    sheet: Sheet, box: Box, table: pd.DataFrame, tasks: Sequence[str], looks: Iterable[Look] = tuple(LOOKS.values())
) -> None:
    """The accuracy panel's figure."""
    series = []
    for look in looks:
        rows = table[table["variant"] == look.label].set_index("task").reindex(tasks)
        if rows["accuracy"].notna().any():
            values = rows[["accuracy", "low", "high"]].to_numpy(float)
            mean = (values[:, 0].mean(), *mean_interval(*values.T))  # NaN while a task is missing
            series.append((look.label, look.colour, np.vstack([values, mean])))
    bars(sheet, box, [*tasks, "mean"], series, 1.0, ".0%")


def accuracy_picture(
    table: pd.DataFrame, tasks: Sequence[str], title: str, looks: Iterable[Look] = tuple(LOOKS.values())
) -> bytes:
    """The Accuracy panel as a picture."""
    sheet = Sheet(900, 290)
    sheet.text(16, 12, title, 14)
    accuracy_bars(sheet, (56, 62, 830, 190), table, tasks, looks)
    if table.empty:
        sheet.text(470, 150, "not measured yet", 13, FAINT, "mm")
    return sheet.png()


def similarity_picture(cosines: np.ndarray, tasks: Sequence[str], title: str, limit: float) -> bytes:
    """The Similarity panel as a picture."""
    shown = np.where(np.eye(len(cosines), dtype=bool), np.nan, cosines)
    side = max(240, 40 * len(tasks))
    sheet = Sheet(side + 140, side + 130)
    sheet.text(16, 12, title, 14)
    heat(sheet, (110, 40, side, side), shown, (tasks, tasks), shades(shown, -limit, limit, SIGNED), ".2f")
    return sheet.png()
