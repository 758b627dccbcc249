"""Competition on the embedded zoo, operated by keyboard and mouse: one journey, and what must hold for every panel."""

from collections.abc import Iterator
from typing import Any

import pytest

from mergekit_nb.widgets.competition.words import ABOUT
from tests.browser.conftest import SHOTS, check, opened, write
from tests.browser.lab_server import Lab
from tests.browser.notebook_page import NotebookPage
from tests.browser.test_walk import NAMELESS, OVERFLOWING, STEP_IS, TEXT_HAS

CELL = """from mergekit_nb.widgets import Competition
pcb = Competition()
pcb"""
GRID = ".mk-walk-grid"
SEARCH_SAYS = "start => document.querySelector('.mk-search-say').innerText.startsWith(start)"
TRIALS = """least => { const plot = document.querySelector('.mk-search.js-plotly-plot, .mk-search .js-plotly-plot');
  return (plot._fullData[0].x?.length ?? 0) >= least; }"""


@pytest.fixture(scope="module")
def panel(chromium: Any, lab: Lab) -> Iterator[NotebookPage]:
    """The panel on the zoo, run once."""
    write(lab.folder / "competition.ipynb", CELL)
    with opened(chromium, lab) as page:
        page.open("competition.ipynb").run_all()
        for figure in (".mk-figure", ".mk-accuracy", ".mk-search"):
            page.plot(figure)
        yield page
        check(page, "competition")


def survivors(panel):
    return panel.traces(".mk-figure")[0]["z"]


def test_the_journey(panel):
    page = panel.page
    for step, glyphs in enumerate(["+−0", "+−0", "▲▼0", "+−0×", "+−0·"]):
        page.locator(".mk-step button").nth(step).click()
        page.wait_for_function(STEP_IS, arg=str(step))
        assert set(page.locator(f"{GRID} td[data-row='0']").all_inner_texts()) <= set(glyphs)
    assert page.locator(f"{GRID} td.win").count() > 0
    panel.slide(".mk-layer", -2)
    page.wait_for_function(TEXT_HAS, arg="block 1")
    before = survivors(panel)
    page.locator(".mk-variant select").select_option(index=list(ABOUT).index("C"))
    page.wait_for_function("() => document.querySelector('.mk-busy').innerText === ''")
    panel.python("pcb.job.wait(60); assert pcb.contest.method.variant == 'C'")
    page.wait_for_timeout(300)
    assert survivors(panel) != before
    page.locator(".mk-search-run").click()
    page.wait_for_function(TRIALS, arg=2, timeout=60_000)
    page.locator(".mk-search-run").click()
    page.wait_for_function(SEARCH_SAYS, arg="Cancelled after", timeout=5_000)
    assert page.locator(".mk-search-run").inner_text() == "Search"
    assert panel.value("len(pcb.search.history)") >= 2
    assert not panel.problems()


def test_the_grid_by_keyboard(panel):
    page = panel.page
    page.locator(f"{GRID} td[data-row='2'][data-column='4']").click()
    page.keyboard.press("3")
    page.wait_for_function(STEP_IS, arg="3")
    said = page.locator(f"{GRID} .live").inner_text()
    assert said.startswith("kana, weight ")
    assert "threshold" in said
    page.keyboard.press("ArrowDown")
    assert page.locator(f"{GRID} .live").inner_text().startswith("quickdraw, weight ")
    page.wait_for_function("() => document.querySelector('.mk-figure').innerHTML.includes('Scores of quickdraw')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_control_has_a_name_and_nothing_sticks_out(panel, theme):
    panel.theme(theme)
    panel.page.wait_for_timeout(500)
    panel.page.locator(".mk-panel").first.screenshot(path=SHOTS / f"competition-{theme}.png")
    assert panel.page.evaluate(NAMELESS) == []
    assert panel.page.evaluate(OVERFLOWING) == []
