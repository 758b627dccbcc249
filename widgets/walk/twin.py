"""EmrWalk as a picture: the grid of single weights, the linked figures and the accuracy."""

import numpy as np
import pandas as pd
from PIL import ImageColor

from mergekit_nb.plots.theme import SHARE, SIGNED
from mergekit_nb.widgets.sheet import FAINT, INK, Box, Sheet, bars, heat, shades
from mergekit_nb.widgets.twin import accuracy_bars
from mergekit_nb.widgets.walk.columns import Columns
from mergekit_nb.widgets.walk.figure import MASKED, OWN, RESCALED
from mergekit_nb.widgets.walk.state import STEPS, WalkState

WIDTH, LEFT, CELL = 980, 110, 20


def picture(state: WalkState, table: pd.DataFrame | None) -> bytes:
    """The walk as it stands; `table` is what the accuracy panel knows, None or empty where nothing was measured."""
    study, tasks = state.study, state.study.tasks
    columns = study.columns(state.tensor, state.pick, state.k, state.seed, state.indices)
    measured = table is not None and not table.empty
    high = 76 + CELL * (len(tasks) + 2)
    maps = max(110, 20 * len(state.layers))
    sheet = Sheet(WIDTH, high + maps + 150 + (260 if measured else 0))
    sheet.text(16, 12, f"Elect, mask, rescale: step {state.step} {STEPS[state.step]}, {state.layer_name}", 15)
    sheet.text(16, 34, f"{len(columns.index)} single weights of {state.tensor} ({state.pick})", 12, FAINT)
    _grid(sheet, 58, columns, state)
    _maps(sheet, high + 36, maps, state)
    if measured:
        top = high + maps + 150
        sheet.text(16, top, f"Accuracy per task, 95 % intervals; merged up to {state.layer_name}", 13)
        accuracy_bars(sheet, (60, top + 44, WIDTH - 80, 170), table, tasks)
    return sheet.png()


def _grid(sheet: Sheet, top: float, columns: Columns, state: WalkState) -> None:
    """A row of cells for each task, one for the elected sign, one for the shared value."""
    cell = min(CELL, (WIDTH - LEFT - 90) / len(columns.index))
    for row, task in enumerate(state.study.tasks):
        y = top + row * CELL
        sheet.text(LEFT - 8, y + CELL / 2, task, 12, anchor="rm")
        for column in range(len(columns.index)):
            look = _cell(columns, state.step, row, column)
            _paint(sheet, (LEFT + column * cell, y, cell - 1, CELL - 1), columns.scale, *look)
        if state.step == 3:
            right = LEFT + len(columns.index) * cell + 8
            sheet.text(right, y + CELL / 2, f"x {columns.scalers[row]:.2f}", 12, anchor="lm")
    below = top + len(state.study.tasks) * CELL + 5
    for name, y, values in (
        ("elected sign", below, columns.elected * columns.scale * 0.35),
        ("shared value", below + CELL, columns.shared),
    ):
        sheet.text(LEFT - 8, y + CELL / 2, name, 12, anchor="rm")
        for column, value in enumerate(values):
            look = (float(value), _sign(value)) if state.step else (0.0, "?")
            _paint(sheet, (LEFT + column * cell, y, cell - 1, CELL - 1), columns.scale, *look)


def _cell(columns: Columns, step: int, row: int, column: int) -> tuple[float, str, bool, bool]:
    """What one cell shows: a value, a mark, whether it lost the vote, whether it won."""
    kept = bool(columns.kept[row, column])
    if step < 2:
        own = float(columns.tau[row, column])
        return own, _sign(own), step == 1 and not kept, step == 1 and columns.winner[column] == row
    value = float(columns.shared[column] if step == 2 else columns.rebuilt[row, column])
    if not kept:
        return 0.0, "0" if step == 2 else "·", False, False
    return value, "1" if step == 2 else _sign(value), False, False


def _sign(value: float) -> str:
    return "+" if value > 0 else "-" if value < 0 else "0"


def _paint(
    sheet: Sheet, box: Box, scale: float, value: float, mark: str, lost: bool = False, won: bool = False
) -> None:
    strength = min(1.0, abs(value) / (scale or 1)) ** 0.6 * (0.3 if lost else 1)
    full = np.array(ImageColor.getrgb(SIGNED[-1][1] if value > 0 else SIGNED[0][1]))
    fill = tuple(int(c) for c in 255 + (full - 255) * strength)
    sheet.box(box, fill=fill, line=INK if won else "#dddddd", width=2 if won else 0.5)
    ink = "#ffffff" if strength > 0.55 else FAINT if lost else INK
    sheet.text(box[0] + box[2] / 2, box[1] + box[3] / 2, mark, 12, ink, "mm")


def _maps(sheet: Sheet, top: float, height: float, state: WalkState) -> None:
    """Conflict and cosine by layer and task, magnitudes in the layer on show."""
    seen, tasks, layers = state.study.overview, state.study.tasks, state.layers
    for left, title, values, end, form in (
        (LEFT, "sign conflict, share of entries", seen.conflict, 0.5, ".0%"),
        (LEFT + 300, "cosine of task vector and rebuilt", seen.cosine, 1.0, ".2f"),
    ):
        sheet.text(left, top - 20, title, 12)
        names = layers if left == LEFT else [""] * len(layers)
        heat(sheet, (left, top, 270, height), values, (names, tasks), shades(values, 0, end, SHARE), form)
        row = height / len(layers)
        sheet.box((left - 1, top + state.layer * row - 1, 272, row + 1), line=MASKED, width=2)
    kinds = (("own", "expert", OWN), ("masked", "masked", MASKED), ("rescaled", "rescaled", RESCALED))
    blank = np.full((len(tasks), 2), np.nan)
    series = [
        (label, colour, np.column_stack([getattr(seen, kind)[state.layer], blank])) for kind, label, colour in kinds
    ]
    highest = max(values[:, 0].max() for _, _, values in series) or 1.0
    sheet.text(LEFT + 600, top - 20, "mean size in this layer", 12)
    bars(sheet, (LEFT + 640, top + 24, 220, height - 24), ["" for _ in tasks], series, highest, ".1e")
    for place, task in enumerate(tasks):
        sheet.upright(LEFT + 640 + (place + 0.5) * 220 / len(tasks), top + height + 4, task)
