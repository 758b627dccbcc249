"""Icons and emoji, drawn from the sets of the @iconify/json package whose licence lets us pass pictures on."""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from mergekit_nb.zoo.fetch import members
from mergekit_nb.zoo.tasks import CONCEPTS, family

SIZE = 32  # pixels
LICENCES = {
    "MIT", "Apache-2.0", "CC-BY-4.0", "CC-BY-3.0", "CC0-1.0", "OFL-1.1", "ISC", "BSD-3-Clause", "Unlicense"
}  # fmt: skip
BITMAPS = {"fluent-emoji"}  # three-dimensional drawings, stored as bitmaps: slow, and no outlines
STYLE = re.compile(
    r"-(outline|outlined|filled|fill|solid|line|linear|bold|light|thin|duotone|twotone|two-tone|round|rounded|sharp|regular|broken|alt|b|l|o|\d+)$"
)
SKIN = re.compile(r"skin-tone|-(light|medium-light|medium|medium-dark|dark)$")
SHARED_BY, PER_SET = (
    12,
    2,
)  # a name joins the pool when this many families draw it, and takes this many pictures of each


@dataclass(frozen=True)
class Icon:
    """One drawn icon: ``image`` is uint8 "32 32 3", white on black, or colours on white."""

    image: np.ndarray
    name: str
    set: str
    category: str
    emoji: bool


def concept(name: str) -> str:
    """What an icon shows: its name without the words for style and size (``bell-outline-24`` -> ``bell``)."""
    while (shorter := STYLE.sub("", name)) != name:
        name = shorter
    return name


def sets(tarball: Path) -> Iterator[dict]:
    """The icon sets of the package that may be redistributed, as iconify stores them."""
    for path, content in members(tarball):
        if path.startswith("json/"):
            icons = json.loads(content)
            if icons["info"].get("license", {}).get("spdx") in LICENCES and icons["prefix"] not in BITMAPS:
                yield icons


def is_emoji(icons: dict) -> bool:
    """Whether a set draws emoji."""
    return icons["info"].get("category") == "Emoji"


def shared_names(tarball: Path) -> set[str]:
    """Concepts that many families draw, the twenty of the task left out: names worth learning from."""
    drawn = defaultdict(set)
    for icons in sets(tarball):
        if not is_emoji(icons) and icons["info"].get("category") != "Flags / Maps":
            for name in icons["icons"]:
                drawn[concept(name)].add(family(icons["prefix"]))
    return {name for name, by in drawn.items() if len(by) >= SHARED_BY and len(name) > 1} - set(CONCEPTS)


def draw_set(icons: dict, wanted: set[str]) -> list[Icon]:
    """The icons of one set worth having: every wanted emoji, every task concept, a few of each shared concept."""
    names, taken, found = sorted(icons["icons"]), Counter(), []
    random.Random(icons["prefix"]).shuffle(names)
    of = {name: group for group, group_names in icons.get("categories", {}).items() for name in group_names}
    for name in names:
        what = name if is_emoji(icons) else concept(name)
        if is_emoji(icons) and SKIN.search(name):
            continue
        if not is_emoji(icons) and what not in CONCEPTS and (what not in wanted or taken[what] >= PER_SET):
            continue
        image = draw(icons, name)
        if image is not None and image.std() > 3:  # blank: nothing but background
            taken[what] += 1
            found.append(Icon(image, what, icons["prefix"], of.get(name, ""), is_emoji(icons)))
    return found


def draw(icons: dict, name: str) -> np.ndarray | None:
    """One icon as pixels: uint8 "32 32 3"; None where the renderer does not understand it."""
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg(icons, name))
    except ValueError:
        return None
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    if picture.size != (SIZE, SIZE):
        return None
    if icons["info"].get("palette"):
        paper = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(paper, picture).convert("RGB"))
    return np.repeat(np.asarray(picture.getchannel("A"))[..., None], 3, axis=2)


def svg(icons: dict, name: str) -> str:
    """The drawing of one icon, in white where it leaves the colour open."""
    icon = icons["icons"][name]
    value = lambda key, default: icon.get(key, icons.get(key, default))  # noqa: E731
    box = f"{value('left', 0)} {value('top', 0)} {value('width', 16)} {value('height', 16)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="{box}" color="#fff">{icon["body"].replace("currentColor", "#fff")}</svg>'
    )
