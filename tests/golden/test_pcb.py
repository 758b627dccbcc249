"""PCB against the authors' four variants: weights of every entry, the merged vector, whole state dicts."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths import compete
from mergekit_nb.methods import Pcb
from mergekit_nb.weights.site import Site

from .cases import core, ids, params, under

DEGENERATE = "pcb_A_zero_task_nan"
VECTORS = [case for case in ids("pcb_") if case not in (DEGENERATE, "pcb_statedict_flatten")]


def options(case):
    p = params(case)
    scale = p.get("lam") or p.get("lams") or 1.0
    return {
        "variant": case[4] if case[5] == "_" else "A",
        "ratio": p.get("pcb_ratio") or p["att_ratio"],
        "q": p.get("clamp_min"),
        "scale": tuple(scale) if isinstance(scale, list) else scale,
    }


def as_task_vectors(taus):
    return {"w": torch.zeros_like(taus[0])}, {str(t): {"w": tau} for t, tau in enumerate(taus)}


def near(expected):
    return {"rtol": 1e-4, "atol": 1e-6 * expected.abs().max().item()}


def weights_of(method, taus):
    site, totals = Site("w", tuple(taus.shape[1:]), tuple(map(str, range(len(taus))))), ()
    for _ in range(method.rounds(taus.dtype)):
        totals += (method.measure(site, taus, totals),)
    return method.weights(taus, totals)


@pytest.mark.parametrize("case", VECTORS)
def test_the_authors_merged_vector(case, device):
    golden, method = core(case), Pcb(**options(case))
    key = next(k for k in ("out.merged_tv", "out.list_fp32.merged_tv") if k in golden)
    expected = golden[key].float() * (method.scale if case == "pcb_B_7tasks" else 1)
    merged = mk.merge(method, *as_task_vectors(golden["in.tv"]), device=device)
    within = {"rtol": 0, "atol": 2e-2 * expected.abs().max().item()} if "bf16" in case else near(expected)
    assert_close(merged.vector["w"], expected, **within)


@pytest.mark.parametrize("case", [case for case in VECTORS if "in.pretrained" in core(case)])
def test_the_authors_models(case, device):
    golden = core(case)
    base = golden["in.pretrained"]
    experts = {str(t): {"w": base + tau} for t, tau in enumerate(golden["in.tv"])}
    merged = mk.merge(Pcb(**options(case)), {"w": base}, experts, device=device).weights()["w"]
    for key in ("out.weights", "out.list_fp32.weights", "out.numpy_fp64.weights"):
        if key in golden:
            assert_close(merged, golden[key].float(), **near(golden[key]))


@pytest.mark.parametrize("case", VECTORS)
def test_the_authors_weights(case):
    golden, method = core(case), Pcb(**options(case))
    taus = golden["in.tv"].float()
    mine, expected = weights_of(method, taus), golden["out.scale"].float()
    if "bf16" in case:  # the authors round to bfloat16 at every step
        assert_close(mine, expected, rtol=0, atol=2e-2)
        return
    assert_close(mine, expected, rtol=1e-4, atol=1e-6)
    assert ((mine == 0) != (expected == 0)).float().mean() <= 1 / taus.shape[1]  # the entry at the threshold


@pytest.mark.parametrize("case", [case for case in VECTORS if "bf16" not in case])
def test_the_named_steps_on_whole_vectors_give_the_same(case):
    golden, method = core(case), Pcb(**options(case))
    taus = golden["in.tv"]
    low, high = compete.clip_range(taus, method.q)
    assert_close(compete.clip(taus, low, high), golden["out.clamped_tv"])
    intra = compete.intra_balance(taus, low, high)
    inter = compete.inter_balance(taus, method.variant, low, high)
    if "out.intra" in golden:
        assert_close(intra, golden["out.intra"], rtol=1e-4, atol=1e-6)
        assert_close(inter, golden["out.inter"], rtol=1e-4, atol=1e-9)
        assert_close(intra * inter, golden["out.balancing"], rtol=1e-4, atol=1e-6)
    cut, top = compete.cut_range(intra * inter, method.ratio)
    kept = compete.drop(intra * inter, cut, top)
    weights = compete.rescale(intra * inter, kept, cut, top)
    assert torch.equal(weights, weights_of(method, taus))


def test_whole_state_dicts_ranked_over_the_whole_model(device):
    golden, p = core("pcb_statedict_flatten"), params("pcb_statedict_flatten")
    experts = {str(t): under(golden, f"in.finetuned.{t}.") for t in range(p["tasks"])}
    merged = mk.merge(
        "pcb", under(golden, "in.pretrained."), experts, ratio=p["pcb_ratio"], scale=p["lam"], device=device
    )
    for name, weight in under(golden, "out.state_dict.").items():
        assert_close(merged.weights()[name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_a_task_equal_to_the_base_weighs_nothing_where_the_authors_get_nan(device):
    golden = core(DEGENERATE)
    assert golden["out.merged_tv"].isnan().all()
    base, experts = as_task_vectors(golden["in.tv"])
    empty = next(task for task, expert in experts.items() if not expert["w"].any())
    with pytest.warns(UserWarning, match=f"^{empty}: its task vector has one magnitude everywhere"):
        merged = mk.merge("pcb", base, experts, ratio=0.1, device=device)
    assert merged.vector["w"].isfinite().all()
    assert merged.vector["w"].any()
