"""WUDI against the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.interference import normal_equations

from .cases import MANIFEST, ids, params, related


def merged(taus, device, **options):
    experts = {str(t): {"w": tau} for t, tau in enumerate(taus)}
    return mk.merge("wudi", {"w": torch.zeros_like(taus[0])}, experts, device=device, **options).vector["w"]


@pytest.mark.parametrize("case", ids("wudi/"))
def test_the_authors_merged_task_vector(case, device):
    golden, p = related(case), params(case)
    mine = merged(golden["in/task_vectors"], device, iterations=p["iter_num"], rate=p["lr"])
    assert_close(mine, golden["out/merged_tv"], **MANIFEST[case]["compare"])


def test_the_closed_form_is_where_adam_is_heading(device):
    taus = related("wudi/iters300")["in/task_vectors"]

    def interference(m):
        return sum(((m - t) @ t.T).square().sum() / t.square().sum() for t in taus)

    start, near, there = (
        interference(m) for m in (taus.sum(0), merged(taus, device), merged(taus, device, solver="closed form"))
    )
    assert there < near < start
    gram, target = normal_equations(taus)
    assert_close(merged(taus, device, solver="closed form").double() @ gram, target, rtol=1e-4, atol=1e-6)
