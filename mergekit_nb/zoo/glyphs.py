"""Letters of many scripts, drawn from the font families of the @fontsource packages."""

from __future__ import annotations

import io
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from mergekit_nb.zoo.fetch import members, read
from mergekit_nb.zoo.tasks import KANA

SIZE, BOX, EM = 32, 24, 96  # pixels: the picture, the room a glyph may fill, the size it is drawn at before shrinking
WEIGHTS = ("400", "700")


def _run(first: int, last: int) -> str:
    return "".join(map(chr, range(first, last + 1)))


DIGITS = "0123456789"
ALPHABETS: dict[str, str] = {
    "latin": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + DIGITS,
    "greek": "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπσςτφχψω",
    "cyrillic": "БГДЖЗИЙЛПФЦЧШЩЪЫЬЭЮЯбвгджзийклмнптфцчшщъыьэюя",
    "hebrew": _run(0x5D0, 0x5EA),
    "arabic": _run(0x627, 0x63A) + _run(0x641, 0x64A),
    "devanagari": _run(0x905, 0x90C) + _run(0x915, 0x939),
    "thai": _run(0xE01, 0xE2E),
    "khmer": _run(0x1780, 0x17A2),
    "telugu": _run(0xC05, 0xC0B) + _run(0xC15, 0xC28) + _run(0xC2A, 0xC39),
    "hangul": "".join(chr(0xAC00 + step * 379 % 11172) for step in range(40)),  # spread over the syllable block
    "hiragana": KANA,
    "katakana": _run(0x30A2, 0x30ED)[::2] + "ヤユヨワン",
}
SUBSET = {"hangul": "korean", "hiragana": "japanese", "katakana": "japanese"}  # how a font package calls them


ODD = re.compile(  # barcodes, ornaments, outlines of outlines: nobody could read these as letters
    r"barcode|redacted|^flow |hentaigana|emoji|kapakana|linefont|wavefont|guides|blank|material|symbols|moirai|music"
    r"|palette mosaic|rock 3d|math"
)
PER_FILE = re.compile(r"\s+[^\s:]+\.[ot]tf:\s+")  # the same line once more for every file of a family
LICENCES = {"SIL Open Font License, 1.1", "Apache License, Version 2.0"}
WANTED = {  # families that draw each script, where there are as many
    "japanese": 60, "korean": 36, "khmer": 28, "telugu": 27, "thai": 34, "hebrew": 45, "arabic": 45, "devanagari": 45,
    "greek": 40, "cyrillic": 40,
}  # fmt: skip
LATIN_ONLY = {"sans-serif": 35, "serif": 35, "display": 35, "handwriting": 35, "monospace": 20}


def choose(metadata: Path) -> list[str]:
    """The font packages of ``fonts.json``, drawn at random from the catalogue in npm's ``google-font-metadata``.

    Those that the registry had in a 5.x version went into ``fonts.json``, with that version.
    """
    licences = json.loads(read(metadata, "data/licenses.json"))
    listed = json.loads(read(metadata, "data/api-response.json"))
    usable = [
        font
        for font in listed
        if not ODD.search(font["family"].lower())
        and licences.get(_slug(font), {}).get("license", {}).get("type") in LICENCES
    ]
    chosen = []
    for script, count in WANTED.items():
        chosen += _draw([font for font in usable if script in font["subsets"]], script, count)
    for category, count in LATIN_ONLY.items():
        plain = [font for font in usable if {"latin"} <= set(font["subsets"]) <= {"latin", "latin-ext", "vietnamese"}]
        chosen += _draw([font for font in plain if font["category"] == category], category, count)
    return ["@fontsource/" + name for name in dict.fromkeys(map(_slug, chosen))]


def _draw(fonts: list[dict], key: str, count: int) -> list[dict]:
    fonts = sorted(fonts, key=lambda font: font["family"])
    random.Random(key).shuffle(fonts)
    return fonts[:count]


def _slug(font: dict) -> str:
    return font["family"].lower().replace(" ", "-")


@dataclass(frozen=True)
class Glyph:
    """One drawn character: ``image`` is uint8 "32 32", white on black."""

    image: np.ndarray
    char: str
    script: str
    family: str


def draw(font: ImageFont.FreeTypeFont, char: str) -> np.ndarray | None:
    """A character, shrunk to fit and centred: uint8 "32 32", or None where the font draws nothing."""
    left, top, right, bottom = font.getbbox(char)
    if right - left <= 1 or bottom - top <= 1:
        return None
    canvas = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8), 0)
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), char, fill=255, font=font)
    if canvas.getbbox() is None:
        return None
    ink = canvas.crop(canvas.getbbox())
    shrink = BOX / max(ink.size)
    ink = ink.resize([max(1, round(side * shrink)) for side in ink.size], Image.Resampling.LANCZOS)
    picture = Image.new("L", (SIZE, SIZE), 0)
    picture.paste(ink, ((SIZE - ink.width) // 2, (SIZE - ink.height) // 2))
    return np.asarray(picture)


def glyphs(tarball: Path) -> list[Glyph]:
    """Every character of `ALPHABETS` that a font package can draw, in regular and in bold."""
    files = dict(members(tarball))
    about = json.loads(files["metadata.json"])
    found = []
    for script, alphabet in ALPHABETS.items():
        for weight in WEIGHTS:
            for char, font in _fonts(files, about, SUBSET.get(script, script), weight, alphabet).items():
                image = draw(font, char)
                if image is not None and image.max() > 128:  # hairlines vanish when shrunk: not a picture of a letter
                    found.append(Glyph(image, char, script, about["family"]))
    return found


def _fonts(
    files: dict[str, bytes], about: dict, subset: str, weight: str, alphabet: str
) -> dict[str, ImageFont.FreeTypeFont]:
    """Which of a package's files draws which character; large scripts are cut into numbered files."""
    parts = [subset, *(key.strip("[]") for key in json.loads(files["unicode.json"]) if key.startswith("["))]
    found: dict[str, ImageFont.FreeTypeFont] = {}
    if subset not in about["subsets"]:
        return found
    for part in parts:
        content = files.get(f"files/{about['id']}-{part}-{weight}-normal.woff2")
        drawable = set(alphabet) - set(found) if content else set()
        drawable &= set(map(chr, TTFont(io.BytesIO(content), lazy=True).getBestCmap())) if drawable else set()
        if drawable:
            font = ImageFont.truetype(io.BytesIO(content), EM)
            found |= {char: font for char in alphabet if char in drawable}
    return found


def credit(tarball: Path) -> dict[str, str]:
    """Family, licence and attribution of a font package, as its own metadata states them."""
    files = dict(members(tarball))
    about = json.loads(files["metadata.json"])
    return {
        "family": about["family"],
        "licence": about["license"]["type"],
        "attribution": "; ".join(dict.fromkeys(PER_FILE.split(about["license"].get("attribution", "")))),
    }
