"""Small networks of several kinds, and one whose features were put in another order."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mergekit_nb.models.axes import derive
from mergekit_nb.weights.axes import Axes, permuted


def mlp(outputs: int = 4) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, outputs))


def convolutional(norm: bool = False) -> nn.Sequential:
    """Two convolutions, pooling, flattening and a head."""
    norms = [[nn.BatchNorm2d(width)] if norm else [] for width in (8, 10)]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *norms[0], nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 10, 3, padding=1), *norms[1], nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(40, 5),
    )  # fmt: skip


class Attention(nn.Module):
    """One transformer block over a sequence: heads are blocks that no module sees."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head((x + self.down(self.up(self.norm(x)).relu())).mean(1))


NETS = {
    "mlp": (mlp, (64, 6)),
    "convolutional": (convolutional, (16, 3, 8, 8)),
    "batch norm": (lambda: convolutional(norm=True), (16, 3, 8, 8)),
    "attention": (Attention, (32, 5, 6)),
}


def made(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network in eval mode with statistics of its own, and inputs for it."""
    torch.manual_seed(seed)
    build, shape = NETS[name]
    net, x = build(), torch.randn(shape)
    net(x)
    return net.eval(), x


def reordered(net: nn.Module, x: Tensor, seed: int = 1) -> tuple[nn.Module, Axes, dict[str, Tensor]]:
    """The same function with its features in a random order, the spaces, and that order."""
    axes, noise = derive(net, x[:1]), torch.Generator().manual_seed(seed)
    order = {}
    for space in axes.spaces:
        blocks = torch.randperm(space.width // space.unit, generator=noise)[:, None] * space.unit
        order[space.name] = (blocks + torch.arange(space.unit)).flatten()
    other = copy.deepcopy(net)
    other.load_state_dict(permuted(net.state_dict(), axes, order))
    return other, axes, order
