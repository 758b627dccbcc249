"""TALL-masks and Consensus against the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.tall import tall_masks, votes

from .cases import ids, params, related

CASES = ids("tall_mask/")


def models(golden):
    return {"w": golden["in/flat_ptm"]}, {str(t): {"w": w} for t, w in enumerate(golden["in/flat_ft"])}


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("sum")])
def test_the_authors_masks_of_the_sum(case, device):
    golden, p = related(case), params(case)
    base, experts = models(golden)
    merged = mk.merge("tall_masks", base, experts, threshold=p["lambda"], device=device)
    taus = golden["in/flat_ft"] - base["w"]
    masks = torch.stack([merged.patches[t].mask["w"] for t in merged.tasks])
    assert torch.equal(masks, golden["out/masks"])
    for task, mask in zip(merged.tasks, golden["out/masks"], strict=True):
        assert_close(merged.weights(task)["w"], base["w"] + mask * taus.sum(0), rtol=1e-5, atol=1e-6)
    for k in (1, 2):
        merged = mk.merge("consensus", base, experts, threshold=p["lambda"], k=k, scale=1.0, device=device)
        assert_close(merged.vector["w"], golden[f"out/consensus_k{k}"] * taus.sum(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_authors_masks_of_any_vector(case):
    golden, p = related(case), params(case)
    taus = golden["in/flat_ft"] - golden["in/flat_ptm"]
    vector = golden.get("in/multi_task_vector", taus.sum(0))
    masks = tall_masks(taus, vector, torch.full((len(taus),), p["lambda"]))
    assert torch.equal(masks, golden["out/masks"])
    for k in (1, 2):
        assert torch.equal(votes(masks) >= k, golden[f"out/consensus_k{k}"])
