"""ZipWalk as a picture: accuracy beside its brackets, the curve against cost, the matrix, and the group's pictures."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from PIL import Image, ImageColor

from mergekit_nb.analysis import matched
from mergekit_nb.maths.matching import Zip
from mergekit_nb.plots.theme import SIGNED
from mergekit_nb.plots.zipping import KINDS
from mergekit_nb.widgets.sheet import FAINT, SCALE, Box, Sheet, bars
from mergekit_nb.widgets.zipwalk.compute import Point, references
from mergekit_nb.widgets.zipwalk.contact import SIDE, mostly, strip
from mergekit_nb.widgets.zipwalk.excite import Excited
from mergekit_nb.widgets.zipwalk.figure import LOOK, NOW, title
from mergekit_nb.widgets.zipwalk.matrix import FRAME, arranged
from mergekit_nb.widgets.zipwalk.state import NOTHING, Key, ZipState

WIDTH, MAP = 980, 420
GREYS = ("#767676", "#cc79a7", "#56b4e9", "#009e73")  # the ensemble, then each network alone


def picture(
    state: ZipState,
    found: Zip | None,
    excited: Excited | None,
    known: Mapping[Key, Point],
) -> bytes:
    """The panel as it stands."""
    sheet = Sheet(WIDTH, 360 + MAP + 40)
    sheet.text(16, 12, f"Zip walk: {plain(title(state.key()))}", 15)
    if state.key() in known:
        _accuracy(sheet, state, known)
        _curve(sheet, (560, 76, 390, 210), state, known)
    else:
        sheet.text(WIDTH / 2, 170, "not measured yet", 13, FAINT, "mm")
    if found is not None:
        _matrix(sheet, (40, 360, MAP, MAP), state, found)
        _group(sheet, 490, 360, state, found, excited)
    return sheet.png()


def plain(words: str) -> str:
    """Words in the letters the built-in font has."""
    return words.replace("α", "alpha").replace("β", "beta")


def _accuracy(sheet: Sheet, state: ZipState, known: Mapping[Key, Point]) -> None:
    tasks = ["joint", *state.study.tests]
    keys = [("on show", NOW, state.key())]
    for colour, key in zip(GREYS, references(state.study), strict=False):
        keys.append(("ensemble" if key.boundary == NOTHING else f"{key.boundary} alone", colour, key))
    series = [
        (label, colour, np.array([known[key].share(task) for task in tasks]))
        for label, colour, key in keys
        if key in known
    ]
    bars(sheet, (56, 76, 430, 210), tasks, series, 1.0, ".0%")


def _curve(sheet: Sheet, box: Box, state: ZipState, known: Mapping[Key, Point]) -> None:
    left, top, width, height = box
    most = 1.08 * max(point.flops for point in known.values())
    at = lambda point: (left + width * point.flops / most, top + height * (1 - point.share()[0]))  # noqa: E731
    for share in (0, 0.5, 1):
        y = top + height * (1 - share)
        sheet.line(left, y, left + width, y, "#cccccc")
        sheet.text(left - 5, y, f"{share:.0%}", 10, FAINT, "rm")
    sheet.text(left, top - 26, "joint accuracy against cost", 12)
    sheet.text(
        left + width / 2, top + height + 8, f"0 to {most / 1e6:.1f} million operations for a picture", 11, anchor="mt"
    )
    keys = [state.key(boundary) for boundary in state.study.boundaries]
    ours = sorted((known[key] for key in keys if key in known), key=lambda point: point.flops)
    colour = LOOK[state.method][0]
    for one, other in pairwise(ours):
        sheet.line(*at(one), *at(other), colour, 2)
    for place, point in enumerate(ours):
        x, y = at(point)
        low, high = (top + height * (1 - share) for share in point.share()[1:])
        sheet.line(x, low, x, high, colour, 1)
        sheet.box((x - 4, y - 4, 9, 9), fill=NOW if point.key == state.key() else colour)
        sheet.text(x, top + height - 14 - 13 * (place % 2), point.key.boundary, 10, FAINT, "mm")


def _matrix(sheet: Sheet, box: Box, state: ZipState, found: Zip) -> None:
    """The correlations as pixels, a frame on every pair."""
    left, top, side, _ = box
    correlation = state.study.correlations[state.layer]
    places = arranged(correlation, found, state.order)
    colours = _painted(correlation[places][:, places].numpy())
    pixels = Image.fromarray(colours).resize((side * SCALE, side * SCALE), Image.Resampling.NEAREST)
    sheet.image.paste(pixels, (round(left * SCALE), round(top * SCALE)))
    at, cell = {feature: place for place, feature in enumerate(places)}, side / len(places)
    for _, pair in matched(found).iterrows():
        for x, y in ((at[pair["a"]], at[pair["b"]]), (at[pair["b"]], at[pair["a"]])):
            mark = (left + x * cell, top + y * cell, max(3, cell), max(3, cell))
            sheet.box(mark, line=KINDS[pair["kind"]][0], width=1)
    chosen = [] if state.group is None else found.groups[state.group]
    for x, y in ((at[a], at[b]) for a in chosen for b in chosen):
        sheet.box((left + x * cell - 1, top + y * cell - 1, max(3, cell) + 2, max(3, cell) + 2), line=FRAME, width=1.5)
    sheet.text(left, top - 36, f"{state.layer}: which features become one ({state.order})", 12)
    across, within = (f"{kind} {colour}" for kind, colour in (("across models:", "green"), ("within a model:", "blue")))
    sheet.text(left, top - 18, f"{across}, {within}; filled orange: they rise together", 11, FAINT)


def _painted(values: np.ndarray) -> np.ndarray:
    """Correlations in [-1, 1] as uint8 "row column rgb", in the colours of the page."""
    ends = np.array([ImageColor.getrgb(colour) for _, colour in SIGNED], float)
    stops = [2 * share - 1 for share, _ in SIGNED]
    return np.stack([np.interp(values, stops, ends[:, k]) for k in range(3)], -1).round().astype(np.uint8)


def _group(sheet: Sheet, left: float, top: float, state: ZipState, found: Zip, excited: Excited | None) -> None:
    if state.group is None or excited is None:
        return
    names, room = state.study.names(state.layer), int(MAP // (SIDE + 24))
    group = found.groups[state.group]
    sheet.text(left, top - 36, f"group {state.group}: what excites its features most", 12)
    for row, feature in enumerate(group[:room]):
        y = top + row * (SIDE + 24)
        pictures, classes = excited.of(state.layer, feature)
        sheet.text(left, y, f"{names[feature]}: {mostly(classes)}", 11)
        row_of = strip(pictures).resize((SIDE * len(classes) * SCALE, SIDE * SCALE))
        sheet.image.paste(row_of, (left * SCALE, round((y + 16) * SCALE)))
    if len(group) > room:
        sheet.text(left, top + room * (SIDE + 24), f"and {len(group) - room} more", 11, FAINT)
