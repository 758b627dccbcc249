"""Pruning by magnitude against mergekit's and PEFT's code, and PEFT's three ways to add adapters up."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.prune import restore
from mergekit_nb.maths.spectra import leading, product, thin_svd
from mergekit_nb.methods import Breadcrumbs

from .cases import MANIFEST, params, related

CLOSE = {"rtol": 1e-5, "atol": 1e-7}


@pytest.mark.parametrize("norm", [None, "l1", "l2"])
def test_mergekits_pruning_and_rescaling(norm):
    case = f"mergekit/sparsify_magnitude_d0p3{f'_{norm}' if norm else ''}"
    x = related(case)["in/x"]
    taus = mk.TaskVectors.of({"w": 0 * x}, {"a": {"w": x}})
    kept = Breadcrumbs(density=0.3, remove=0, scope="tensor").edit(taus.site("w"), taus.at("w"))[0]
    assert_close(restore(kept, x, 0.7, norm), related(case)["out/out"], **CLOSE)


def test_pefts_pruning(device):
    golden = related("peft/magnitude_prune_d0p3")
    experts = {t: {"w": golden[f"in/{t}"]} for t in ("t0", "t1", "t2")}
    weights = tuple(golden["in/weights"].tolist())
    method = Breadcrumbs(density=0.3, remove=0, scope="tensor", scale=1, weights=weights)
    merged = mk.merge(method, {"w": 0 * golden["in/t0"]}, experts, device=device)
    assert_close(merged.vector["w"], golden["out/merged"], **CLOSE)


def test_a_weighted_sum_of_adapters_is_that_of_their_changes(tmp_path, device):
    case = "peft/lora_linear_vs_svd"
    golden, p, near = related(case), params(case), MANIFEST[case]["compare"]
    for t in range(3):
        folder = tmp_path / f"t{t}"
        folder.mkdir()
        config = {"peft_type": "LORA", "r": p["rank"], "lora_alpha": p["rank"] * p["scaling"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        factors = {f"base_model.model.m.lora_{side}.weight": golden[f"in/{side}{t}"] for side in "AB"}
        save_file(factors, folder / "adapter_model.safetensors")
    base = {"m.weight": torch.zeros_like(golden["out/exact_delta"])}
    weights = tuple(golden["in/weights"].tolist())
    experts = {f"t{t}": tmp_path / f"t{t}" for t in range(3)}
    merged = mk.merge("task_arithmetic", base, experts, scale=1.0, weights=weights, device=device).vector["m.weight"]
    assert_close(merged, golden["out/exact_delta"], **near)
    assert_close(product(*leading(thin_svd(merged, 1e-7), p["svd_rank"])), golden["out/svd_delta"], **near)
    assert not torch.allclose(merged, golden["out/linear_delta"], rtol=0.1)  # cross terms: no merge of the changes
