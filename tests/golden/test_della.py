"""DELLA against the authors' code, and against mergekit's, given the same random bits."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.prune import keep_chance, largest
from mergekit_nb.methods import Della, Ties

from .cases import ids, params, related

RANDOM = [case for case in ids("della/") if "keep_prob" in " ".join(related(case))]
RANK = {"rank_magnitude_layer": "tensor", "rank_magnitude": "row", "magnitude_sample": "size"}


def rank_of(case):
    return next(rank for start, rank in RANK.items() if case.partition("/")[2].startswith(start))


class Replayed(Della):
    """DELLA with the random bits of a golden case."""

    keep: dict

    def _keep(self, task, name, chance):
        return self.keep[task].bool().reshape(chance.shape).to(chance.device)


def replayed(keep, **options):
    method = Replayed(**options)
    object.__setattr__(method, "keep", keep)
    return method


@pytest.mark.parametrize("case", RANDOM)
def test_the_authors_chances_and_survivors(case, device):
    golden, p = related(case), params(case)
    delta, density, window = golden["in/delta"], p["density"], p["epsilon(half window)"]
    chance = keep_chance(delta, density, window, rank_of(case))
    assert_close(chance, golden["out/keep_prob"].reshape(delta.shape), rtol=1e-5, atol=1e-7)
    keep = {"a": golden["in/keep_mask"], "zero": golden["in/keep_mask"]}
    method = replayed(keep, density=density, window=window, rank=rank_of(case), elect="none", scale=1)
    zeros = {"w": 0 * delta}
    merged = mk.merge(method, zeros, {"a": {"w": delta}, "zero": zeros}, device=device)
    assert_close(merged.vector["w"], golden["out/rescaled"], rtol=1e-5, atol=1e-7)


def test_the_authors_pruning_by_rows():
    golden, density = related("della/magnitude_row_wise"), params("della/magnitude_row_wise")["density"]
    delta = golden["in/delta"]
    kept = torch.where(largest(delta, int(delta.shape[1] * density)), delta, torch.zeros_like(delta))
    assert_close(kept, golden["out/pruned"])


@pytest.mark.parametrize("case", ids("mergekit/della_"))
def test_mergekits_della_given_its_random_bits(case, device):
    golden, p = related(case), params(case)
    tasks, weights, scale = ("ft0", "ft1", "ft2"), tuple(p["weights"]), p["resolved"]["lambda"]
    keep = {t: golden[f"in/keep_mask{i}"] for i, t in enumerate(tasks)}
    options = {"density": p["density"], "window": p["epsilon"], "rescale": "l1", "weights": weights, "scale": scale}
    elect = "none" if "linear" in case else "mass"
    experts = {t: {"w": golden[f"in/{t}"]} for t in tasks}
    merged = mk.merge(replayed(keep, **options, elect=elect), {"w": golden["in/base"]}, experts, device=device)
    assert_close(merged.weights()["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)
    if elect == "mass":
        ties = Ties(density=1, weights=weights, scale=scale, zero_sign="positive", divide_by="weights")
        composed = mk.merge(replayed(keep, **options) | ties, {"w": golden["in/base"]}, experts, device=device)
        assert_close(composed.weights()["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)
