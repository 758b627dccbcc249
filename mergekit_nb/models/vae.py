"""A variational autoencoder small enough to train in seconds, for showing what happens to generators that are merged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT, WIDE = 8, 256  # numbers a picture is made from; hidden units


class Generator(nn.Module):
    """Pictures from latents and a condition, such as a class.

    Args:
        conditions: how many there are.
        side: of the square grey pictures, in pixels.
    """

    def __init__(self, conditions: int, side: int = 16):
        super().__init__()
        self.conditions, self.side = conditions, side
        self.layers = nn.Sequential(
            nn.Linear(LATENT + conditions, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE), nn.ReLU(),
            nn.Linear(WIDE, side**2), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, latents: Tensor, condition: Tensor) -> Tensor:
        """float "b latent" and int64 "b" -> pictures "b 1 side side" in [0, 1]."""
        chosen = F.one_hot(condition, self.conditions).to(latents.dtype)
        return self.layers(torch.cat([latents, 3 * chosen], dim=1)).unflatten(1, (1, self.side, self.side))


def latents(count: int, seed: int) -> Tensor:
    """float32 "count latent", standard normal: what a generator draws its pictures from."""
    return torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed))


def train(pictures: Tensor, condition: Tensor, conditions: int, *, steps: int = 600, seed: int = 0) -> Generator:
    """A generator of pictures like these, trained together with an encoder that is thrown away.

    Args:
        pictures: float "n 1 side side" in [0, 1]. condition: int64 "n".
        seed: of the initialisation and of every draw.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", arXiv:1312.6114, with Bernoulli pixels.
    """
    side = pictures.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(conditions, side)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(side**2, WIDE), nn.ReLU(), nn.Linear(WIDE, 2 * LATENT))
        optimiser = torch.optim.Adam([*generator.parameters(), *encoder.parameters()], 2e-3)
        for _ in range(steps):
            places = torch.randint(len(pictures), (64,))
            optimiser.zero_grad()
            bound(generator, encoder, pictures[places], condition[places]).backward()
            optimiser.step()
    return generator.eval()


def bound(generator: Generator, encoder: nn.Module, pictures: Tensor, condition: Tensor) -> Tensor:
    """The negative evidence lower bound, in nats per picture, with one sample of the latents."""
    mean, log_variance = encoder(pictures).chunk(2, dim=1)
    sample = mean + torch.randn_like(mean) * (log_variance / 2).exp()
    error = F.binary_cross_entropy(generator(sample, condition), pictures, reduction="sum")
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
    return (error + divergence) / len(pictures)
