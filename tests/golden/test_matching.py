"""ZipIt!'s matching, its baselines and its streamed covariance against the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mergekit_nb.maths import matching
from mergekit_nb.maths.moments import correlation, moments

from .cases import MANIFEST, core, ids, params

CASES = [(case, alpha, beta) for case in ids("zipit_match_") for alpha, beta in params(case)["ab"]]
BASELINES = {"permute": matching.permute, "identity": matching.identity, "return_a": matching.first}


@pytest.mark.parametrize(("case", "alpha", "beta"), CASES)
def test_official_groups_are_the_authors_to_the_last_tie(case, alpha, beta):
    golden, p = core(case), params(case)
    similarity = golden["in.cossim"] if "in.cossim" in golden else correlation(golden["in.covariance"])
    zipped = matching.zip_features(similarity, p["models"], alpha, beta, "official")
    assert torch.equal(zipped.unmerge, golden[f"out.a{alpha}_b{beta}.unmerge"])
    assert_close(zipped.merge, golden[f"out.a{alpha}_b{beta}.merge"], rtol=0, atol=1e-7)


@pytest.mark.parametrize(("case", "alpha", "beta"), [c for c in CASES if c[1] > 0])
def test_guarded_groups_lose_no_feature_on_the_same_matrices(case, alpha, beta):
    golden, p = core(case), params(case)
    similarity = golden["in.cossim"] if "in.cossim" in golden else correlation(golden["in.covariance"])
    zipped = matching.zip_features(similarity, p["models"], alpha, beta)
    assert zipped.lost == ()
    if f"a{alpha}_b{beta}" not in MANIFEST[case]["quirks"]:
        assert torch.equal(zipped.unmerge, golden[f"out.a{alpha}_b{beta}.unmerge"])


@pytest.mark.parametrize(("name", "models"), [(n, m) for n in BASELINES for m in (2, 3) if (n, m) != ("return_a", 3)])
def test_the_baselines_are_the_authors(name, models):
    golden = core("zipit_baselines")
    zipped = BASELINES[name](correlation(golden[f"in.cov_N{models}"]), models)
    out = f"out.match_tensors_{name}.N{models}"
    assert torch.equal(zipped.unmerge, golden[f"{out}.unmerge"])
    assert_close(zipped.merge, golden[f"{out}.merge"], rtol=1.1e-5, atol=0)  # theirs is divided by the size + 1e-5
    if name == "permute":
        assert torch.equal(matching.with_bias(zipped.unmerge, models), golden[f"{out}.unmerge_add_bias"])


def test_the_optimal_pairs_are_the_authors():
    golden = core("zipit_baselines")
    zipped = matching.optimal(correlation(golden["in.cov_optimal"]))
    columns = golden["out.match_tensors_optimal.N2.unmerge"].T
    assert set(zipped.groups) == {tuple(column.nonzero().flatten().tolist()) for column in columns}


def test_the_streamed_covariance_is_the_authors():
    golden = core("zipit_covariance_stream")
    total = None
    for batch in range(params("zipit_covariance_stream")["batches"]):
        features = torch.cat([golden[f"in.batch{batch}.{model}"] for model in range(2)])
        found = moments(features, int(golden[f"in.batch{batch}_size"]))
        total = found if total is None else total + found
    assert_close(total.covariance().float(), golden["out.covariance"], rtol=1e-5, atol=1e-6)
    assert_close(total.correlation().float(), golden["out.correlation"], rtol=1e-5, atol=1e-6)
