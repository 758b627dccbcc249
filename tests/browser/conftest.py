"""A real Chromium on a real JupyterLab. Every test ends with: nothing left this machine, no script crashed, a picture kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.lab_server import Lab
from tests.browser.notebook_page import NotebookPage

ROOT = Path(__file__).parents[2]
SHOTS = Path(__file__).parent / "shots"
CHROMIUM = os.environ.get("MERGEKIT_NB_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
SIZE = {"width": 1280, "height": 1500}

BEGUN = """() => document.querySelector(".mk-walk-grid")?.dataset.step === "0"
  && document.querySelector(".mk-text").innerText.includes("stem")"""
WALK = """from mergekit_nb.widgets import EmrWalk
walk = EmrWalk()
walk"""
FEWER = {"03_the_family": ("images, choosing = 200, 25", "images, choosing = 20, 5")}
NEXT_CELL = "walk.state.layer = 'block 1'"
SIMILARITY = """from mergekit_nb.widgets import Similarity
similarity = Similarity(state=walk.state)
similarity"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or set MERGEKIT_NB_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on copies of the project's notebooks and on a small one of the tests."""
    folder = tmp_path_factory.mktemp("notebooks")
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        copy(notebook, folder)
    write(folder / "walk.ipynb", WALK, SIMILARITY, NEXT_CELL)
    with Lab(folder, tmp_path_factory.mktemp("private")) as server:
        yield server


def copy(notebook: Path, folder: Path) -> None:
    """The notebook; with fewer images where a run takes minutes, as `tests/notebooks` runs the whole of it."""
    text = notebook.read_text()
    if notebook.stem in FEWER:
        many, few = FEWER[notebook.stem]
        assert many in text, f"{notebook.name} does not say {many!r} any more"
        text = text.replace(many, few)
    (folder / notebook.name).write_text(text)


def write(path: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)


@contextmanager
def opened(chromium: Any, lab: Lab) -> Iterator[NotebookPage]:
    """An empty page; its kernel is ended with it."""
    context = chromium.new_context(viewport=SIZE)
    page = NotebookPage(context.new_page(), lab)
    yield page
    page.page.evaluate("async () => { await window.jupyterapp?.shell.currentWidget?.sessionContext?.shutdown() }")
    context.close()


def check(page: NotebookPage, name: str) -> None:
    """Keep a picture; nothing may have left this machine, and no script may have crashed."""
    SHOTS.mkdir(exist_ok=True)
    page.page.screenshot(path=SHOTS / f"{name}.png")
    assert not page.outside, f"asked for something outside this machine: {page.outside}"
    assert not page.crashes, page.crashes


@pytest.fixture
def notebook(chromium: Any, lab: Lab, request: pytest.FixtureRequest) -> Iterator[NotebookPage]:
    """An empty page for one test."""
    with opened(chromium, lab) as page:
        yield page
        check(page, request.node.name)


@pytest.fixture(scope="session")
def walked(chromium: Any, lab: Lab) -> Iterator[NotebookPage]:
    """The walk and a similarity panel on the zoo, run once for all tests: a kernel takes long to start."""
    with opened(chromium, lab) as page:
        page.open("walk.ipynb").run_all()
        for figure in (".mk-figure", ".mk-accuracy", ".mk-similarity"):
            page.plot(figure)
        page.begun = page.traces(".mk-figure")
        yield page


@pytest.fixture
def walk(walked: NotebookPage, request: pytest.FixtureRequest) -> Iterator[NotebookPage]:
    """The walk as it is when it is new."""
    walked.python(
        "walk.accuracy.job.cancel(); walk.state.layer, walk.state.step, walk.state.pick = 0, 0, 'most conflicting'"
    )
    walked.theme("light")
    walked.page.wait_for_function(BEGUN)
    yield walked
    check(walked, request.node.name)
