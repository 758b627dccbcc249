"""Nearswap, RAM, RAM+ and Arcee Fusion against mergekit's code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk

from .cases import params, related

pytestmark = pytest.mark.filterwarnings("ignore:only one expert")
CLOSE = {"rtol": 1e-5, "atol": 1e-7}


def merged(case, method, device, **options):
    golden = related(case)
    experts = {key[3:]: {"w": w} for key, w in golden.items() if key.startswith("in/ft")}
    return mk.merge(method, {"w": golden["in/base"]}, experts, device=device, **options).weights()["w"]


@pytest.mark.parametrize("case", ["mergekit/nearswap_t0p001", "mergekit/nearswap_t0p01"])
def test_mergekits_nearswap(case, device):
    assert_close(merged(case, "nearswap", device, t=params(case)["t"]), related(case)["out/merged"], **CLOSE)


def test_mergekits_ram(device):
    case = "mergekit/ram"
    mine = merged(case, "ram", device, epsilon=params(case)["epsilon"])
    assert_close(mine, related(case)["out/merged"], **CLOSE)


def test_mergekits_ram_plus(device):
    case = "mergekit/ramplus_tl"
    p = params(case)
    mine = merged(case, "ram", device, boost=p["r"], most=p["alpha"], epsilon=p["epsilon"])
    assert_close(mine, related(case)["out/merged"], **CLOSE)


def test_ram_plus_counts_what_a_task_shares_and_what_it_changed_alone():
    # a shares 1 entry and has 4 alone: s / u = 1/4, its own entries times 1 + 0.5 * 0.25; b shares 1 and has none alone
    base, experts = {"w": 0 * row(1, 1, 1, 1, 1)}, {"a": {"w": row(1, 2, 2, 2, 2)}, "b": {"w": row(3, 0, 0, 0, 0)}}
    vector = mk.merge("ram", base, experts, boost=0.5, most=10).vector["w"]
    assert vector.tolist() == [2.0, 2.25, 2.25, 2.25, 2.25]


def row(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


def test_mergekits_arcee_fusion(device):
    case = "mergekit/arcee_fusion"
    assert_close(merged(case, "arcee_fusion", device), related(case)["out/merged"], **CLOSE)
