"""DARE against the authors' code, and against mergekit's, given the same random bits."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.prune import restore
from mergekit_nb.methods import Dare, TaskArithmetic, Ties
from mergekit_nb.weights.site import Site

from .cases import ids, params, related

CLOSE = {"rtol": 1e-5, "atol": 1e-7}


@pytest.mark.parametrize("how", ["expectation", None])
@pytest.mark.parametrize("case", ids("dare/random"))
def test_the_authors_dropping_given_their_random_bits(case, how):
    golden, p = related(case), params(case)
    delta = golden["in/delta"]
    pruned = delta * (1 - golden["in/drop_mask"].float())
    expected = golden["out/rescaled" if how else "out/unrescaled"]
    assert_close(restore(pruned, delta, p["mask_rate"], how), expected, **CLOSE)


@pytest.mark.parametrize("how", ["expectation", None])
@pytest.mark.parametrize("case", ids("dare/magnitude"))
def test_the_authors_magnitude_variant(case, how, device):
    golden, p = related(case), params(case)
    delta = golden["in/delta"]
    method = Dare(drop=p["mask_rate"], by="magnitude", rescale=how, scale=1)
    merged = mk.merge(
        method, {"w": torch.zeros_like(delta)}, {"a": {"w": delta}, "zero": {"w": 0 * delta}}, device=device
    )
    assert_close(merged.vector["w"], golden["out/rescaled" if how else "out/unrescaled"], **CLOSE)


def test_whole_weights_are_dropped_as_task_vectors_are():
    # the authors' weight_format "finetuned_weight" calls the same function on the weights; what is left stands for the model
    golden, p = related("dare/magnitude_r0p9"), params("dare/magnitude_r0p9")
    expert = golden["in/delta"]
    base = torch.randn(expert.shape, generator=torch.Generator().manual_seed(0))
    method = Dare(drop=p["mask_rate"], by="magnitude", on="weights", scale=1)
    alone = method.edit(Site("w", tuple(base.shape), ("a",), source={"w": base}), (expert - base)[None])[0]
    assert_close(base + alone, golden["out/rescaled"], rtol=1e-5, atol=1e-6)


class Replayed(Dare):
    """DARE with the random bits of a golden case."""

    keep: dict

    def _keep(self, task, name, tau):
        return self.keep[task].bool().to(tau.device)


@pytest.mark.parametrize("case", ids("mergekit/dare_"))
def test_mergekits_dare_given_its_random_bits(case, device):
    golden, p = related(case), params(case)
    tasks = ("ft0", "ft1", "ft2")
    drop = Replayed(drop=1 - p["density"], rescale="l1" if p["resolved"]["rescale"] else None)
    object.__setattr__(drop, "keep", {t: golden[f"in/keep_mask{i}"] for i, t in enumerate(tasks)})
    weights, scale = tuple(p["weights"]), p["resolved"]["lambda"]
    then = (
        Ties(density=1, scale=scale, weights=weights, zero_sign="positive", divide_by="weights", merge_as="dis-sum")
        if "dare_ties" in case
        else TaskArithmetic(scale=scale, weights=weights)
    )
    merged = mk.merge(
        drop | then, {"w": golden["in/base"]}, {t: {"w": golden[f"in/{t}"]} for t in tasks}, device=device
    )
    assert_close(merged.weights()["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)
