"""Rooting: the student does what the teacher does, and stays nearer to where it started."""

import pytest
import torch
from torch import nn

from mergekit_nb.align.root import root
from mergekit_nb.progress import Cancelled


def generator(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 5))


def sampler(model, step):
    latents = torch.randn(64, 3, generator=torch.Generator().manual_seed(step))
    return (latents,), model(latents)


@pytest.fixture(scope="module")
def trio():
    a, b = generator(0), generator(1)
    return a, b, root(b, a, sampler, 400, rate=1e-2)


def error(one, other):
    latents = torch.randn(500, 3, generator=torch.Generator().manual_seed(10**6))
    with torch.no_grad():
        return float((one(latents) - other(latents)).square().mean())


def distance(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return float(sum((p - q).detach().square().sum() for p, q in pairs)) ** 0.5


def test_the_rooted_network_does_what_the_model_does(trio):
    a, b, rooted = trio
    assert error(rooted, b) < 0.01 * error(a, b)


def test_it_stays_nearer_to_the_network_it_is_rooted_onto(trio):
    a, b, rooted = trio
    assert distance(rooted, a) < distance(b, a)


def test_neither_network_is_touched_and_the_result_is_in_eval_mode(trio):
    a, b, rooted = trio
    for net, seed in ((a, 0), (b, 1)):
        assert all(torch.equal(p, q) for p, q in zip(net.parameters(), generator(seed).parameters(), strict=True))
    assert not rooted.training
    assert all(p is not q for p, q in zip(rooted.parameters(), a.parameters(), strict=True))


def test_the_same_twice(trio):
    a, b, rooted = trio
    again = root(b, a, sampler, 400, rate=1e-2)
    assert all(torch.equal(p, q) for p, q in zip(rooted.parameters(), again.parameters(), strict=True))


def test_the_loss_is_the_one_given():
    seen = []

    def loss(outputs, targets):
        seen.append((outputs.shape, targets.requires_grad))
        return (outputs - targets).abs().sum()

    root(generator(0), generator(1), sampler, 2, loss=loss)
    assert seen == [((64, 5), False)] * 2


def test_networks_of_different_shapes_are_refused():
    other = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 5))
    with pytest.raises(
        ValueError, match=r"model and onto differ in 0\.weight, 0\.bias, 2\.weight: only networks of one"
    ):
        root(generator(0), other, sampler, 1)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps is a number of optimiser steps, at least 1; got 0"):
        root(generator(0), generator(1), sampler, 0)


def test_it_can_be_cancelled():
    class Now:
        def is_set(self):
            return True

    with pytest.raises(Cancelled, match="root was cancelled after 0 of 5 steps"):
        root(generator(0), generator(1), sampler, 5, cancel=Now())
