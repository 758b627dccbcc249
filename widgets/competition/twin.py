"""Competition as a picture: the grid of single weights, the linked figures, the accuracy and the search."""

import numpy as np
import pandas as pd
from PIL import ImageColor

from mergekit_nb.plots.theme import SHARE, SIGNED
from mergekit_nb.widgets.competition.columns import Columns
from mergekit_nb.widgets.competition.contest import Contest
from mergekit_nb.widgets.competition.figure import DROPPED, GREYS, KEPT, MARK, NOBODY, SMALLEST
from mergekit_nb.widgets.competition.grid import AGAINST, ALONG, COUNT
from mergekit_nb.widgets.competition.measure import EDGES
from mergekit_nb.widgets.competition.stages import LOOKS
from mergekit_nb.widgets.competition.state import STEPS, CompetitionState
from mergekit_nb.widgets.sheet import FAINT, INK, Box, Sheet, heat, shades
from mergekit_nb.widgets.twin import accuracy_bars

WIDTH, LEFT, CELL = 980, 110, 20


def picture(
    state: CompetitionState, contest: Contest, columns: Columns, table: pd.DataFrame, history: pd.DataFrame
) -> bytes:
    """The panel as it stands; `table` is what the accuracy panel knows, `history` the last search; both may be empty."""
    high = 76 + CELL * (len(columns.tau) + 2)
    maps = max(110, 20 * len(state.layers))
    below = high + maps + 150
    after = below + (0 if table.empty else 260)
    sheet = Sheet(WIDTH, after + (0 if history.empty else 220))
    about = f"variant {state.variant}, ratio {state.ratio:.3g}, λ = {state.scale:g}"
    sheet.text(16, 12, f"Parameter competition: step {state.step} {STEPS[state.step]}, {state.layer_name}; {about}", 15)
    sheet.text(16, 34, f"{len(columns.index)} single weights of {state.tensor} ({state.pick})", 12, FAINT)
    _grid(sheet, 58, columns, state)
    _maps(sheet, high + 36, maps, state, contest)
    if not table.empty:
        sheet.text(16, below, f"Accuracy per task of what each step leaves, 95 % intervals; {about}", 13)
        accuracy_bars(sheet, (60, below + 44, WIDTH - 80, 170), table, state.study.tasks, LOOKS.values())
    if not history.empty:
        sheet.text(16, after, f"Search: mean validation accuracy of {len(history)} trials; line: best so far", 13)
        _trials(sheet, (60, after + 34, WIDTH - 80, 140), history)
    return sheet.png()


def _grid(sheet: Sheet, top: float, columns: Columns, state: CompetitionState) -> None:
    """A row of cells for each task, one for the survivors, one for the merged value."""
    cell = min(CELL, (WIDTH - LEFT - 90) / len(columns.index))
    for row, task in enumerate(state.study.tasks):
        y = top + row * CELL
        sheet.text(LEFT - 8, y + CELL / 2, task, 12, anchor="rm")
        for column in range(len(columns.index)):
            lost = state.step == 3 and not columns.kept[row, column]
            won = state.step >= 3 and columns.winner[column] == row
            _paint(
                sheet,
                (LEFT + column * cell, y, cell - 1, CELL - 1),
                *_cell(columns, state.step, row, column),
                lost,
                won,
            )
        if state.step >= 3:
            right = LEFT + len(columns.index) * cell + 8
            sheet.text(right, y + CELL / 2, f"{columns.here[row]:.1%} kept", 12, anchor="lm")
    below = top + len(state.study.tasks) * CELL + 5
    for name, y in (("survivors", below), ("merged value", below + CELL)):
        sheet.text(LEFT - 8, y + CELL / 2, name, 12, anchor="rm")
        for column in range(len(columns.index)):
            box = (LEFT + column * cell, y, cell - 1, CELL - 1)
            _paint(sheet, box, *_below(columns, state.step, name, column))


def _cell(columns: Columns, step: int, row: int, column: int) -> tuple[float, str, tuple[str, str]]:
    """What one cell shows: a share of full colour, a mark, and the two colours."""
    tau, kept = float(columns.tau[row, column]), bool(columns.kept[row, column])
    signed, scored = (SIGNED[0][1], SIGNED[-1][1]), (AGAINST, ALONG)
    if step == 0:
        return tau / (columns.scale or 1), _sign(tau), signed
    if step == 1:
        return float(columns.strength[row, column]), _sign(tau), scored
    if step < 4:
        mark = _sign(float(columns.inter[row, column])) if step == 2 else _sign(tau) if kept else "×"
        return float(columns.reach[row, column]), mark, scored
    return float(columns.part[row, column] * np.sign(tau)), _sign(tau) if kept else "·", signed


