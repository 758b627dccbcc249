"""FR-Merging's filter against the authors' code."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.frequency import high_pass

from .cases import ids, params, related


@pytest.mark.parametrize("case", ids("free/fft"))
def test_the_authors_filtered_task_vector(case, device):
    golden, radius = related(case), params(case)["filter_ratio"]
    delta, expected = golden["in/delta"], golden["out/kept(band+high)"]
    assert_close(high_pass(delta, radius), expected, rtol=1e-5, atol=1e-6)
    zeros = {"blocks.0.mlp.weight": 0 * delta}
    experts = {"a": {"blocks.0.mlp.weight": delta}, "zero": zeros}
    merged = mk.merge("fr", zeros, experts, radius=radius, scale=1.0, device=device)
    assert_close(merged.vector["blocks.0.mlp.weight"], expected, rtol=1e-5, atol=1e-6)
