"""What the spectral methods promise beyond the laws: numerical rank, spaces without loss, what cannot be composed."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.methods import Average, CoreSpace, Dare, Emr, IsoC, Knots, Lines, Slerp, TaskArithmetic, Ties, Tsv


@pytest.fixture
def loras():
    """Three experts of rank 2 around a base of zeros."""
    g = torch.Generator().manual_seed(5)
    tuned = {t: {"w": torch.randn(12, 2, generator=g) @ torch.randn(2, 10, generator=g)} for t in "abc"}
    return {"w": torch.zeros(12, 10)}, tuned


@pytest.mark.parametrize("space", [Knots(), CoreSpace()])
@pytest.mark.parametrize("inside", [Average(), TaskArithmetic(scale=0.7)])
def test_a_sum_is_the_same_in_every_space(space, inside, loras):
    there, here = (mk.merge(m, *loras).vector["w"] for m in (space | inside, inside))
    assert_close(there, here, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [IsoC(), Tsv(), CoreSpace()])
def test_the_result_turns_with_its_input_where_ranks_are_low(method, loras):
    base, experts = loras
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
    turned = mk.merge(method, base, {t: {"w": turn @ e["w"]} for t, e in experts.items()}).vector["w"]
    assert_close(turned, turn @ mk.merge(method, base, experts).vector["w"], rtol=1e-4, atol=1e-4)


def test_a_flat_spectrum_stays_within_the_numerical_rank(loras):
    merged = mk.merge("iso_c", *loras).vector["w"]
    values = torch.linalg.svdvals(merged)
    total = torch.linalg.svdvals(sum(e["w"] for e in loras[1].values()))
    assert_close(values[:6], total[:6].mean().expand(6), rtol=1e-5, atol=1e-5)
    assert_close(values[6:], torch.zeros(4), rtol=0, atol=1e-4)


def test_ties_alone_in_a_space_is_ties_named_in_it(loras):
    alone = mk.merge("knots", *loras, density=0.3, scale=0.8).vector["w"]
    named = mk.merge(Knots() | Ties(density=0.3, scale=0.8, zero_sign="positive"), *loras)
    assert torch.equal(alone, named.vector["w"])
    assert named.method == "knots | ties"


def test_dropping_comes_before_or_within_a_space(loras):
    for method in (Dare(drop=0.5) | Knots(), Knots() | Dare(drop=0.5), Knots() | (Dare(drop=0.5) | Ties())):
        assert mk.merge(method, *loras).vector["w"].isfinite().all()


def test_a_longer_composition_stays_within_the_space_and_leaves_it_to_be_post_processed(loras):
    long = Knots() | Dare(drop=0.5) | Ties()
    grouped = Knots() | (Dare(drop=0.5) | Ties())
    assert torch.equal(mk.merge(long, *loras).vector["w"], mk.merge(grouped, *loras).vector["w"])
    inside = Knots() | TaskArithmetic(scale=0.5)
    shapes = {mk.merge(m | Lines(), *loras).vector["w"].shape for m in (Knots(), inside)}
    assert shapes == {(12, 10)}


def test_what_has_no_way_back_is_refused(loras):
    with pytest.raises(ValueError, match=r"knots \| emr: emr leaves patches"):
        mk.merge(Knots() | Emr(), *loras)
    two = {t: loras[1][t] for t in "ab"}
    with pytest.raises(ValueError, match="slerp merges exactly 2 experts; got 3"):
        mk.merge(Slerp(), *loras)
    with pytest.raises(ValueError, match="looks at weights"):
        mk.merge(Knots() | Slerp(), loras[0], two)


def test_spherical_weights_that_cancel_are_refused(loras):
    for name in ("multi_slerp", "karcher"):
        with pytest.raises(ValueError, match="weights add up to 0"):
            mk.merge(name, *loras, weights=(1, -1, 0))
