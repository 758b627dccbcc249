"""Who made the pictures, and under which licences: read out of the packages, so that nothing is left out or typed wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mergekit_nb.zoo.glyphs import credit
from mergekit_nb.zoo.icons import sets
from mergekit_nb.zoo.sources import FASHION, ICONS, MNIST, SKETCHES, fonts

HEAD = f"""\
The models and pictures of the embedded zoo "clip8" (mergekit_nb/zoo/clip8)
===========================================================================

The pictures are small renderings (32 x 32 pixels, task icons in grey) made from the works below, and stay under the
licences named here. The models were trained on them from scratch by this project and carry its licence, Apache-2.0.

MNIST (task mnist), package {MNIST}
  Yann LeCun, Corinna Cortes, Christopher J.C. Burges: The MNIST database of handwritten digits.
  Creative Commons Attribution-Share Alike 3.0 (CC BY-SA 3.0), as the database is commonly licensed; the package's own
  code is ISC and says that the data are not its property. Framed with two black pixels.

Fashion-MNIST (task fashion), package {FASHION}
  Copyright 2017 Zalando SE. MIT licence. Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747. Framed with two black pixels.

Quick, Draw! (task quickdraw, and the pre-training), package {SKETCHES}
  "This data made available by Google, Inc. under the Creative Commons Attribution 4.0 International license."
  (CC BY 4.0.) The package, by Thomas Wagenaar, is MIT. Framed with two black pixels.
"""


def notice(packages: Mapping[str, Path], drawn: Mapping[str, np.ndarray]) -> str:
    """The attributions of everything a zoo was made from.

    Args:
        packages: package -> where it was fetched to.
        drawn: the icons of `tasks.Raw`.
    """
    return "\n".join([HEAD, icon_credits(packages[ICONS], drawn), font_credits(fonts(packages))])


def icon_credits(tarball: Path, drawn: Mapping[str, np.ndarray]) -> str:
    """Every icon set that pictures came from: its name, author and licence."""
    used = set(drawn["set"])
    found = [icons["info"] | {"prefix": icons["prefix"]} for icons in sets(tarball) if icons["prefix"] in used]
    licences = Counter(info["license"]["spdx"] for info in found)
    lines = [f"Icons and emoji (tasks icons and emoji, and the pre-training), package {ICONS}: {len(found)} sets"]
    lines += [f"  {spdx}: {count} sets" for spdx, count in sorted(licences.items())]
    lines += [f"  {info['prefix']}: {info['name']}, {_author(info)}, {_licence(info)}" for info in found]
    return "\n".join(lines) + "\n"


def font_credits(tarballs: list[Path]) -> str:
    """Every font family that glyphs were drawn from: its licence and copyright line."""
    found = [credit(tarball) for tarball in tarballs]
    licences = Counter(font["licence"] for font in found)
    lines = [
        f"Fonts (tasks letters, scripts and kana, and the pre-training), packages @fontsource/*: {len(found)} families"
    ]
    lines += [f"  {licence}: {count} families" for licence, count in sorted(licences.items())]
    lines += [f"  {font['family']}: {font['licence']}. {font['attribution']}".rstrip() for font in found]
    return "\n".join(lines) + "\n"


def _author(info: Mapping) -> str:
    author = info.get("author") or {}
    return " ".join(part for part in (author.get("name", ""), author.get("url", "")) if part)


def _licence(info: Mapping) -> str:
    licence = info["license"]
    return " ".join(part for part in (licence["spdx"], licence.get("url", "")) if part)
