"""The ground floor against truths that can be checked by hand or by a library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergekit_nb.maths import elect as emr
from mergekit_nb.maths import histogram
from mergekit_nb.maths.noise import uniform
from mergekit_nb.maths.prune import largest, restore
from mergekit_nb.weights.modulators import pack, unpack

DTYPES = [torch.float32, torch.float64]
FLOATS = st.lists(st.floats(-(2.0**40), 2.0**40, width=32), min_size=1, max_size=30)


def test_elect_mask_rescale_by_hand(device):
    #            entry:   0     1     2     3
    taus = torch.tensor([[2.0, 1.0, 0.0, -1.0], [1.0, -3.0, 0.0, 1.0]], device=device)
    # sums:               3    -2     0     0    -> signs + - - -   (a tie elects the negative side)
    # agreeing:          2,1   -3    none  -1    -> 2, -3, 0, -1
    sign, vector = emr.elect(taus)
    assert sign.tolist() == [1, -1, -1, -1]
    assert vector.tolist() == [2, -3, 0, -1]
    masks = emr.mask(taus, sign)
    assert masks.tolist() == [[True, False, False, True], [True, True, False, False]]
    # own sizes: 4, 5; shares |2| + |-1| = 3 and |2| + |-3| = 5
    shares = emr.masked(vector, masks).abs().sum(1)
    assert emr.rescale(taus.abs().sum(1), shares).tolist() == pytest.approx([4 / 3, 1])


@pytest.mark.parametrize(("tie", "sign"), [("negative", -1), ("zero", 0), ("positive", 1)])
def test_a_tie_goes_where_it_is_told(tie, sign):
    assert emr.elect(torch.tensor([[1.0], [-1.0]]), tie).sign.item() == sign


def test_the_rescaler_can_increase_the_distance():
    # the counter-example to the paper's Eq. 5: tau = (1, -1), (1, 2) has distance 0.5 with masks, 1.0 after rescaling
    taus = torch.tensor([[1.0, -1.0], [1.0, 2.0]])
    sign, vector = emr.elect(taus)
    shares = emr.masked(vector, emr.mask(taus, sign))
    scale = emr.rescale(taus.abs().mean(1), shares.abs().mean(1))
    distance = lambda x: ((taus - x) ** 2).sum(1).mean().item()  # noqa: E731
    assert (distance(shares), distance(scale[:, None] * shares)) == (0.5, 1.0)


def test_nothing_shared_is_rescaled_by_one():
    assert emr.rescale(torch.tensor([0.0, 3.0, 2.0]), torch.tensor([0.0, 0.0, 4.0])).tolist() == [1, 1, 0.5]


@pytest.mark.parametrize("dtype", DTYPES)
@given(numbers=FLOATS, data=st.data())
def test_the_kth_smallest_magnitude_is_exact_and_adds_up(numbers, data, dtype):
    x = torch.tensor([numbers, numbers[::-1]], dtype=dtype)
    rank = data.draw(st.integers(1, len(numbers)))
    expected = x.abs().kthvalue(rank, 1).values
    assert torch.equal(histogram.kth_smallest(x, rank), expected)
    cut = data.draw(st.integers(0, len(numbers)))
    parts = [histogram.count(piece, None, 0) for piece in (x[:, :cut], x[:, cut:])]
    assert torch.equal(sum(parts), histogram.count(x, None, 0))


@pytest.mark.parametrize("dtype", DTYPES)
@given(numbers=FLOATS, data=st.data())
def test_sums_of_magnitudes_are_exact_whatever_the_order(numbers, data, dtype):
    x = torch.tensor([numbers], dtype=dtype)
    cut = data.draw(st.integers(0, len(numbers)))
    bins = histogram.magnitude_sums(x[:, cut:]) + histogram.magnitude_sums(x[:, :cut])
    assert histogram.total(bins, dtype).item() == math.fsum(x.abs().double()[0].tolist())


@given(st.integers(0, 40), st.integers(0, 40))
def test_any_stretch_of_the_noise_is_the_same(start, length):
    whole = uniform(7, "mnist", "w", 0, 80)
    assert torch.equal(uniform(7, "mnist", "w", start, start + length), whole[start : start + length])


def test_noise_depends_on_seed_task_and_name_and_is_uniform():
    draws = [uniform(s, t, n, 0, 20_000) for s, t, n in [(0, "a", "w"), (1, "a", "w"), (0, "b", "w"), (0, "a", "v")]]
    assert abs(np.corrcoef(torch.stack(draws).numpy()) - np.eye(4)).max() < 0.03
    counts = torch.histc(draws[0], 10, 0, 1)
    assert ((counts - 2000).abs() < 200).all()


def test_of_equal_magnitudes_the_first_are_kept(device):
    assert largest(torch.tensor([1.0, -1.0, 1.0, 0.5], device=device), 2).tolist() == [True, True, False, False]


@pytest.mark.parametrize(("how", "factor"), [("expectation", 4), ("l1", 2), ("l2", 2**0.5), ("linf", 1), (None, 1)])
def test_survivors_are_restored(how, factor):
    original = torch.tensor([1.0, -1.0, 1.0, 1.0])
    pruned = torch.tensor([1.0, -1.0, 0.0, 0.0])
    torch.testing.assert_close(restore(pruned, original, 0.75, how), factor * pruned)


@given(st.lists(st.booleans(), max_size=40))
def test_masks_are_packed_as_numpy_packs_them_at_one_bit_an_entry(flags):
    mask = torch.tensor(flags, dtype=torch.bool)
    packed = pack(mask)
    assert packed.tolist() == np.packbits(np.array(flags, bool), bitorder="little").tolist()
    assert torch.equal(unpack(packed, mask.shape), mask)
