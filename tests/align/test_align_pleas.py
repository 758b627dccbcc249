"""PLeaS: what stays apart stays what it was, what is merged is fitted, and the budget is kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.align.pleas import costs, planned
from mergekit_nb.maths.partial import Layer, partial, relative_cost, within_budget
from mergekit_nb.maths.squares import loss, refit
from mergekit_nb.models.axes import derive
from tests.align.nets import made, mlp, reordered


@pytest.mark.parametrize("name", ["mlp", "convolutional", "batch norm"])
def test_with_a_ratio_of_1_both_networks_live_on_side_by_side(name):
    a, x = made(name)
    b, _ = made(name, seed=4)
    wide = mk.pleas([a, b], [x, x], ratios=1.0).eval()
    if name == "batch norm":  # whose statistics are those of x from here on
        a, b = (mk.repair(net, [net, net], [x, x]).eval() for net in (a, b))
    with torch.no_grad():
        assert_close(wide(x), (a(x) + b(x)) / 2, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "convolutional"])
def test_a_network_in_another_order_is_merged_into_itself(name):
    a, x = made(name)
    b, _, _ = reordered(a, x)
    with torch.no_grad():
        assert_close(mk.pleas([a, b], [x])(x), a(x), rtol=1e-3, atol=1e-4)


def test_heads_of_different_widths_stand_beside_each_other():
    (a, x), b = made("mlp"), mlp(outputs=7)
    wide = mk.pleas([a, b], [x], ratios=1.0, heads="beside")
    with torch.no_grad():
        assert_close(wide(x), torch.cat([a(x), b(x)], 1), rtol=1e-3, atol=1e-4)
    assert mk.pleas([a, b], [x], heads="beside")(x).shape == (64, 11)


@pytest.mark.parametrize("name", ["mlp", "convolutional"])
def test_least_squares_come_closer_than_averaging_and_wider_comes_closer_than_narrow(name):
    a, x = made(name)
    b, _ = made(name, seed=4)
    axes = derive(a, x[:1])
    wanted = ((a(x) + b(x)) / 2).detach()
    gap = lambda net: (net(x) - wanted).square().mean().item()  # noqa: E731
    fitted = [gap(mk.pleas([a, b], [x], ratios=r)) for r in (0.0, 0.5, 1.0)]
    averaged = planned([a, b], [x], axes).weights([a.state_dict(), b.state_dict()])
    assert fitted[2] < fitted[1] < fitted[0] < gap(holding(a, averaged))


def holding(like, weights):
    """A copy of a network with these weights."""
    net = copy.deepcopy(like)
    net.load_state_dict(weights)
    return net


def test_attention_is_merged_but_not_widened():
    a, x = made("attention")
    b, _ = made("attention", seed=4)
    assert mk.pleas([a, b], [x])(x).shape == (32, 3)
    with pytest.raises(ValueError, match=r"attention is a MultiheadAttention, which cannot be widened: .*ratio 0"):
        mk.pleas([a, b], [x], ratios=0.5)
    within = mk.pleas([a, b], [x], budget=1.3)
    assert within.attention.in_proj_weight.shape == a.attention.in_proj_weight.shape
    assert within.up.out_features > a.up.out_features


@pytest.mark.parametrize("budget", [1.0, 1.2, 1.5, 2.0])
def test_the_budget_is_kept_and_used(budget):
    a, x = made("convolutional")
    b, _ = made("convolutional", seed=4)
    wide, one = mk.pleas([a, b], [x], budget=budget), costs(a, [x], derive(a, x[:1]))
    weights = wide.state_dict()
    width = {name: len(weights[name]) / len(a.state_dict()[name]) - 1 for name in ("0.weight", "3.weight")}
    cost = relative_cost(one, dict(zip(derive(a, x[:1]).names, width.values(), strict=True)))
    assert cost <= budget + 0.2  # a share of a feature is a whole one
    assert cost >= budget - 0.2


def test_layout_and_maps_of_a_partial_merge_by_hand():
    # features 0 1 2 of the first are matched with 2 0 1 of the second; the pair of 1 is the least alike
    zipped = partial(torch.tensor([2, 0, 1]), torch.tensor([0.9, 0.1, 0.8]), 0.3)
    assert zipped.groups == ((0, 5), (2, 4), (1,), (3,))
    first, second = zipped.maps()
    assert (first[0] / 2).tolist() == [[0.5, 0, 0], [0, 0, 0.5], [0, 1, 0], [0, 0, 0]]
    assert second[1].tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]]


def test_what_a_wider_layer_costs():
    layers = [Layer(3.0, {}, {"a": 1.0}), Layer(1.0, {"a": 1.0}, {"b": 1.0}), Layer(2.0, {"a": 0.5, "b": 0.25}, {})]
    assert relative_cost(layers, {}) == 1
    # 3 * 1.5 + 1 * (1.5 * 2 - 2 * 0.5 * 1) + 2 * (0.5 * 1.5 + 0.25 * 2 + 0.25)
    assert relative_cost(layers, {"a": 0.5, "b": 1.0}) == pytest.approx((4.5 + 2 + 3) / 6)


def test_a_budget_goes_to_the_features_that_agree_least():
    layers = [Layer(1.0, {}, {"alike": 1.0}), Layer(1.0, {}, {"unlike": 1.0})]
    found = within_budget({"alike": torch.full((10,), 0.99), "unlike": torch.full((10,), 0.1)}, layers, 1.5)
    assert relative_cost(layers, found) <= 1.5 + 1e-9
    assert found["unlike"] > 0.95 > 0.05 > found["alike"]


def test_least_squares_from_a_gram_matrix_are_those_of_the_samples():
    noise = torch.Generator().manual_seed(0)
    z = torch.randn(9, 200, generator=noise, dtype=torch.float64)
    lift, target = (torch.randn(size, 9, generator=noise, dtype=torch.float64) for size in (4, 3))
    start = torch.randn(3, 4, generator=noise, dtype=torch.float64)
    expected = torch.linalg.lstsq((lift @ z).T, (target @ z).T).solution.T
    assert_close(refit(start, target, lift, z @ z.T), expected, rtol=1e-6, atol=1e-8)
    allowed = torch.tensor([[True, True, False, True]]).repeat(3, 1)
    kept = refit(start * allowed, target, lift, z @ z.T, allowed)
    assert not kept[:, 2].any()
    own = torch.linalg.lstsq((lift @ z)[[0, 1, 3]].T, (target @ z).T).solution.T
    assert_close(kept[:, [0, 1, 3]], own, rtol=1e-6, atol=1e-8)
    assert loss(kept, target, lift, z @ z.T) >= loss(expected, target, lift, z @ z.T)


def test_where_the_data_say_nothing_weights_stay():
    z = torch.zeros(3, 10, dtype=torch.float64)
    z[0] = 1
    whole = torch.eye(3, dtype=torch.float64)
    fitted = refit(torch.ones(1, 3, dtype=torch.float64), torch.tensor([[5.0, 0, 0]]).double(), whole, z @ z.T)
    assert_close(fitted, torch.tensor([[5.0, 1, 1]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratios": 1.5}, r"ratio is the share of features that stay apart, in \[0, 1\]; got 1.5"),
        ({"budget": 3}, r"budget is the cost relative to one model, in \[1, 2\]; got 3"),
        ({"heads": "both"}, 'heads is "mean" or "beside"; got \'both\''),
    ],
)
def test_what_cannot_be_merged_is_said(options, words):
    with pytest.raises(ValueError, match=words):
        mk.pleas([mlp(), mlp()], [torch.randn(8, 6)], **options)
