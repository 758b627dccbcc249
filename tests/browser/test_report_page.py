"""The report, opened from disk as someone who was sent it would."""

from __future__ import annotations

import pytest

from mergekit_nb import report
from mergekit_nb.compare import compare
from tests.browser.conftest import SHOTS
from tests.evaluation.tiny_world import world


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    tiny = world()
    frame = compare(["average", "emr"], tiny, limit=20)
    return report.write(tmp_path_factory.mktemp("report") / "report.html", frame, tiny), frame


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_draws_its_figures_and_asks_for_nothing(chromium, page_file, scheme):
    path, frame = page_file
    asked, crashed = [], []
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: crashed.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 6")
    drawn = page.evaluate("[...document.querySelector('.js-plotly-plot')._fullData.find(t => t.name == 'emr').y]")
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"report_{scheme}.png", full_page=True)
    offers = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(button => button.dataset.title)")
    page.close()
    assert drawn[: len(world().tasks)] == pytest.approx(frame[frame["method"] == "emr"]["accuracy"].tolist())
    assert asked == [path.as_uri()]
    assert crashed == []
    assert not [offer for offer in offers if "loud" in offer or "hare" in offer]
