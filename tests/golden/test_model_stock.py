"""Model Stock against mergekit's; the authors released no code."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

import mergekit_nb as mk

from .cases import ids, params, related


@pytest.mark.parametrize(("kind", "out"), [("ft", "merged"), ("corr", "merged_corr")])
@pytest.mark.parametrize("case", ids("model_stock/"))
def test_mergekits_weights(case, kind, out, device):
    golden, p = related(case), params(case)
    experts = {str(i): {"w": golden[f"in/{kind}{i}"]} for i in range(p["N"])}
    scope = "row" if p["filter_wise"] else "tensor"
    merged = mk.merge("model_stock", {"w": golden["in/base"]}, experts, scope=scope, device=device)
    assert_close(merged.weights()["w"], golden[f"out/{out}"], rtol=1e-5, atol=1e-6)
