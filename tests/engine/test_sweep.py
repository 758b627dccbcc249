"""Grids of hyper-parameters."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd
import pytest

import mergekit_nb as mk
from mergekit_nb.methods import Dare, Ties
from tests.engine.models_on_disk import write_models


def length(merged) -> float:
    return float(sum((vector.double() ** 2).sum() for vector in merged.vector.values()) ** 0.5)


def two_numbers(merged) -> dict[str, float]:
    return {"length": length(merged), "tasks": len(merged.tasks)}


def test_a_row_for_every_combination_in_order(base, experts):
    found = mk.sweep("ties", base, experts, length, {"density": [0.5, 1.0], "scale": [0.0, 1.0, 2.0]})
    assert list(found.columns) == ["density", "scale", "score"]
    assert found[["density", "scale"]].values.tolist() == [[d, s] for d in (0.5, 1.0) for s in (0.0, 1.0, 2.0)]
    assert found["score"][0] == 0
    assert found["score"][2] == pytest.approx(2 * found["score"][1])
    assert found["score"][1] == length(mk.merge("ties", base, experts, density=0.5, scale=1.0))


def test_several_numbers_and_parts_of_a_composition(base, experts):
    found = mk.sweep(Dare(drop=0.5) | Ties(), base, experts, two_numbers, {"ties.density": [0.2, 1.0]})
    assert list(found.columns) == ["ties.density", "length", "tasks"]
    at_one = mk.merge(Dare(drop=0.5) | Ties(density=1.0), base, experts)
    assert found["length"][1] == length(at_one) != found["length"][0]


def test_processes_find_the_same(tmp_path):
    models, grid = write_models(tmp_path), {"scale": [0.1, 0.2, 0.3]}
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        there = mk.sweep("task_arithmetic", *models, length, grid, executor=pool)
    pd.testing.assert_frame_equal(there, mk.sweep("task_arithmetic", *models, length, grid))


def test_mistakes_are_found_before_anything_is_merged(base, experts):
    never = []
    with pytest.raises(ValueError, match=r"ties has no 'densty'"):
        mk.sweep("ties", base, experts, never.append, {"densty": [0.1]})
    with pytest.raises(ValueError, match=r"Ties.density is a fraction of entries kept, in \[0, 1\]; got 20"):
        mk.sweep("ties", base, experts, never.append, {"density": [0.1, 20]})
    for empty in ({}, {"density": []}):
        with pytest.raises(ValueError, match="grid names nothing to try"):
            mk.sweep("ties", base, experts, never.append, empty)
    for single in (0.2, "dis-mean"):
        with pytest.raises(ValueError, match=r"grid\['merge_as'\] is a list of values to try; got"):
            mk.sweep("ties", base, experts, never.append, {"merge_as": single})
    assert not never
    with pytest.raises(ValueError, match=r"score of \{'density': 0.1\} is nan, not a number"):
        mk.sweep("ties", base, experts, lambda merged: float("nan"), {"density": [0.1]})
