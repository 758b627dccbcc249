"""The family's figures: numbers in the right cells, colours that mean what they say, rows in the right order."""

import numpy as np
import pandas as pd
import pytest

from mergekit_nb.plots.family import accuracy_map, leaderboard, recovered

FAMILIES = {"ties": "prune", "dare": "prune", "emr": "masks"}
ACCURACY = {
    "base": (0.5, 0.6),
    "individual": (0.9, 0.6),
    "ties": (0.7, 0.5),
    "emr": (0.8, 0.6),
    "dare": (0.4, 0.7),
}


@pytest.fixture
def table():
    rows = [
        (method, task, share, share - 0.02, share + 0.02, 0.0 if method in ("base", "individual") else 0.5, 1_500_000)
        for method, shares in ACCURACY.items()
        for task, share in zip(("zebra", "mnist"), shares, strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "task", "accuracy", "low", "high", "seconds", "bytes"])


def test_the_way_from_base_to_expert():
    grid = pd.DataFrame(ACCURACY, index=["zebra", "mnist"]).T
    way = recovered(grid)
    assert way.loc["ties", "zebra"] == pytest.approx(0.5)
    assert way.loc["dare", "zebra"] == pytest.approx(-0.25)
    assert way["mnist"].isna().all(), "the expert is no better than the base there"


def test_every_cell_says_its_own_accuracy(table):
    fig = accuracy_map(table, FAMILIES)
    wide = table.pivot(index="method", columns="task", values="accuracy").assign(mean=lambda w: w.mean(axis=1))
    said = {(y, x): text for trace in fig.data[1:] for y, x, text in zip(trace.y, trace.x, trace.text, strict=True)}
    assert len(said) == 5 * 3
    for (method, task), text in said.items():
        assert text == f"{wide.loc[method, task]:.0%}"


def test_rows_are_grouped_and_sorted(table):
    assert list(accuracy_map(table, FAMILIES).data[0].y) == ["individual", "base", "ties", "dare", "emr"]
    fig = leaderboard(table, FAMILIES)
    assert list(fig.layout.yaxis.categoryarray)[::-1] == ["individual", "emr", "ties", "base", "dare"]


def test_families_are_named_beside_their_rows(table):
    fig = accuracy_map(table, FAMILIES)
    assert {note.text: note.y for note in fig.layout.annotations} == {"prune": 2.5, "masks": 4}
    assert [line.y0 for line in fig.layout.shapes] == [1.5, 3.5]
    assert not accuracy_map(table).layout.annotations


def test_the_leaderboards_columns_are_the_tables(table):
    fig = leaderboard(table, FAMILIES)
    ties = [trace for trace in fig.data if trace.name == "prune"]
    assert [list(trace.y) for trace in ties] == [["ties", "dare"]] * 3
    np.testing.assert_allclose(ties[0].x, [0.6, 0.55])
    assert list(ties[1].x) == [1.5, 1.5]
    assert list(ties[2].x) == [0.5, 0.5]
    assert (fig.layout.xaxis2.type, fig.layout.xaxis3.type) == ("log", "log")
    none = next(t for t in fig.data if t.name == "not merged" and t.xaxis == "x3")
    assert np.isnan(np.array(none.x, dtype=float)).all(), "what takes no merging has no time"


def test_without_families_all_merges_look_the_same(table):
    assert {trace.name for trace in leaderboard(table).data} == {"merges", "not merged"}
    assert accuracy_map(table).data[0].y[0] == "individual"
