"""LiNeS against the authors' code."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.methods import Lines, TaskArithmetic

from .cases import ids, params, related, under


@pytest.mark.parametrize("blocks", [None, tuple(f"*.{i}.*" for i in range(4))])
@pytest.mark.parametrize("case", ids("lines/"))
def test_the_authors_scaled_task_vector(case, blocks, device):
    golden, p = related(case), params(case)
    tau = under(golden, "in/")
    zeros = {name: 0 * t for name, t in tau.items()}
    lines = Lines(alpha=p["alpha"], beta=p["beta"], blocks=blocks)
    for method in (lines, TaskArithmetic(scale=1) | lines):
        merged = mk.merge(method, zeros, {"a": tau, "zero": zeros}, device=device)
        for name, expected in under(golden, "out/").items():
            assert_close(merged.vector[name], expected, rtol=1e-5, atol=1e-7, msg=name)
