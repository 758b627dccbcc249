"""Tune on the embedded zoo, operated by keyboard and mouse: one journey, and what must hold for every panel."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import check, opened, write
from tests.browser.lab_server import Lab
from tests.browser.notebook_page import NotebookPage
from tests.browser.test_walk import NAMELESS, OVERFLOWING

CELL = """from mergekit_nb.widgets import Tune
tune = Tune(method="ties", limit=25)
tune"""
SAYS = "text => document.querySelector('.mk-tune-say').innerText.includes(text)"
MEASURED = """text => { const said = document.querySelector('.mk-tune-say').innerText;
  return said.includes(text) && said.includes('is right on') && document.querySelector('.mk-run').innerText === 'Measure'; }"""
LONG = 300_000  # ms; a busy machine takes its time


@pytest.fixture(scope="module")
def panel(chromium: Any, lab: Lab) -> Iterator[NotebookPage]:
    """The panel on the zoo, run once."""
    write(lab.folder / "tune.ipynb", CELL)
    with opened(chromium, lab) as page:
        page.open("tune.ipynb").run_all()
        until(page, MEASURED, "Ties()")
        yield page
        check(page, "tune")


def until(panel: NotebookPage, what: str, arg: str, timeout: int = LONG) -> None:
    """Wait by the clock, not by frames: a busy machine draws few."""
    panel.page.wait_for_function(what, arg=arg, timeout=timeout, polling=250)


def now(panel):
    return next(trace["y"] for trace in panel.traces(".mk-tune") if trace["name"].startswith("this setting"))


def test_the_journey(panel):
    page, before = panel.page, now(panel)
    panel.slide(".mk-knob-density", 1)
    until(panel, MEASURED, "Ties(density=0.25)")
    assert panel.value("tune.state.method.density") == 0.25
    assert now(panel) != before
    page.locator(".mk-main select").select_option("task_arithmetic")
    until(panel, MEASURED, "TaskArithmetic()")
    panel.drag(".mk-knob-scale", 1.0)
    until(panel, MEASURED, "TaskArithmetic(scale=5.0)")
    assert now(panel)[-1] < before[-1], "five times the sum of eight task vectors is too much"
    page.locator(".mk-after select").select_option("lines")
    until(panel, MEASURED, "TaskArithmetic(scale=5.0) | mk.methods.Lines()")
    panel.python("tune.state.method = 'emr'")
    until(panel, MEASURED, "Emr()")
    assert page.locator(".mk-main select").input_value() == "emr"
    assert now(panel)[-1] > before[-1]
    page.locator(".mk-images select").select_option(label="all")
    page.wait_for_function("() => document.querySelector('.mk-run').innerText === 'Cancel'")
    page.locator(".mk-run").click()
    until(panel, SAYS, "Cancelled.", 5_000)
    assert not panel.problems()


def test_every_control_has_a_name_and_nothing_sticks_out(panel):
    panel.python("import mergekit_nb as mk; tune.state.limit = 25")
    panel.python("tune.state.method = mk.methods.Dare() | mk.methods.Pcb(scale=(1.0,) * 8) | mk.methods.Lines()")
    until(panel, MEASURED, "Lines()")
    assert panel.page.evaluate(NAMELESS) == []
    assert panel.page.evaluate(OVERFLOWING) == []


def test_the_figure_follows_the_theme(panel):
    for theme, colour in (("dark", "#d6d6d6"), ("light", "#424242")):
        panel.theme(theme)
        panel.page.wait_for_function(
            "colour => document.querySelector('.mk-tune .js-plotly-plot, .mk-tune.js-plotly-plot')._fullLayout.font.color === colour",
            arg=colour,
        )
