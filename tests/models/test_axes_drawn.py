"""The same for networks that nobody thought of: drawn at random from the layers there are."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mergekit_nb.align.zipit import assemble
from mergekit_nb.maths.matching import Zip, permute
from mergekit_nb.models.axes import derive
from mergekit_nb.weights.axes import permuted

from .test_axes import outputs, shuffled

WIDTH = 12  # divisible by all the groups below, and stays so
KINDS = (
    "dense", "grouped", "depthwise", "widened", "batch norm", "group norm", "layer norm", "relu", "gate", "attend", "keep",
    "add", "cat", "halves", "shuffle", "pool",
)  # fmt: skip


class Drawn(nn.Module):
    """Layers in the order of their names; "keep" puts a value aside, "add" and "cat" fetch the last one kept."""

    def __init__(self, kinds: list[str], flat: bool):
        super().__init__()
        self.kinds, self.flat = kinds, flat
        self.stem, self.layers = nn.Conv2d(3, WIDTH, 1), nn.ModuleList(map(self._layer, kinds))
        self.head = nn.Linear(WIDTH * (16 if flat else 1), 3)

    @staticmethod
    def _layer(kind: str) -> nn.Module:
        return {
            "dense": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            "grouped": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=3),
            "depthwise": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH),
            "widened": lambda: nn.Sequential(nn.Conv2d(WIDTH, 2 * WIDTH, 1, groups=4), nn.Conv2d(2 * WIDTH, WIDTH, 1)),
            "batch norm": lambda: nn.BatchNorm2d(WIDTH),
            "group norm": lambda: nn.GroupNorm(4, WIDTH),
            "layer norm": lambda: nn.LayerNorm(WIDTH),
            "gate": lambda: nn.Conv2d(WIDTH, 2 * WIDTH, 1),
            "attend": lambda: nn.MultiheadAttention(WIDTH, 4, batch_first=True),
            "cat": lambda: nn.Conv2d(2 * WIDTH, WIDTH, 1),
            "halves": lambda: nn.Conv2d(WIDTH // 2, WIDTH, 1),
        }.get(kind, nn.Identity)()

    def forward(self, x):
        x, kept = self.stem(x), []
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            x = self._step(kind, layer, x, kept)
        x = F.adaptive_avg_pool2d(x, 4 if self.flat else 1)
        return self.head(x.flatten(1))

    def _step(self, kind, layer, x, kept):
        n, c, h, w = x.shape
        if kind == "relu":
            return F.relu(x)
        if kind == "keep":
            kept.append(x)
            return x
        if kind in ("add", "cat"):
            other = kept.pop() if kept else x
            return x + other if kind == "add" else layer(torch.cat([x, other], 1))
        if kind == "layer norm":
            return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if kind == "attend":
            tokens = x.flatten(2).transpose(1, 2)
            return x + layer(tokens, tokens, tokens)[0].transpose(1, 2).reshape(n, c, h, w)
        if kind == "gate":
            return F.glu(layer(x), 1)
        if kind == "halves":
            one, two = x.chunk(2, 1)
            return layer(one * torch.sigmoid(two))
        if kind == "shuffle":
            return x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        return F.max_pool2d(x, 3, 1, 1) if kind == "pool" else layer(x)


def drawn(kinds: list[str], flat: bool, seed: int) -> tuple[Drawn, torch.Tensor]:
    """A network, and pictures for it."""
    torch.manual_seed(seed)
    network = Drawn(kinds, flat).double().eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if name.endswith("var") else torch.randn(tensor.shape) * 0.4)
    return network, torch.randn(2, 3, 8, 8).double()


def same(one: torch.Tensor, two: torch.Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9 * two.abs().max().item())


NETWORKS = (st.lists(st.sampled_from(KINDS), max_size=8), st.booleans(), st.integers(0, 99))


@given(*NETWORKS)
@settings(max_examples=60)
def test_permuting_every_space_of_a_drawn_network_changes_nothing(kinds, flat, seed):
    network, x = drawn(kinds, flat, seed)
    axes = derive(network, x[:1])
    (before,) = outputs(network, (x,))
    network.load_state_dict(permuted(network.state_dict(), axes, shuffled(axes, seed)))
    (after,) = outputs(network, (x,))
    same(after, before)


def planted(width: int, order: torch.Tensor) -> Zip:
    """The matching of a network's features with those of its twin, which are in another order."""
    likeness = torch.zeros(2 * width, 2 * width, dtype=torch.float64)
    likeness[order, width + torch.arange(width)] = 1
    return permute(likeness)


@given(*NETWORKS)
@settings(max_examples=20)
def test_a_drawn_network_zipped_with_its_shuffled_twin_up_to_any_boundary_is_both(kinds, flat, seed):
    network, x = drawn(kinds, flat, seed)
    axes, twin = derive(network, x[:1]), copy.deepcopy(network)
    order = shuffled(axes, seed)
    twin.load_state_dict(permuted(network.state_dict(), axes, order))
    zips = {space.name: planted(space.width, order[space.name]) for space in axes.spaces}
    (before,) = outputs(network, (x,))
    for stop in axes.boundaries:
        early = {name: zips[name] for name in axes.names[: axes.names.index(stop) + 1]}
        for out in outputs(assemble([network, twin], axes, early, stop, x[:1]), (x,)):
            same(out, before)
    same(*outputs(assemble([network, twin], axes, zips, None, x[:1]), (x,)), before)


def test_most_of_them_have_spaces():
    """So the law is not empty: what ends in a dense layer can always move."""
    for kind in KINDS:
        assert derive(Drawn([kind, "dense"], True).eval(), torch.randn(1, 3, 8, 8)).spaces, kind
