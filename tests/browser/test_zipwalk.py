"""ZipWalk on the embedded strangers, operated by keyboard and mouse: one journey, and what must hold for every panel."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import SHOTS, check, opened, write
from tests.browser.lab_server import Lab
from tests.browser.notebook_page import NotebookPage
from tests.browser.test_walk import NAMELESS, OVERFLOWING

CELL = """from mergekit_nb.widgets import ZipWalk
walk = ZipWalk()
walk"""
MEASURED = """text => document.querySelector('.mk-zip-say').innerText.includes(text)
  && document.querySelector('.mk-zip-say').innerText.includes('is right on')"""
IDLE = "() => document.querySelector('.mk-run').innerText === 'Measure'"
BUSY = "() => document.querySelector('.mk-run').innerText === 'Cancel'"
HAS = "([css, text]) => document.querySelector(css).innerText.includes(text)"
HAS_NOT = "([css, text]) => !document.querySelector(css).innerText.includes(text)"
LOADED = "() => [...document.querySelectorAll('.mk-sheet img')].every(i => i.complete && i.naturalWidth > 0 && i.alt)"
LONG = 300_000  # ms; a busy machine takes its time


@pytest.fixture(scope="module")
def panel(chromium: Any, lab: Lab) -> Iterator[NotebookPage]:
    """The panel on the first pair, run once."""
    write(lab.folder / "zipwalk.ipynb", CELL)
    with opened(chromium, lab) as page:
        page.open("zipwalk.ipynb").run_all()
        for figure in (".mk-zip", ".mk-matrix"):
            page.plot(figure)
        page.page.wait_for_function(MEASURED, arg="networks", timeout=LONG)
        page.page.wait_for_selector(".mk-sheet img", state="attached", timeout=LONG)
        page.page.wait_for_function(IDLE, timeout=LONG)
        yield page
        check(page, "zipwalk")


def trace(panel, css, name):
    return next(trace for trace in panel.traces(css) if trace["name"].startswith(name))


def test_the_boundary_by_keyboard(panel):
    ensemble = trace(panel, ".mk-zip", "on show")["y"]
    panel.slide(".mk-boundary", 2)
    panel.page.wait_for_function(MEASURED, arg='stop_at="layer2"', timeout=LONG)
    assert panel.value("walk.state.boundary") == "layer2"
    now = trace(panel, ".mk-zip", "on show")["y"]
    assert now == pytest.approx(panel.value("walk.known[walk.state.key()].table['accuracy'].tolist()"))
    assert now != ensemble
    assert len(trace(panel, ".mk-zip", "zip")["y"]) == len(panel.value("list(walk.study.boundaries)")) - 1
    assert not panel.problems()


def test_the_layer_and_a_click_on_a_pair(panel):
    page = panel.page
    before = panel.traces(".mk-matrix")[0]["z"]
    panel.slide(".mk-layer", 1)
    page.wait_for_function(HAS, arg=[".mk-layer-say", "layer1:"])
    page.wait_for_timeout(500)
    assert panel.traces(".mk-matrix")[0]["z"] != before
    wanted = panel.value("walk.groups.options[5][1]")  # the sixth from above
    name = panel.value("walk.study.names('layer1')[walk.found.groups[walk.groups.options[5][1]][0]]")
    row = panel.value(f"list(walk.matrix.data[0].y).index({name!r})")
    plot = page.locator(".mk-matrix .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box, cells = plot.bounding_box(), len(panel.traces(".mk-matrix")[0]["z"])
    x, y = box["x"] + box["width"] * 0.5, box["y"] + box["height"] * (row + 0.5) / cells
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    page.wait_for_function(HAS, arg=[".mk-sheet", name])
    assert panel.value("walk.state.group") == wanted
    page.wait_for_function(LOADED)


def test_the_groups_by_arrow_keys(panel):
    page, before = panel.page, panel.value("walk.state.group")
    said = page.locator(".mk-sheet").inner_text()
    page.locator(".mk-group select").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("said => document.querySelector('.mk-sheet').innerText !== said", arg=said)
    assert panel.value("walk.state.group") != before
    page.locator(".mk-order button").nth(1).click()
    page.wait_for_function(
        "() => document.querySelector('.mk-matrix .js-plotly-plot, .mk-matrix.js-plotly-plot')"
        "._fullLayout.xaxis.ticktext?.length === 2"
    )


def test_cancel_and_a_cell(panel):
    page = panel.page
    panel.slide(".mk-alpha", 2)
    page.wait_for_function(BUSY, timeout=LONG)
    page.locator(".mk-run").click()
    page.wait_for_function(HAS, arg=[".mk-zip-say", "Cancelled."], timeout=5_000)
    page.wait_for_function(IDLE)
    panel.python("walk.state.boundary = 'layer3'; walk.state.method = 'permute'")
    page.wait_for_function(MEASURED, arg='matching="permute", stop_at="layer3"', timeout=LONG)
    assert not panel.problems()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_control_has_a_name_and_nothing_sticks_out(panel, theme):
    panel.python("walk.state.method = 'zip'; walk.state.alpha = 0.3; walk.state.order = 'by group'")
    panel.page.wait_for_function(MEASURED, arg="alpha=0.3", timeout=LONG)
    panel.page.wait_for_function(IDLE, timeout=LONG)
    panel.theme(theme)
    panel.page.wait_for_timeout(1500)
    panel.page.locator(".mk-panel").first.screenshot(path=SHOTS / f"zipwalk-{theme}.png")
    assert panel.page.evaluate(NAMELESS) == []
    assert panel.page.evaluate(OVERFLOWING) == []
