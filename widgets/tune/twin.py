"""Tune as a picture: the setting on show beside its references, and the last settings tried."""

from collections.abc import Mapping, Sequence

import numpy as np

from mergekit_nb.widgets.accuracy_figure import Counts, mean, shares
from mergekit_nb.widgets.sheet import FAINT, Sheet, bars
from mergekit_nb.widgets.tune.compute import Trial
from mergekit_nb.widgets.tune.figure import COLOUR, LABELS

WIDTH, ROWS, LINE = 980, 6, 20


def picture(
    title: str, shown: Mapping[str, Counts], trials: Sequence[Trial], now: Trial | None, tasks: tuple[str, ...]
) -> bytes:
    """The panel as it stands; `shown` holds what is known of the references and of the setting on show."""
    sheet = Sheet(WIDTH, 330 + LINE * (min(len(trials), ROWS) + 1))
    sheet.text(16, 12, title, 15)
    series = [
        (LABELS[name], COLOUR[name], _intervals(name, found, tasks))
        for name, found in shown.items()
        if name != "before" and found
    ]
    if series:
        bars(sheet, (56, 70, WIDTH - 76, 200), [*tasks, "mean"], series, 1.0, ".0%")
    else:
        sheet.text(WIDTH / 2, 170, "not measured yet", 13, FAINT, "mm")
    if trials:
        _tried(sheet, 306, trials, now)
    return sheet.png()


def _intervals(name: str, found: Counts, tasks: tuple[str, ...]) -> np.ndarray:
    """Bars with an interval for the setting on show, without for the references."""
    values = shares(found, tasks).T
    if name != "now":
        values[:, 1:] = np.nan
    return values


def _tried(sheet: Sheet, top: float, trials: Sequence[Trial], now: Trial | None) -> None:
    best = max(trials, key=lambda trial: mean(trial.found)[0])
    sheet.text(16, top, f"settings tried: {len(trials)}; mean accuracy on validation images, 95 % interval", 12, FAINT)
    for row, trial in enumerate(trials[-ROWS:], start=1):
        share, low, high = mean(trial.found)
        marks = (", on show" if trial is now else "") + (", the best" if trial is best else "")
        words = f"{share:.1%}  ({low:.1%} to {high:.1%})  {trial.label}{marks}"
        sheet.text(32, top + row * LINE, words, 12)
