"""SCE against the authors' code and mergekit's."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.select import energy_shares, select

from .cases import ids, params, related


@pytest.mark.parametrize("case", ids("sce/"))
def test_the_merged_weights(case, device):
    golden, topk = related(case), params(case)["select_topk"]
    tasks = sorted(key.removeprefix("in/") for key in golden if key.startswith("in/ft"))
    experts = {t: {"w": golden[f"in/{t}"]} for t in tasks}
    merged = mk.merge(
        "sce", {"w": golden["in/base"]}, experts, select_topk=topk, device=device,
        merges="all" if "official" in case else "selected",
    )  # fmt: skip
    assert_close(merged.weights()["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ids("sce/official"))
def test_the_authors_weights_of_tasks(case):
    golden, topk = related(case), params(case)["select_topk"]
    tasks = sorted(key.removeprefix("in/") for key in golden if key.startswith("in/ft"))
    taus = mk.TaskVectors.of({"w": golden["in/base"]}, {t: {"w": golden[f"in/{t}"]} for t in tasks}).at("w")
    assert_close(energy_shares(taus * select(taus, topk)), golden["out/weights"].flatten(), rtol=1e-5, atol=1e-6)
