"""Git Re-Basin: functions are preserved, planted orders are found, the objective never falls."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.align.rebasin import activation_matching, weight_matching
from tests.align.nets import NETS, made, mlp, reordered


@pytest.mark.parametrize("batches", [False, True], ids=["weights", "activations"])
@pytest.mark.parametrize("name", NETS)
def test_a_planted_order_is_found_and_the_function_kept(name, batches):
    net, x = made(name)
    other, _, _ = reordered(net, x)
    aligned = mk.align(other, to=net, batches=[x] if batches else None)
    with torch.no_grad():
        assert_close(aligned(x), other(x), rtol=1e-4, atol=1e-5)
    for tensor, value in net.state_dict().items():
        assert_close(aligned.state_dict()[tensor], value, rtol=0, atol=0)


@pytest.mark.parametrize("batches", [False, True], ids=["weights", "activations"])
@pytest.mark.parametrize("name", NETS)
def test_aligning_strangers_keeps_their_function_and_brings_them_closer(name, batches):
    net, x = made(name)
    stranger, _ = made(name, seed=5)
    before = {tensor: value.clone() for tensor, value in stranger.state_dict().items()}
    aligned = mk.align(stranger, to=net, batches=[x] if batches else None)
    with torch.no_grad():
        assert_close(aligned(x), stranger(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[tensor], value) for tensor, value in stranger.state_dict().items())
    if not batches:
        apart = lambda other: sum(  # noqa: E731
            (p - q).square().sum().item() for p, q in zip(net.parameters(), other.parameters(), strict=True)
        )
        assert apart(aligned) < apart(stranger)


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_never_falls_and_a_seed_repeats(seed):
    net, x = made("attention")
    stranger, _ = made("attention", seed=3)
    _, axes, _ = reordered(net, x)
    found = weight_matching(net.state_dict(), stranger.state_dict(), axes, seed)
    assert list(found.objective) == sorted(found.objective)
    assert found.objective[-1] > found.objective[0]
    again = weight_matching(net.state_dict(), stranger.state_dict(), axes, seed)
    assert all(torch.equal(order, again.order[space]) for space, order in found.order.items())


def test_activation_matching_finds_the_order_itself():
    net, x = made("convolutional")
    other, axes, order = reordered(net, x)
    found = activation_matching(net, other, [x[:8], x[8:]], axes).order
    for space, planted in order.items():
        assert torch.equal(planted[found[space]], torch.arange(len(planted)))


def test_heads_for_other_classes_do_not_matter():
    net, x = made("mlp")
    other, _, _ = reordered(net, x)
    other[4] = torch.nn.Linear(12, 7)
    aligned = mk.align(other, to=net)
    assert torch.equal(aligned[0].weight, net[0].weight)
    assert_close(aligned(x), other(x))


def test_weights_can_be_aligned_where_the_axes_are_given(tmp_path):
    net, x = made("mlp")
    other, axes, _ = reordered(net, x)
    aligned = mk.align(other.state_dict(), to=net.state_dict(), axes=axes)
    assert all(torch.equal(aligned[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mk.align(mlp().state_dict(), to=mlp().state_dict()), r"pass axes=derive\(module, example\)"),
        (lambda: mk.align(mlp().state_dict(), to=mlp(), axes=axes_of_mlp(), batches=[1]), "these are weights: leave batches out"),
        (lambda: mk.align(mlp(), to=mlp(), batches=(x for x in [torch.ones(2, 6)])), "pass a list or a DataLoader, not a generator"),
        (lambda: mk.align(torch.nn.Sequential(torch.nn.Linear(6, 16)), to=mlp()), "but one of the two networks lacks it"),
    ],
)  # fmt: skip
def test_what_cannot_be_aligned_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def axes_of_mlp():
    """The spaces of `mlp`."""
    return reordered(mlp(), torch.randn(2, 6))[1]


def test_no_batch_at_all_is_said():
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    with pytest.raises(ValueError, match="there is nothing to measure on: batches is empty"):
        mk.align(net, to=net, batches=[])
