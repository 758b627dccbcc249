"""What the tasks look like: a row of images for each."""

from collections.abc import Mapping

import plotly.graph_objects as go
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from mergekit_nb.plots import theme

_PIXELS = 40  # width of an image on the page


def picture_sheet(images: Mapping[str, Tensor], *, each: int = 16) -> go.Figure:
    """A row of pictures for every name.

    Args:
        images: name -> uint8 "n channel height width", all of one size; one channel is shown as grey.
        each: pictures in a row, spread evenly over those given.
    """
    rows = torch.cat([_spread(stack, each) for stack in images.values()])
    sheet = make_grid(rows, nrow=each, padding=2, pad_value=128).permute(1, 2, 0)
    columns, lines = each, len(images)
    fig = theme.figure(
        "", width=120 + _PIXELS * columns, height=30 + _PIXELS * lines, margin={"t": 10, "b": 10, "r": 10}
    )
    fig.add_layout_image(
        source=Image.fromarray(sheet.numpy()),
        x=0,
        y=0,
        sizex=columns,
        sizey=lines,
        xref="x",
        yref="y",
        sizing="stretch",
    )
    fig.update_xaxes(visible=False, range=[0, columns])
    ticks = {"tickvals": [line + 0.5 for line in range(lines)], "ticktext": list(images)}
    return fig.update_yaxes(range=[lines, 0], showgrid=False, zeroline=False, **ticks)


def _spread(stack: Tensor, each: int) -> Tensor:
    chosen = stack[torch.linspace(0, len(stack) - 1, each).long()]
    return chosen.expand(-1, 3, -1, -1)
