"""Matching of features: against a slow oracle, by hand, and what must hold whatever the features are."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mergekit_nb.maths import matching
from mergekit_nb.maths.matching import zip_features
from mergekit_nb.maths.packing import completable
from tests import oracles_matching


@st.composite
def correlations(draw, most: int = 4):
    """A correlation of features of several models: random ones, coarse ones full of ties, some constant features."""
    n, width = draw(st.integers(2, most)), draw(st.integers(1, 9))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shared = torch.randn(width, 12, generator=noise)
    x = torch.cat(
        [shared + draw(st.sampled_from([0.1, 1, 10])) * torch.randn(width, 12, generator=noise) for _ in range(n)]
    )
    x[torch.rand(len(x), generator=noise) < 0.1] = 0
    x = x - x.mean(1, keepdim=True)
    r = (x @ x.T) / torch.outer(x.norm(dim=1), x.norm(dim=1)).clamp(min=1e-7)
    r = (r + r.T) / 2
    return n, (torch.round(r * 4) / 4 if draw(st.booleans()) else r)


ALPHAS, BETAS = st.sampled_from([1e-4, 0.1, 0.3, 1.0]), st.sampled_from([0.0, 0.1, 0.3, 1.0])


@settings(max_examples=60)
@given(drawn=correlations(), alpha=ALPHAS, beta=BETAS)
def test_official_groups_are_those_of_a_matrix_that_really_shrinks(drawn, alpha, beta):
    models, r = drawn
    zipped = zip_features(r, models, alpha, beta, "official")
    assert list(zipped.groups) == oracles_matching.official(r.numpy(), models, np.float32(alpha), beta)


@settings(max_examples=60)
@given(drawn=correlations(most=2), alpha=ALPHAS, beta=BETAS)
def test_guarded_groups_are_those_of_a_matrix_that_really_shrinks(drawn, alpha, beta):
    _, r = drawn
    assert list(zip_features(r, 2, alpha, beta).groups) == oracles_matching.guarded(r.numpy(), np.float32(alpha), beta)


def test_many_features_and_a_matrix_that_is_not_symmetric_to_the_last_bit():
    noise = torch.Generator().manual_seed(0)
    r = torch.corrcoef(torch.randn(128, 40, generator=noise))
    r = r + 1e-6 * torch.randn(128, 128, generator=noise)
    for alpha, beta in [(0.3, 0.125), (1.0, 1.0)]:
        groups = list(zip_features(r, 2, alpha, beta, "official").groups)
        assert groups == oracles_matching.official(r.numpy(), 2, np.float32(alpha), beta)


@settings(max_examples=60)
@given(drawn=correlations(), alpha=ALPHAS, beta=BETAS)
def test_guarded_groups_are_a_partition_into_as_many_as_one_model_has(drawn, alpha, beta):
    models, r = drawn
    zipped = zip_features(r, models, alpha, beta)
    assert zipped.lost == ()
    assert len(zipped.groups) == len(r) // models
    assert sorted(k for group in zipped.groups for k in group) == list(range(len(r)))
    assert_close(zipped.merge.sum(1), torch.ones(len(zipped.groups)))
    assert zipped.unmerge.sum(1).tolist() == [1] * len(r)


@settings(max_examples=40)
@given(drawn=correlations(), alpha=ALPHAS)
def test_beta_0_merges_nothing_within_a_model(drawn, alpha):
    models, r = drawn
    zipped = zip_features(r, models, alpha, beta=0.0)
    assert (zipped.within(), zipped.forced) == (0, 0)
    assert {len(group) for group in zipped.groups} == {models}


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), models=st.integers(2, 4), width=st.integers(1, 8), beta=BETAS)
def test_identical_models_pair_each_feature_with_itself(seed, models, width, beta):
    own = torch.corrcoef(torch.randn(width, 30, generator=torch.Generator().manual_seed(seed))).reshape(width, width)
    zipped = zip_features(own.repeat(models, models), models, 1.0, beta)
    assert list(zipped.groups) == [tuple(range(i, models * width, width)) for i in range(width)]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), width=st.integers(2, 10), beta=BETAS)
def test_the_order_of_features_does_not_matter_where_nothing_ties(seed, width, beta):
    noise = torch.Generator().manual_seed(seed)
    r = torch.corrcoef(torch.randn(2 * width, 60, generator=noise, dtype=torch.float64))
    places = torch.cat([torch.randperm(width, generator=noise), width + torch.randperm(width, generator=noise)])
    moved = zip_features(r[places][:, places], 2, 0.3, beta)
    back = {tuple(sorted(places[list(group)].tolist())) for group in moved.groups}
    assert back == set(zip_features(r, 2, 0.3, beta).groups)


def test_the_correlation_that_was_handed_in_is_not_written_to():
    r = torch.corrcoef(torch.randn(12, 30, generator=torch.Generator().manual_seed(6)))
    before = r.clone()
    for matching_of in (zip_features, matching.permute, matching.identity, matching.optimal):
        matching_of(r, 2)
    zip_features(r, 2, -1.0, 0.5, "official")
    assert torch.equal(r, before)


def test_three_models_whose_greedy_pairs_leave_no_way_out():
    # a1 b1, a2 c1 look best; then b2 and c2: three groups, each two of which share a model, where two were wanted
    r = torch.zeros(6, 6)
    for i, j, value in [(0, 2, 0.9), (1, 4, 0.8), (3, 5, 0.7)]:
        r[i, j] = r[j, i] = value
    apart = zip_features(r, 3, 1.0, 0.0)
    assert (apart.within(), {len(group) for group in apart.groups}) == (0, {3})
    assert (0, 2) in apart.pairs


def test_budgets_that_leave_no_pair_are_exceeded_and_counted():
    r = torch.corrcoef(torch.randn(36, 30, generator=torch.Generator().manual_seed(3)))
    zipped = zip_features(r, 3, 0.3, 0.125)
    assert zip_features(r, 3, 0.3, 0.125, "official").lost
    assert zipped.lost == ()
    assert zipped.forced > 0


def test_a_negative_similarity_is_not_raised_by_alpha():
    r = torch.tensor([[1, -0.2, -0.6, -0.9], [-0.2, 1, -0.6, -0.8], [-0.6, -0.6, 1, -0.3], [-0.9, -0.8, -0.3, 1]])
    assert zip_features(r, 2, 0.1, 1.0).groups == ((0, 1), (2, 3))
    assert zip_features(r, 2, 0.1, 1.0, "official").groups == ((0, 1, 2), (3,))


def test_maps_of_every_model_average_to_the_groups_means():
    r = torch.corrcoef(torch.randn(12, 30, generator=torch.Generator().manual_seed(1)))
    zipped = zip_features(r, 3, 0.3, 0.5)
    features = torch.randn(3, 4, 5)
    merged = torch.stack([m @ x for (m, _), x in zip(zipped.maps(), features, strict=True)]).mean(0)
    flat = features.flatten(0, 1)
    assert_close(merged, torch.stack([flat[list(group)].mean(0) for group in zipped.groups]))


def test_blocks_move_together():
    r = torch.eye(4).repeat(2, 2)  # two models, two blocks of two features, each like its twin
    zipped = matching.spread(zip_features(matching.blocks(r, 2), 2, 0.3, 0.0), 2)
    assert zipped.groups == ((0, 4), (1, 5), (2, 6), (3, 7))
    assert zipped.unmerge.tolist() == torch.eye(4).repeat(2, 1).tolist()


def test_permute_finds_a_planted_order_and_identity_asks_for_none():
    noise = torch.Generator().manual_seed(2)
    x, places = torch.randn(8, 50, generator=noise), torch.randperm(8, generator=noise)
    r = torch.corrcoef(torch.cat([x, x[places]]))
    assert matching.permute(r).groups == tuple(
        (int(p), 8 + i) for i, p in sorted(enumerate(places), key=lambda pair: pair[1])
    )
    assert matching.identity(r).groups == tuple((i, 8 + i) for i in range(8))
    assert matching.first(r).lost == ()


def test_optimal_beats_or_equals_every_other_set_of_pairs():
    r = torch.corrcoef(torch.randn(12, 20, generator=torch.Generator().manual_seed(4)))
    value = lambda zipped: sum(r[pair].item() for pair in zipped.groups)  # noqa: E731
    best = value(matching.optimal(r))
    assert best >= value(matching.permute(r)) - 1e-6
    assert best >= value(matching.identity(r)) - 1e-6


@pytest.mark.parametrize(
    ("kinds", "possible"),
    [("A B C", True), ("AB AC B C", True), ("AB AC BC", False), ("AB AB C C", True), ("AB C AB B", False)],
)
def test_whether_groups_can_be_completed(kinds, possible):
    assert completable(Counter(frozenset("ABC".index(m) for m in kind) for kind in kinds.split()), 3) is possible


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0.0}, r"alpha is in \(0, 1\]; got 0.0: 1e-4 all but forbids"),
        ({"beta": 2}, r"beta is the share of merges within a model, in \[0, 1\]; got 2"),
        ({"models": 3}, "divisible by 3; got 4 x 4"),
    ],
)
def test_what_cannot_be_matched_is_said(options, words):
    with pytest.raises(ValueError, match=words):
        zip_features(torch.eye(4), **options)


def test_a_correlation_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        zip_features(torch.full((4, 4), torch.nan))


@pytest.mark.parametrize("kind", ["plain", "low rank", "half constant", "all equal"])
def test_512_features_take_less_than_two_seconds(kind):
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(1024, 5 if kind == "low rank" else 600, generator=noise)
    r = torch.ones(1024, 1024) if kind == "all equal" else torch.corrcoef(x)
    if kind == "half constant":
        r[::2], r[:, ::2] = 0, 0
    start = time.process_time()
    zip_features(r, 2)
    assert time.process_time() - start < 2  # 0.06 on the machine where this was written
