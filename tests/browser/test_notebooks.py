"""The project's own notebooks, top to bottom, in JupyterLab."""

import pytest

from tests.browser.conftest import ROOT, SHOTS

# the sheet of pictures is a figure of images alone, without a trace
ALL_DRAWN = """() => Array.from(document.querySelectorAll(".js-plotly-plot")).every(
  plot => plot._fullData?.length || plot._fullLayout?.images?.length)"""
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_in_a_browser(notebook, path):
    notebook.open(path.name).run_all(timeout=540)
    assert not notebook.problems()
    notebook.page.wait_for_function(ALL_DRAWN)
    for place, cell in enumerate(notebook.page.locator(".jp-CodeCell").all()):
        SHOTS.mkdir(exist_ok=True)
        cell.screenshot(path=SHOTS / f"{path.stem}-cell-{place:02}.png")


def test_there_are_notebooks_to_run():
    assert {path.stem for path in NOTEBOOKS} >= {"00_start_here", "01_elect_mask_rescale"}
