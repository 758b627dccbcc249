"""How every figure looks: the "mk" template, colours a colour-blind reader can tell apart, no upload button."""

import sys
from os import PathLike
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio

TEXT = "#767676"  # contrast above 4 on white and on JupyterLab's dark grey alike
GRID = "rgba(118, 118, 118, 0.25)"
# Okabe & Ito 2008, black exchanged for grey: black vanishes on a dark page
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999"]
SYMBOLS = ["circle", "square", "diamond", "cross", "star", "x", "hexagon", "pentagon"]
# blue for negative and orange for positive meet in a grey that both themes show
SIGNED = [[0.0, "#0072B2"], [0.5, "#E8E8E8"], [1.0, "#D55E00"]]
SHARE = "Cividis"
CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": True}

_AXIS = {"gridcolor": GRID, "zerolinecolor": TEXT, "linecolor": TEXT, "automargin": True}
_AXIS["title"] = {"standoff": 10, "font": {"size": 13}}

pio.templates["mk"] = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": TEXT, "size": 13, "family": "system-ui, 'DejaVu Sans', sans-serif"},
        "title": {"x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}, "font": {"size": 15}},
        "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
        "colorway": COLOURS,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def figure(title: str, **layout: object) -> go.Figure:
    """An empty figure in the "mk" template."""
    return go.Figure(layout={"template": "mk", "title": {"text": title}, **layout})


def quiet() -> None:
    """Take logo and upload button off every figure a notebook shows: plotly.js 4 offers to send charts to a cloud."""
    for renderer in ("plotly_mimetype", "notebook", "colab"):
        pio.renderers[renderer].config.update(CONFIG)


def show(fig: go.Figure) -> None:
    """Show a figure where the reader is, without logo and upload button."""
    fig.show(config=CONFIG)


def png(fig: go.Figure, path: str | PathLike[str] | None = None, *, scale: float = 2) -> bytes:
    """The figure as PNG bytes, written to `path` too if there is one; needs Chrome or Chromium, used through kaleido.

    Args:
        fig: any plotly figure.
        path: a file to write.
        scale: pixels for every CSS pixel; 2 is sharp on a dense screen.
    """
    image = fig.to_image(format="png", scale=scale)
    if path is not None:
        Path(path).write_bytes(image)
    return image


if "ipykernel" in sys.modules:  # elsewhere nothing is shown, and asking plotly for its renderers takes a second
    quiet()
