"""Breadcrumbs against the authors' code, and against mergekit's."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.methods import Breadcrumbs, Ties

from .cases import ids, params, related, under

BUG = "mergekit/sparsify_outliers_d0p6_g0_BUG_allzero"
OUTLIERS = [case for case in ids("mergekit/sparsify_outliers") if case != BUG]


@pytest.mark.parametrize("case", ids("breadcrumbs/"))
def test_the_authors_masks(case, device):
    golden, p = related(case), params(case)
    tau = under(golden, "in/")
    method = Breadcrumbs(
        density=p["top_k_keep"], remove=p["top_k_remove"], first="remove" if p["remove_first"] else "keep", scale=1
    )
    zeros = {name: 0 * t for name, t in tau.items()}
    merged = mk.merge(method, zeros, {"a": tau, "zero": zeros}, device=device)
    for name, expected in under(golden, "out/").items():
        assert_close(merged.vector[name], expected, rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("case", ids("mergekit/breadcrumbs_"))
def test_mergekits_breadcrumbs(case, device):
    golden, p = related(case), params(case)
    options = {"density": p["density"], "remove": p["gamma"], "scope": "tensor"}
    weights, scale = tuple(p["weights"]), p["resolved"]["lambda"]
    if "ties" in case:
        then = Ties(
            density=1, weights=weights, scale=scale, zero_sign="positive", merge_as="dis-sum", divide_by="weights"
        )
        method = Breadcrumbs(**options) | then
    else:
        method = Breadcrumbs(**options, weights=weights, scale=scale)
    experts = {t: {"w": golden[f"in/{t}"]} for t in ("ft0", "ft1", "ft2")}
    merged = mk.merge(method, {"w": golden["in/base"]}, experts, device=device)
    assert_close(merged.weights()["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", OUTLIERS)
def test_mergekits_sparsify(case):
    density, remove = (float(part[1:].replace("p", ".")) for part in case.split("_")[2:4])
    assert_close(pruned(case, density, remove), related(case)["out/out"], rtol=1e-5, atol=1e-7)


def test_a_share_too_small_to_remove_anything_removes_nothing_where_mergekit_zeroes_all():
    assert not related(BUG)["out/out"].any()
    kept = pruned(BUG, 0.6, 1e-3)
    assert int((kept != 0).sum()) == int(0.6 * kept.numel())


def pruned(case, density, remove):
    x = related(case)["in/x"]
    taus = mk.TaskVectors.of({"w": 0 * x}, {"a": {"w": x}})
    return Breadcrumbs(density=density, remove=remove, scope="tensor").edit(taus.site("w"), taus.at("w"))[0]
