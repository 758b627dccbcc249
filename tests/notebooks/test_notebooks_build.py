"""The notebooks: what is stored is what the sources say, small, without widget state, and runs from top to bottom."""

import json
from pathlib import Path

import jupytext
import nbformat
import pytest

from mergekit_nb.notebooks import build

NOTEBOOKS = [pytest.param(path, id=path.stem) for path in build.sources()]
SECONDS = 90  # of one core, so that a busy machine does not matter
LONGER = {"03_the_family": 240}  # every method there is


def stored(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def test_there_are_notebooks():
    assert [path.stem for path in build.sources()][:2] == ["00_start_here", "01_elect_mask_rescale"]


@pytest.mark.parametrize("source", NOTEBOOKS)
def test_the_stored_cells_are_the_sources(source):
    expected = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    assert [(cell.cell_type, cell.source) for cell in stored(source).cells] == expected, "run `make notebooks`"


@pytest.mark.parametrize("source", NOTEBOOKS)
def test_the_stored_notebook_is_small_and_valid_and_holds_no_widget_state(source):
    path = source.with_suffix(".ipynb")
    assert path.stat().st_size <= build.LARGEST
    nbformat.validate(stored(source))
    assert set(stored(source).metadata) == {"kernelspec", "language_info"}
    assert "vnd.jupyter.widget" not in path.read_text()


@pytest.mark.parametrize("source", NOTEBOOKS)
def test_every_stored_figure_has_a_picture_and_no_upload_button(source):
    data = [output.data for cell in stored(source).cells for output in cell.get("outputs", []) if "data" in output]
    figures = [bundle for bundle in data if "application/vnd.plotly.v1+json" in bundle]
    assert figures
    for bundle in figures:
        assert bundle["image/png"].startswith("iVBOR")
        assert bundle["application/vnd.plotly.v1+json"]["config"]["showSendToCloud"] is False


@pytest.mark.parametrize("source", NOTEBOOKS)
def test_stored_outputs_show_neither_errors_nor_this_machine(source):
    outputs = [output for cell in stored(source).cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    said = json.dumps([output.get("text") or output.get("data", {}).get("text/plain") for output in outputs])
    assert str(Path.home()) not in said
    assert "site-packages" not in said


def test_what_the_family_claims_holds():
    """The notebook computes each claim and prints whether it is true; its prose says that they are."""
    source = next(path for path in build.sources() if path.stem == "03_the_family")
    cell = next(cell for cell in stored(source).cells if cell.source.startswith("patches = "))
    said = cell.outputs[-1].data["text/plain"]
    assert said.count("True") == cell.source.count('    "')
    assert "False" not in said


@pytest.mark.notebook
@pytest.mark.parametrize("source", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom_in_reasonable_time(source, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads that wait for a busy core count as work
    notebook = jupytext.read(source)
    notebook.cells.append(nbformat.v4.new_code_cell("import time; print(time.process_time())"))
    notebook = build.execute(notebook)
    assert float(notebook.cells[-1].outputs[0].text) < LONGER.get(source.stem, SECONDS)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
