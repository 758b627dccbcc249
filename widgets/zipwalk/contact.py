"""A contact sheet: for each feature of a group the pictures that excite it most."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from html import escape

from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from mergekit_nb.widgets.zipwalk.excite import Excited

SIDE = 52  # of a picture on the page, in pixels
MOST = 430  # height of a sheet; a longer one is scrolled


def contact_sheet(excited: Excited, space: str, group: Sequence[int], names: Sequence[str]) -> str:
    """HTML: a row for each feature, its name, what its pictures mostly show, and the pictures."""
    rows = "".join(_row(excited, space, feature, names[feature]) for feature in group)
    return (
        f"<div tabindex='0' role='region' aria-label='pictures' style='max-height:{MOST}px;overflow:auto'>{rows}</div>"
    )


def mostly(classes: Sequence[str]) -> str:
    """What most of some pictures show: "6 bag, 2 coat"."""
    return ", ".join(f"{count} {name}" for name, count in Counter(classes).most_common(3))


def strip(pictures: Tensor) -> Image.Image:
    """Pictures uint8 "n channel height width" side by side."""
    grid = make_grid(pictures.expand(-1, 3, -1, -1), nrow=len(pictures), padding=1, pad_value=128)
    return Image.fromarray(grid.permute(1, 2, 0).numpy())


def _row(excited: Excited, space: str, feature: int, name: str) -> str:
    if excited.silent(space, feature):
        return f"<div style='margin:6px 0'><b>{escape(name)}</b>: no picture excites it</div>"
    pictures, classes = excited.of(space, feature)
    file = io.BytesIO()
    strip(pictures).save(file, "png")
    what = escape(f"{name}: {', '.join(classes)}", quote=True)
    return (
        f"<div style='margin:6px 0'><b>{escape(name)}</b> <span style='opacity:.75'>{escape(mostly(classes))}</span><br>"
        f"<img alt='{what}' title='{what}' style='width:{SIDE * len(classes)}px;max-width:98%;image-rendering:auto' "
        f"src='data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}'></div>"
    )
