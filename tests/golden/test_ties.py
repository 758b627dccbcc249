"""TIES against the authors' code, and against MergeLM's, mergekit's and PEFT's."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.methods import Ties
from mergekit_nb.weights.site import Site

from .cases import ids, params, related, under

MERGELM = ids("ties/mergelm")
AUTHORS = [case for case in ids("ties/") if case not in MERGELM]


def density(k) -> float:
    if k == "none":
        return 1.0
    return k / 100 if k > 1 else k


@pytest.mark.parametrize("case", AUTHORS)
def test_the_authors_flat_vectors(case, device):
    golden, p = related(case), params(case)
    taus = golden["in/task_vectors"]
    method = Ties(density=density(p["K"]), elect=p["resolve"], merge_as=p["merge_func"])
    merged = mk.merge(
        method, {"w": torch.zeros_like(taus[0])}, {str(t): {"w": tau} for t, tau in enumerate(taus)}, device=device
    )
    assert_close(merged.vector["w"], golden["out/merged_tv"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", [case for case in AUTHORS if "out/trim_mask" in related(case)])
def test_the_authors_trim(case):
    golden, p = related(case), params(case)
    taus = golden["in/task_vectors"]
    method, site = Ties(density=density(p["K"])), Site("w", tuple(taus.shape[1:]), tuple("abcd"))
    totals = ()
    for _ in range(2):
        totals += (method.measure(site, taus, totals),)
    assert torch.equal(method._keep(taus, totals), golden["out/trim_mask"])


@pytest.mark.parametrize("case", MERGELM)
def test_mergelms_models(case, device):
    golden, p = related(case), params(case)
    tasks = sorted({key.split("/")[1] for key in golden if key.startswith("in/ft")})
    size = sum(weight.numel() for weight in under(golden, "in/base/").values())
    kept = size - int(
        size * p["param_value_mask_rate"]
    )  # MergeLM counts what it drops, so a half entry more is asked for
    method = Ties(density=(kept + 0.5) / size, scale=p["scaling_coefficient"])
    merged = mk.merge(method, under(golden, "in/base/"), {t: under(golden, f"in/{t}/") for t in tasks}, device=device)
    for name, weight in under(golden, "out/").items():
        assert_close(merged.weights()[name], weight, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("case", ids("mergekit/ties"))
def test_mergekits_ties(case, device):
    golden, p = related(case), params(case)
    method = Ties(
        density=p["density"], scale=p["resolved"]["lambda"], weights=tuple(p["weights"]), scope="tensor",
        zero_sign="positive", divide_by="weights", merge_as="dis-mean" if p["resolved"]["normalize"] else "dis-sum",
    )  # fmt: skip
    experts = {t: {"w": golden[f"in/{t}"]} for t in ("ft0", "ft1", "ft2")}
    merged = mk.merge(method, {"w": golden["in/base"]}, experts, device=device)
    assert_close(merged.weights()["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("case", "elect"), [("peft/ties_total_d0p3", "mass"), ("peft/ties_frequency_d0p5", "frequency")]
)
def test_pefts_ties(case, elect, device):
    golden = related(case)
    method = Ties(
        density=float(case.rpartition("_d")[2].replace("p", ".")), weights=tuple(golden["in/weights"].tolist()),
        scope="tensor", zero_sign="positive", elect=elect,
    )  # fmt: skip
    experts = {t: {"w": golden[f"in/{t}"]} for t in ("t0", "t1", "t2")}
    merged = mk.merge(method, {"w": 0 * golden["in/t0"]}, experts, device=device)
    assert_close(merged.vector["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)
