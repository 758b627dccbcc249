"""The commands on the embedded zoo, on a few images."""

import re

import pandas as pd
import pytest

import mergekit_nb as mk
from mergekit_nb import zoo
from mergekit_nb.cli import main
from mergekit_nb.compare import COLUMNS


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_demo_prints_the_table_and_writes_both_files(here, capsys):
    assert main(["demo", "--limit", "6", "--out", "made/here"]) == 0
    said = capsys.readouterr().out
    frame = pd.read_csv(here / "made/here/compare.csv", keep_default_na=False)
    tasks = zoo.load().tasks
    assert list(frame.columns) == COLUMNS
    assert list(frame["method"].unique()) == ["base", "individual", *mk.methods.taking(len(tasks))]
    assert list(frame["task"].unique()) == list(tasks)
    for method, mean in frame.groupby("method")["accuracy"].mean().items():
        assert re.search(rf"^ *{method} +{mean:.1%} \[", said, re.MULTILINE)
    report = (here / "made/here/report.html").read_text()
    assert "<h1>Merging clip8" in report
    assert "The figures show the headline methods" in report


def test_compare_runs_the_methods_named_and_writes_where_told(here, capsys):
    line = "compare --methods average,emr --limit 4 --split validation --no-tune --out a.csv"
    assert main(line.split()) == 0
    assert list(pd.read_csv("a.csv")["method"].unique()) == ["base", "individual", "average", "emr"]
    assert "average" in capsys.readouterr().out


def test_zoo_lists_names_and_shows_a_card(here, capsys):
    assert main(["zoo", "list"]) == 0
    assert capsys.readouterr().out.split() == list(zoo.NAMES)
    assert main(["zoo", "card"]) == 0
    assert capsys.readouterr().out.strip() == (zoo.load().path / "card.md").read_text().strip()
