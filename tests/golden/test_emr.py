"""EMR against the authors' own outputs."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk

from .cases import core, ids, params, under

VECTORS = [case for case in ids("emr_vit_") if case != "emr_vit_zero_task_nan"]
CLOSE = {"rtol": 1e-5, "atol": 0}


def per_task(tensors, prefix):
    tasks = sorted({key.removeprefix(prefix).partition(".")[0] for key in tensors if key.startswith(prefix)}, key=int)
    return {task: under(tensors, f"{prefix}{task}.") for task in tasks}


def check_masks_and_vector(merged, golden):
    for name, unified in under(golden, "out.unified.").items():
        assert torch.equal(merged.vector[name], unified), name
    for task, masks in per_task(golden, "out.mask.").items():
        assert {n: m.tolist() for n, m in merged.patches[task].mask.items()} == {
            n: m.tolist() for n, m in masks.items()
        }


def rescalers(merged):
    return torch.tensor([merged.patches[task].scale for task in merged.tasks])


@pytest.mark.parametrize("case", VECTORS)
def test_task_vectors_give_the_authors_unified_vector_masks_and_rescalers(case, device):
    golden = core(case)
    taus = per_task(golden, "in.tv.")
    base = {name: torch.zeros_like(tau) for name, tau in taus["0"].items()}
    merged = mk.merge("emr", base, taus, device=device)
    check_masks_and_vector(merged, golden)
    assert_close(rescalers(merged), golden["out.rescalers"].float(), rtol=1e-2 if "bf16" in case else 1e-5, atol=0)
    for task, weights in per_task(golden, "out.recon.").items():
        for name, weight in weights.items():
            # in bfloat16 the rescaler (1e-2) and the product are rounded apart, and a 0-d tensor is promoted to float32
            near = {"rtol": 1e-2, "atol": 1e-3} if "bf16" in case else CLOSE
            assert_close(merged.weights(task)[name].to(weight.dtype), weight, **near, msg=f"{task} {name}")


def test_a_task_without_a_vector_gets_the_base_where_the_authors_get_nan(device):
    golden = core("emr_vit_zero_task_nan")
    taus = per_task(golden, "in.tv.")
    merged = mk.merge("emr", {name: torch.zeros_like(tau) for name, tau in taus["0"].items()}, taus, device=device)
    check_masks_and_vector(merged, golden)
    healthy = golden["out.rescalers"].isfinite()
    assert healthy.tolist() == [True, True, False]
    assert_close(rescalers(merged)[healthy], golden["out.rescalers"][healthy], **CLOSE)
    assert merged.patches["2"].scale == 1
    assert not any(weight.any() for weight in merged.weights("2").values())


def test_thirty_tasks_with_the_papers_rescaler(device):
    golden = core("emr_flat_30tasks")
    base = {"flat": golden["in.pretrained"]}
    taus = {str(t): {"flat": tau} for t, tau in enumerate(golden["in.tv"])}
    merged = mk.merge("emr", {"flat": torch.zeros_like(base["flat"])}, taus, rescale="global", device=device)
    assert torch.equal(merged.vector["flat"], golden["out.unified"])
    assert torch.equal(torch.stack([merged.patches[t].mask["flat"] for t in merged.tasks]), golden["out.mask"])
    assert_close(rescalers(merged), golden["out.rescalers"], **CLOSE)
    rebuilt = torch.stack([base["flat"] + merged.weights(t)["flat"] for t in merged.tasks])
    assert_close(rebuilt, golden["out.weights"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("case", "out", "options"),
    [
        ("emr_ckpt_bn_int_buffers", "out.state_dict.", {}),
        ("emr_beit_shape_mismatch", "out.state_dict.", {"unmatched": "own"}),
        (
            "emr_lm_roberta_style",
            "out.model.",
            {"exclude": params("emr_lm_roberta_style")["exclude"], "unmatched": "own"},
        ),
    ],
)
def test_checkpoints_give_the_authors_state_dicts(case, out, options, device):
    golden = core(case)
    merged = mk.merge(
        "emr", under(golden, "in.pretrained."), per_task(golden, "in.finetuned."), device=device, **options
    )
    assert_close(rescalers(merged), golden["out.rescalers"], **CLOSE)
    for task, weights in per_task(golden, out).items():
        mine = merged.weights(task)
        for name, weight in weights.items():
            assert_close(mine[name], weight, rtol=1e-5, atol=1e-7, msg=f"{task} {name}")
        masks = under(golden, f"out.mask.{task}.")
        assert all(torch.equal(merged.patches[task].mask[name], mask) for name, mask in masks.items())