def _below(columns: Columns, step: int, name: str, column: int) -> tuple[float, str, tuple[str, str]]:
    if name == "survivors":
        count = int(columns.survivors[column])
        return (count / len(columns.tau), str(count), (COUNT, COUNT)) if step >= 3 else (0.0, "?", (COUNT, COUNT))
    value = float(columns.merged[column])
    signed = SIGNED[0][1], SIGNED[-1][1]
    return (value / (columns.scale or 1), _sign(value), signed) if step == 4 else (0.0, "?", signed)


def _sign(value: float) -> str:
    return "+" if value > 0 else "-" if value < 0 else "0"


def _paint(
    sheet: Sheet,
    box: Box,
    share: float,
    mark: str,
    colours: tuple[str, str],
    lost: bool = False,
    won: bool = False,
) -> None:
    strength = min(1.0, abs(share)) ** 0.6 * (0.3 if lost else 1)
    full = np.array(ImageColor.getrgb(colours[share > 0]))
    fill = tuple(int(c) for c in 255 + (full - 255) * strength)
    sheet.box(box, fill=fill, line=INK if won else "#dddddd", width=2 if won else 0.5)
    ink = "#ffffff" if strength > 0.55 else FAINT if lost else INK
    sheet.text(box[0] + box[2] / 2, box[1] + box[3] / 2, mark, 12, ink, "mm")


def _maps(sheet: Sheet, top: float, height: float, state: CompetitionState, contest: Contest) -> None:
    """What survives and who wins, by layer and task; the scores of one task in the layer on show."""
    seen, layers, tasks = contest.overview, state.layers, state.study.tasks
    blank = [""] * len(layers)
    column = 250 / len(tasks)
    sheet.text(LEFT, top - 20, "survive, share of a task's entries", 12)
    sheet.text(LEFT + 290, top - 20, "won, share of a layer's entries", 12)
    for left, width, names, values, end, scale in (
        (LEFT, 260, (layers, tasks), seen.kept, seen.kept.max(), SHARE),
        (LEFT + 290, 250, (blank, tasks), seen.won, seen.won.max(), SHARE),
        (LEFT + 545, max(column, 30), (blank, [NOBODY]), seen.nobody[:, None], 1, GREYS),
    ):
        heat(sheet, (left, top, width, height), values, names, shades(values, 0, end or 1, scale), ".0%")
    row = height / len(layers)
    for left, width in ((LEFT, 260), (LEFT + 290, 255 + max(column, 30))):
        sheet.box((left - 1, top + state.layer * row - 1, width + 2, row + 1), line=MARK, width=2)
    task = chosen_task(state)
    sheet.text(LEFT + 610, top - 20, f"scores of {tasks[task]} in this layer", 12)
    _spread(sheet, (LEFT + 610, top, 240, height), seen.spread[state.layer, task], seen.cut[task])


def _spread(sheet: Sheet, box: Box, shares: np.ndarray, cut: float) -> None:
    """The distribution on logarithmic axes, its threshold drawn."""
    left, top, width, height = box
    depth = -np.log10(SMALLEST)
    wide, span = width / len(shares), EDGES[-1] - EDGES[0]
    for place, share in enumerate(shares):
        tall = height * max(0.0, 1 + np.log10(max(share, 1e-12)) / depth)
        colour = KEPT if EDGES[place] >= cut - 1e-9 else DROPPED
        if tall:
            sheet.box((left + place * wide, top + height - tall, wide, tall), fill=colour)
    sheet.line(left, top + height, left + width, top + height, FAINT)
    x = left + (cut - EDGES[0]) / span * width
    sheet.line(x, top, x, top + height, MARK, 2)
    sheet.text(x + 4, top, "kept", 11, KEPT)
    sheet.text(x - 4, top, "dropped", 11, FAINT, "rt")
    sheet.text(left, top + height + 6, "score, in thresholds of the task: -1000 ... 0 ... 1000", 10, FAINT)


def _trials(sheet: Sheet, box: Box, history: pd.DataFrame) -> None:
    """A dot for every trial from left to right, its numbers below; the axis runs from the worst to the best."""
    left, top, width, height = box
    low, high = history["score"].min(), max(history["score"].max(), history["score"].min() + 0.01)
    wide = width / len(history)

    def y(score: float) -> float:
        return top + height * (1 - (score - low) / (high - low))

    for score in (low, high):
        sheet.line(left, y(score), left + width, y(score), "#cccccc")
        sheet.text(left - 5, y(score), f"{score:.1%}", 10, FAINT, "rm")
    for place, row in enumerate(history.to_dict("records")):
        x = left + (place + 0.5) * wide
        sheet.line(x - wide / 2, y(row["best"]), x + wide / 2, y(row["best"]), MARK, 2)
        sheet.box((x - 4, y(row["score"]) - 4, 8, 8), fill=KEPT)
        words = " ".join(f"{row[name]:.2f}" for name in ("scale", "ratio") if name in row)
        sheet.text(x, top + height + 10, words, 10, FAINT, "mt")


def chosen_task(state: CompetitionState) -> int:
    """The task whose scores are on show: that of the chosen weight, or the first."""
    return state.study.tasks.index(state.selected[0]) if state.selected else 0
