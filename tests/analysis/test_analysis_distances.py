"""Squared distances between task vectors and their share of a merge, as the share is scaled."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from mergekit_nb.analysis import distances
from mergekit_nb.engine.merge import merge

NAMES = {"a.weight": (3, 4), "a.bias": (4,)}


def world(seed, tasks=3):
    make = torch.Generator().manual_seed(seed)
    base = {name: torch.randn(shape, generator=make) for name, shape in NAMES.items()}
    experts = {
        f"task {t}": {name: tensor + 0.1 * torch.randn(tensor.shape, generator=make) for name, tensor in base.items()}
        for t in range(tasks)
    }
    return base, experts, merge("emr", base, experts)


def flat(source):
    return np.concatenate([source[name].double().numpy().ravel() for name in NAMES])


@given(st.integers(0, 2**31), st.floats(-2, 2))
def test_the_parabola_equals_the_flat_distance(seed, scale):
    base, experts, merged = world(seed)
    table = distances(base, experts, merged, [scale]).set_index("task")
    for task, expert in experts.items():
        share = flat(merged.vector) * flat(merged.patches[task].mask)
        expected = np.square(flat(expert) - flat(base) - scale * share).sum()
        assert_allclose(table.loc[task, "distance"], expected, rtol=1e-9, atol=1e-12)


def test_by_default_base_mask_and_the_rescaler_in_use_are_measured():
    base, experts, merged = world(0)
    table = distances(base, experts, merged)
    assert list(table["scale"][:3]) == [0, 1, merged.patches["task 0"].scale]
    at_base = table[table["scale"] == 0].set_index("task")["distance"]
    for task, expert in experts.items():
        assert_allclose(at_base[task], np.square(flat(expert) - flat(base)).sum())


def test_the_rescaler_can_lead_away_from_the_task_vector():
    # tau = (1, -1), (1, 2): elected (1, 2); a keeps (1, 0), mean size 1/2 against its 1, so lambda 2 and (2, 0)
    # squared distances of a: 1 with the mask, 1 + 1 = 2 with lambda; b is met exactly
    base = {"w": torch.zeros(2)}
    experts = {"a": {"w": torch.tensor([1.0, -1.0])}, "b": {"w": torch.tensor([1.0, 2.0])}}
    table = distances(base, experts, merge("emr", base, experts, rescale="global"))
    assert list(table["distance"]) == [2, 1, 2, 5, 0, 0]


def test_a_merge_without_masks_has_no_share_to_scale():
    base, experts, _ = world(0)
    with pytest.raises(ValueError, match="no masks for task 0, task 1, task 2"):
        distances(base, experts, merge("average", base, experts))
