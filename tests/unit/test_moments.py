"""Moments of features: batch by batch as at once, and what is not a number counts as 0."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mergekit_nb.maths import moments as maths
from mergekit_nb.maths.moments import moments


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_batches_add_up_to_the_covariance_of_all_samples(seed, cuts):
    x = torch.randn(4, 3 * sum(cuts), generator=torch.Generator().manual_seed(seed))
    parts = x.split([3 * cut for cut in cuts], 1)
    first, *rest = [moments(part, cut) for part, cut in zip(parts, cuts, strict=True)]
    total = sum(rest, first)
    assert_close(total.covariance(), torch.cov(x.double(), correction=0))
    assert_close(total.mean, x.double().mean(1))
    assert torch.equal(total.covariance(), total.covariance().T)


def test_samples_beyond_one_chunk_count(monkeypatch):
    monkeypatch.setattr(maths, "CHUNK", 7)
    x = torch.randn(3, 50)
    assert_close(moments(x, 5).covariance(), torch.cov(x.double(), correction=0))


def test_every_image_weighs_the_same_whatever_its_size():
    small, large = torch.randn(2, 4), torch.randn(2, 400)
    total = moments(small, 1) + moments(large, 1)
    assert_close(total.mean, (small.double().mean(1) + large.double().mean(1)) / 2)


def test_a_large_mean_does_not_drown_a_small_spread():
    x = 1e4 + torch.randn(2, 100, dtype=torch.float64)
    assert_close(moments(x, 1).correlation(), torch.corrcoef(x), rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_counts_as_0():
    x = torch.tensor([[1.0, torch.nan, 3.0], [torch.inf, -torch.inf, 2.0]])
    expected = torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 2.0]])
    assert torch.equal(moments(x, 1).second, moments(expected, 1).second)


@pytest.mark.parametrize("level", [0.0, 0.1, 1000.0])
def test_a_feature_that_never_varies_correlates_with_nothing(level):
    x = torch.stack([torch.full((60,), level), torch.randn(60), torch.randn(60)])
    r = moments(x, 1).correlation()
    assert r[0].tolist() == r[:, 0].tolist() == [0, 0, 0]
    assert_close(r[1:, 1:], torch.corrcoef(x[1:].double()))
