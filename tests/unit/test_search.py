"""The search: it finds, repeats, stops, and says what it cannot do."""

from __future__ import annotations

import threading

import pandas as pd
import pytest
import torch

import mergekit_nb as mk
from mergekit_nb.methods import Dare, TaskArithmetic, Ties

BASE = {"w": torch.zeros(3)}
EXPERTS = {"a": {"w": torch.tensor([1.0, 0, 0])}, "b": {"w": torch.tensor([0.0, 1, 0])}}
WANTED = torch.tensor([0.7, -0.4, 0])


def score(merged):
    """Best, 0, where the merge is what we want."""
    return -(merged.weights()["w"] - WANTED).square().sum().item()


@pytest.mark.parametrize(("optimizer", "near"), [("cma", 0.01), ("random", 0.15)])
def test_one_weight_per_task_is_found(optimizer, near):
    found = mk.search(
        TaskArithmetic(scale=1), BASE, EXPERTS, score, {"weights": [(-1, 1)] * 2}, 150, optimizer=optimizer
    )  # fmt: skip
    assert found.options["weights"] == pytest.approx((0.7, -0.4), abs=near)
    assert found.optimizer.startswith(optimizer)
    assert score(mk.merge(found.method, BASE, EXPERTS)) == found.score == found.history["score"].max()


def test_the_history_has_every_merge_and_starts_with_the_method_as_given():
    found = mk.search("task_arithmetic", BASE, EXPERTS, score, {"scale": (0, 1)}, 12)
    assert list(found.history.columns) == ["step", "scale", "score", "best"]
    assert len(found.history) == 12
    assert found.history["scale"][0] == 0.3
    assert found.history["best"].is_monotonic_increasing


def test_the_history_can_be_watched_as_it_grows():
    rows = []
    found = mk.search("task_arithmetic", BASE, EXPERTS, score, {"scale": (0, 1)}, 5, watch=rows.append)
    assert pd.DataFrame(rows).equals(found.history)


def test_the_same_seed_gives_the_same_search():
    one, again, other = (
        mk.search("task_arithmetic", BASE, EXPERTS, score, {"scale": (0, 1)}, 15, seed=s).history for s in (0, 0, 1)
    )
    assert one.equals(again)
    assert not one.equals(other)


def test_the_parts_of_a_composition_are_named():
    bounds = {"dare.drop": (0, 0.9), "ties.density": (0.1, 1)}
    found = mk.search(Dare() | Ties(), BASE, EXPERTS, score, bounds, 5)
    assert found.options.keys() == bounds.keys()
    assert found.method.label == "dare | ties"


def test_progress_and_cancel():
    flag, seen = threading.Event(), []

    def progress(done, total, text):
        seen.append((done, total, text))
        if done == 3:
            flag.set()

    with pytest.raises(mk.Cancelled):
        mk.search("task_arithmetic", BASE, EXPERTS, score, {"scale": (0, 1)}, 9, progress=progress, cancel=flag)
    assert seen[-1] == (3, 9, "search task_arithmetic by cma")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"sale": (0, 1)}, "task_arithmetic has no 'sale' to search; it has scale, weights"),
        ({"scale": (0, 9)}, r"TaskArithmetic.scale .* in \[-2, 5\]; got 9"),
        ({"scale": (1, 0)}, "low < high"),
        ({"scale": "01"}, r"bounds\['scale'\] is \(low, high\), or a list of such pairs, one per task; got '01'"),
        ({"scale": 1}, r"bounds\['scale'\] is \(low, high\), or a list of such pairs, one per task; got 1"),
        ({}, "nothing to search"),
    ],
)
def test_what_cannot_be_searched_is_named(bounds, said):
    with pytest.raises(ValueError, match=said):
        mk.search("task_arithmetic", BASE, EXPERTS, score, bounds, 3)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="is nan, not a number"):
        mk.search("task_arithmetic", BASE, EXPERTS, lambda merged: float("nan"), {"scale": (0, 1)}, 3)
