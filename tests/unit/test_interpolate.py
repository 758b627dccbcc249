"""Interpolation: who has what, and which branch goes how far."""

from __future__ import annotations

import pytest
import torch

import mergekit_nb as mk

A = {"visual.w": torch.zeros(2), "text.w": torch.zeros(2), "only_a": torch.ones(1), "steps": torch.tensor(1)}
B = {"visual.w": torch.ones(2), "text.w": torch.ones(2), "only_b": torch.full((1,), 2.0), "steps": torch.tensor(9)}


def test_tensors_of_one_side_are_named_before_anything_is_made():
    with pytest.raises(ValueError, match="(?s)one_sided=.*only_a: only a has it.*only_b: only b has it"):
        mk.interpolate(A, B)


def test_each_policy_says_what_is_kept():
    assert "only_b" not in mk.interpolate(A, B, [0.5], one_sided="keep_first")[0.5]
    own = mk.interpolate(A, B, [0.5], one_sided="keep_own")[0.5]
    assert own["only_b"].item() == 2
    assert own["only_a"].item() == 1
    assert own["steps"].item() == 1


def test_branches_go_their_own_way():
    path = mk.interpolate(A, B, [0.0, 1.0], one_sided="keep_first", branches={"visual.*": 0.25})
    assert [path[x]["visual.w"][0].item() for x in (0.0, 1.0)] == [0.25, 0.25]
    assert [path[x]["text.w"][0].item() for x in (0.0, 1.0)] == [0, 1]
    with pytest.raises(ValueError, match="no tensor fits 'vision"):
        mk.interpolate(A, B, one_sided="keep_first", branches={"vision.*": 0.25})


def test_the_ends_are_the_models_to_the_bit(base, experts):
    path = mk.interpolate(base, experts["cars"], [0, 1])
    for x, model in ((0.0, base), (1.0, experts["cars"])):
        assert all(torch.equal(path[x][n], w) for n, w in model.items() if w.is_floating_point())


def test_cancelled_when_asked(base, experts):
    import threading

    flag = threading.Event()
    flag.set()
    with pytest.raises(mk.Cancelled):
        mk.interpolate(base, experts["cars"], cancel=flag)


@pytest.mark.parametrize("x", [float("nan"), float("inf")])
def test_a_way_that_is_no_number_is_refused(base, experts, x):
    with pytest.raises(ValueError, match="weights are finite numbers; got"):
        mk.interpolate(base, experts["cars"], [x])


def test_broken_weights_are_named(base, experts):
    experts["cars"]["stem.weight"][0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"^stem\.weight: the sum is NaN or infinite; is it in one of a, b"):
        mk.interpolate(base, experts["cars"], [0.5])
