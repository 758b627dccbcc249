"""Executes the notebooks and saves them with their outputs: `python notebooks/build.py [NAME ...]`, or `make notebooks`.

The `.py` files (jupytext percent) are the source. The `.ipynb` beside them hold the same cells with outputs, every figure as
a PNG too, so that any preview shows it, and no widget state.
"""

import base64
import io
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
import plotly.graph_objects as go
import plotly.io as pio
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

HERE = Path(__file__).parent
LARGEST = 1_500_000  # bytes; beyond it previews give up
FIGURE = "application/vnd.plotly.v1+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDTH, HEIGHT, SCALE = 900, 450, 1.5  # of a picture: CSS pixels, where a figure does not say; real pixels for each


def sources() -> list[Path]:
    """The notebooks, in reading order."""
    return sorted(HERE.glob("[0-9]*.py"))


def execute(notebook: NotebookNode, *, timeout: int = 600) -> NotebookNode:
    """Run all cells in a fresh kernel, widgets without waiting for clicks; `timeout` is in seconds, for each cell.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    os.environ["MERGEKIT_NB_HEADLESS"] = "1"
    where = {"metadata": {"path": str(HERE)}}
    NotebookClient(notebook, timeout=timeout, store_widget_state=False, resources=where).execute()
    return notebook


def picture(notebook: NotebookNode) -> NotebookNode:
    """Put a PNG beside every plotly figure; needs Chrome or Chromium, which kaleido starts once for all of them."""
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    shown = [data for data in shown if FIGURE in data]
    figures = [go.Figure(data[FIGURE]["data"], data[FIGURE]["layout"]) for data in shown]
    widths = [figure.layout.width or WIDTH for figure in figures]
    heights = [figure.layout.height or HEIGHT for figure in figures]
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{place}.png" for place in range(len(figures))]
        pio.write_images(figures, files, scale=SCALE, width=widths, height=heights)
        for data, file in zip(shown, files, strict=True):
            data["image/png"] = base64.b64encode(file.read_bytes()).decode()
    return notebook


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Leave only what a reader needs: no widget state, no timings, stable ids, small pictures."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = NotebookNode(kernelspec=kernel, language_info={"name": "python"})
    for place, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{place}", NotebookNode()
    for place, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = place
        cell.outputs = [_small(output, place) for output in cell.outputs]
    return notebook


def _small(output: NotebookNode, place: int) -> NotebookNode:
    if output.output_type == "stream" and output.name == "stderr":
        raise RuntimeError(f"a saved notebook shows no warnings: {output.text}")
    if "execution_count" in output:
        output.execution_count = place
    data = output.get("data", {})
    data.pop(WIDGET_VIEW, None)
    if "image/png" in data:
        data["image/png"] = _quantised(data["image/png"])
    return output


def _quantised(png: str) -> str:
    """The picture in 256 colours: a third of the bytes, and no eye sees it."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    small = io.BytesIO()
    image.quantize(256, method=Image.Quantize.FASTOCTREE).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def build(source: Path) -> Path:
    """Execute one notebook and write it beside its source.

    Raises:
        ValueError: it became larger than a preview bears.
    """
    notebook = tidy(picture(execute(jupytext.read(source))))
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > LARGEST:
        raise ValueError(f"{source.stem}.ipynb is {len(text.encode()):,} bytes, more than {LARGEST:,}: show less")
    target = source.with_suffix(".ipynb")
    target.write_text(text)
    print(f"{target.name}: {len(text.encode()) / 1000:.0f} kB")
    return target


if __name__ == "__main__":
    for path in sources():
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            build(path)
