"""A sheet to draw figures on with Pillow: heat maps and bars, without a browser."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont
from plotly.colors import sample_colorscale, unlabel_rgb

SCALE = 2  # pixels for every CSS pixel
INK, FAINT, PAPER = "#1f1f1f", "#6b6b6b", "#ffffff"
Box = tuple[float, float, float, float]  # left, top, width, height in CSS pixels


class Sheet:
    """A white sheet measured in CSS pixels. The built-in font has no Greek, so words are used."""

    def __init__(self, width: int, height: int):
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, words: str, size: float = 12, ink: str = INK, anchor: str = "lt") -> None:
        font = ImageFont.load_default(size * SCALE)
        self.draw.text((x * SCALE, y * SCALE), plain(words), font=font, fill=ink, anchor=anchor)

    def box(self, box: Box, fill: object = None, line: str | None = None, width: float = 1) -> None:
        x, y, w, h = (side * SCALE for side in box)
        self.draw.rectangle(
            (x, y, x + max(0, w - 1), y + max(0, h - 1)), fill=fill, outline=line, width=round(width * SCALE)
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, ink: str = INK, width: float = 1) -> None:
        self.draw.line([v * SCALE for v in (x0, y0, x1, y1)], fill=ink, width=round(width * SCALE))

    def upright(self, x: float, y: float, words: str, size: float = 11, ink: str = INK) -> None:
        """Words that run upwards and end at (x, y), their top right."""
        font = ImageFont.load_default(size * SCALE)
        width, height = (round(v) for v in font.getbbox(plain(words))[2:])
        label = Image.new("L", (width, height + 4), 0)
        ImageDraw.Draw(label).text((0, 0), plain(words), font=font, fill=255)
        label = label.rotate(90, expand=True)
        self.image.paste(ink, (round(x * SCALE - label.width / 2), round(y * SCALE)), label)

    def png(self) -> bytes:
        file = io.BytesIO()
        self.image.quantize(192).save(file, "png", optimize=True)
        return file.getvalue()


def plain(words: str) -> str:
    """Words in the letters the built-in font has."""
    for symbol, letters in (("−", "-"), ("×", "x"), ("…", "..."), ("τ", "tau"), ("λ", "lambda"), ("–", "-")):
        words = words.replace(symbol, letters)
    return words


def heat(
    sheet: Sheet,
    box: Box,
    values: np.ndarray,
    names: tuple[Iterable[str], Iterable[str]],
    colours: Sequence[str],
    form: str,
) -> None:
    """A matrix of numbers on colours: rows named at the left, columns below.

    Args:
        names: of the rows, of the columns.
        colours: rgb strings for every value, row-major.
        form: format of a number.
    """
    left, top, width, height = box
    wide, high = width / values.shape[1], height / values.shape[0]
    for place, (value, colour) in enumerate(zip(values.flat, colours, strict=True)):
        row, column = divmod(place, values.shape[1])
        x, y = left + column * wide, top + row * high
        sheet.box((x, y, wide - 1, high - 1), fill=colour)
        if np.isfinite(value) and high >= 13 and wide >= 22:
            sheet.text(x + wide / 2, y + high / 2, f"{value:{form}}".replace("-0.00", "0.00"), 10, over(colour), "mm")
    for row, name in enumerate(names[0]):
        sheet.text(left - 6, top + (row + 0.5) * high, name, 11, anchor="rm")
    for column, name in enumerate(names[1]):
        sheet.upright(left + (column + 0.5) * wide, top + height + 4, name)


def over(colour: str) -> str:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = ImageColor.getrgb(colour)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "#ffffff"


def shades(values: np.ndarray, low: float, high: float, scale: object) -> list[str]:
    """A plotly colour scale at every value, as "#rrggbb"; light grey where there is none."""
    share = np.clip((np.nan_to_num(values.astype(float)) - low) / (high - low), 0, 1)
    colours = [
        f"#{round(r):02x}{round(g):02x}{round(b):02x}"
        for r, g, b in map(unlabel_rgb, sample_colorscale(scale, list(share.flat)))
    ]
    return [colour if np.isfinite(value) else "#eeeeee" for colour, value in zip(colours, values.flat, strict=True)]


def bars(
    sheet: Sheet, box: Box, groups: Sequence[str], series: Sequence[tuple[str, str, np.ndarray]], top: float, form: str
) -> None:
    """Grouped bars from 0 to `top`, a legend above.

    Args:
        series: (label, colour, group values low high), the last axis of length 3; low and high may be NaN.
    """
    left, y0, width, height = box
    for share in (0, 0.5, 1):
        y = y0 + height * (1 - share)
        sheet.line(left, y, left + width, y, "#cccccc")
        sheet.text(left - 5, y, f"{share * top:{form}}", 10, FAINT, "rm")
    wide = width / len(groups)
    thick = wide * 0.82 / max(1, len(series))
    at = left
    for order, (label, colour, values) in enumerate(series):
        sheet.box((at, y0 - 20, 10, 10), fill=colour)
        sheet.text(at + 14, y0 - 15, label, 11, anchor="lm")
        at += 30 + ImageFont.load_default(11).getlength(plain(label))
        for group, (value, low, high) in enumerate(values):
            if np.isfinite(value):
                x = left + group * wide + wide * 0.09 + order * thick
                tall = height * min(1, value / top)
                sheet.box((x, y0 + height - tall, max(1, thick - 1), tall), fill=colour)
                if np.isfinite(low):
                    middle = x + thick / 2
                    sheet.line(middle, y0 + height * (1 - low / top), middle, y0 + height * (1 - high / top), INK, 0.8)
    for group, name in enumerate(groups):
        sheet.text(left + (group + 0.5) * wide, y0 + height + 6, name, 11, anchor="mt")
