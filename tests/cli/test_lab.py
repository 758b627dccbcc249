import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mergekit_nb import lab


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """An installed copy of two notebooks, and an empty current folder."""
    installed = tmp_path / "lib" / "site-packages" / "notebooks"
    installed.mkdir(parents=True)
    for name in ("00_start.ipynb", "01_more.ipynb", "helper.py"):
        (installed / name).write_text("{}")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(lab, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(installed)]))
    return installed


def test_installed_notebooks_are_copied_once_and_the_first_is_opened(notebooks):
    copy = Path.cwd() / lab.COPY
    assert lab.find() == copy / "00_start.ipynb"
    assert sorted(path.name for path in copy.iterdir()) == ["00_start.ipynb", "01_more.ipynb"]
    (copy / "00_start.ipynb").write_text("mine")
    assert lab.find("01") == copy / "01_more.ipynb"
    assert (copy / "00_start.ipynb").read_text() == "mine"


def test_a_checkouts_notebooks_are_opened_where_they_are(notebooks, tmp_path, monkeypatch):
    checkout = tmp_path / "checkout" / "notebooks"
    checkout.parent.mkdir()
    notebooks.rename(checkout)
    monkeypatch.setattr(lab, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(checkout)]))
    assert lab.find("01_more.ipynb") == checkout / "01_more.ipynb"
    assert not list(Path.cwd().iterdir())


def test_jupyterlab_is_started_on_that_notebook_and_asks_no_news(notebooks):
    line = lab.command("01", ["--no-browser"])
    assert line[:3] == [sys.executable, "-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/01_more.ipynb" in line
    assert {*lab.OFFLINE, "--no-browser"} < set(line)


def test_an_unknown_notebook_is_answered_with_those_there_are(notebooks):
    with pytest.raises(FileNotFoundError, match="no notebook 99; there are 00_start, 01_more"):
        lab.find("99")
