"""The invisible part of every panel: names for the controls, and whether the page is dark."""

from pathlib import Path

import anywidget
import traitlets

STATIC = Path(__file__).parent / "static"


class Page(anywidget.AnyWidget):
    """Names the controls for screen readers; reports the page's theme."""

    _esm, _css = STATIC / "page.js", STATIC / "page.css"
    dark = traitlets.Bool(False, help="whether the page around the panel is dark").tag(sync=True)
