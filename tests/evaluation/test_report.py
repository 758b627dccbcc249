import re

import pytest

from mergekit_nb import report
from mergekit_nb.compare import compare, shown

from .tiny_world import world


@pytest.fixture(scope="module")
def tiny():
    return world()


@pytest.fixture(scope="module")
def frame(tiny):
    return compare(["average", "ties", "emr"], tiny, limit=20, tune_limit=10)


@pytest.fixture(scope="module")
def page(tiny, frame, tmp_path_factory):
    path = report.write(tmp_path_factory.mktemp("report") / "report.html", frame, tiny)
    return path.read_text(encoding="utf-8")


def test_the_page_holds_every_number_of_the_table(page, frame):
    for value in shown(frame).to_numpy().flatten():
        assert f"<td>{value}</td>" in page


def test_the_page_has_its_own_plotly_once_and_loads_nothing(page):
    assert page.count("plotly.js v") == 1
    assert len(re.findall(r"Plotly\.newPlot\(", page)) == 6
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", page)
    assert "default-src 'none'" in page


def test_no_figure_offers_to_upload(page):
    assert page.count('"showSendToCloud": false') == 6


def test_the_page_says_which_models_were_read(page, tiny):
    for name in ("base", *tiny.experts):
        assert re.search(rf"<dt>{name}, xxh3_128</dt><dd>[0-9a-f]{{32}}</dd>", page)
    assert "Scales were chosen on validation images" in page
