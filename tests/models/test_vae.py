"""The small generator learns what it is shown, and the same twice."""

import pytest
import torch

from mergekit_nb.models.vae import Generator, latents, train


@pytest.fixture(scope="module")
def bars():
    """Condition 0: the left half is bright; condition 1: the right half."""
    pictures = torch.zeros(40, 1, 4, 4)
    pictures[::2, ..., :2] = 1
    pictures[1::2, ..., 2:] = 1
    return pictures, torch.arange(40) % 2


def test_each_condition_gives_its_own_pictures(bars):
    generator = train(*bars, conditions=2, steps=100)
    for condition, example in enumerate(bars[0][:2]):
        with torch.no_grad():
            made = generator(latents(20, seed=1), torch.full((20,), condition))
        assert made.shape == (20, 1, 4, 4)
        assert (made - example).abs().mean() < 0.1


def test_the_seed_decides_and_the_global_generator_is_left_alone(bars):
    before = torch.get_rng_state()
    one, same, other = (train(*bars, conditions=2, steps=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [torch.cat([p.flatten() for p in net.parameters()]) for net in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_pictures_are_shares_of_white():
    made = Generator(3)(latents(5, seed=0), torch.tensor([0, 1, 2, 0, 1]))
    assert made.shape == (5, 1, 16, 16)
    assert ((made >= 0) & (made <= 1)).all()
