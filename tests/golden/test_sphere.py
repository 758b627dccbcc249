"""SLERP, NuSLERP, multi-SLERP and the Karcher mean against mergekit's code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk

from .cases import MANIFEST, ids, params, related

OVER = {-1: "last", 0: "first"}
DEGENERATE = "slerp/nuslerp_antiparallel_DEGENERATE"


def merged(method, points, device, base=None, **options):
    """The merge of tensors t -> "w"; on weights where there is no base, around the base where there is one."""
    on = "weights" if base is None else "task vectors"
    base = {"w": torch.zeros_like(points[0], dtype=torch.float32) if base is None else base}
    experts = {str(t): {"w": point} for t, point in enumerate(points)}
    return mk.merge(method, base, experts, on=on, device=device, **options).weights()["w"]


@pytest.mark.parametrize("case", ids("slerp/slerp_"))
def test_mergekits_slerp(case, device):
    golden, p = related(case), params(case)
    mine = merged("slerp", [golden["in/v0"], golden["in/v1"]], device, t=p["t"])
    assert_close(mine, golden["out/out"], **MANIFEST[case]["compare"])


@pytest.mark.parametrize("case", [case for case in ids("slerp/nuslerp_") if case != DEGENERATE])
def test_mergekits_nuslerp(case, device):
    golden, p = related(case), params(case)
    over = "tensor" if p.get("flatten") else OVER[p["dim"]]
    mine = merged("nuslerp", [golden["in/v0"], golden["in/v1"]], device, golden.get("in/base"), t=p["t"], over=over)
    assert_close(mine, golden["out/out"], **MANIFEST[case]["compare"])


def test_opposite_tensors_take_the_straight_line_where_mergekit_divides_rounding_noise(device):
    golden = related(DEGENERATE)
    mine = merged("nuslerp", [golden["in/v0"], -golden["in/v0"]], device, t=params(DEGENERATE)["t"])
    assert_close(mine, golden["out/lerp_would_be"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", ids("slerp/multislerp_"))
def test_mergekits_multislerp(case, device):
    golden, p = related(case), params(case)
    points = [golden[f"in/t{t}"] for t in range(len(p["weight"]))]
    mine = merged("multi_slerp", points, device, golden.get("in/base"), weights=tuple(p["weight"]))
    assert_close(mine, golden["out/out"], **MANIFEST[case]["compare"])


@pytest.mark.parametrize("case", ids("karcher/"))
def test_mergekits_karcher_mean(case, device):
    golden, p = related(case), params(case)
    points = [golden[f"in/t{t}"] for t in range(len(p["alphas"]))]
    options = {"weights": tuple(p["alphas"]), "iterations": p["max_iter"], "tolerance": p["tol"]}
    assert_close(merged("karcher", points, device, **options), golden["out/out"], **MANIFEST[case]["compare"])
