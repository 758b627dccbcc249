"""The derived spaces: a permutation of any of them is not to be seen from outside."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mergekit_nb.models.axes import derive
from mergekit_nb.models.halves import halves
from mergekit_nb.weights.axes import Axes, Port, Space, permuted

from .architectures import ARCHITECTURES, LARGE, made


def shuffled(axes: Axes, seed: int = 0) -> dict[str, Tensor]:
    """A random order of every space, blocks kept together."""
    noise = torch.Generator().manual_seed(seed)
    return {
        s.name: (torch.randperm(s.width // s.unit, generator=noise)[:, None] * s.unit + torch.arange(s.unit)).flatten()
        for s in axes.spaces
    }


def outputs(network: nn.Module, inputs: tuple) -> list[Tensor]:
    with torch.no_grad():
        return [out for out in tree_leaves(network(*inputs)) if isinstance(out, Tensor)]


def differences(network: nn.Module, axes: Axes, inputs: tuple) -> list[float]:
    """Of each output, the largest difference that shuffling makes, in units of the output's size; it stays shuffled."""
    before = outputs(network, inputs)
    network.load_state_dict(permuted(network.state_dict(), axes, shuffled(axes)))
    pairs = zip(before, outputs(network, inputs), strict=True)
    return [((after - before).abs().max() / before.abs().max()).item() for before, after in pairs]


# How many spaces there are: a derivation that nails everything down would preserve functions, too.
SPACES = {
    "mlp": 2,
    "vgg11": 10,  # 8 convolutions, 2 hidden linear layers
    "vgg11_bn": 10,
    "resnet20": 12,  # 9 blocks, 3 stages
    "option_a": 4,  # inside the block; the stream in three: padding, the stem's features, padding
    "resnet18": 12,  # 8 blocks, 4 stages
    "resnet50": 37,  # 2 in each of 16 bottlenecks, 4 stages, the stem
    "densenet121": 120,  # every convolution: the stem, 2 in each of 58 layers, 3 transitions
    "ViT-B-32": 25,  # heads and hidden features of 12 blocks, the stream
    "zoo": 14,  # the same: 4 blocks that see and 2 that read
    "language": 5,
    "tied": 5,
    "written": 4,  # two parts that are written, one that stays zero, what is made of them
}
BOUNDARIES = {
    "mlp": ("2", "3"),
    "resnet20": ("layer1", "layer2", "layer3"),
    "resnet50": ("conv1", "layer1", "layer2", "layer3", "layer4"),
    "language": ("norm",),
    "tied": (),
    "written": ("two", "head"),  # when the board is full; when it is joined with what was made of it
    "ViT-B-32": ("ln_post",),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_permuting_every_space_changes_no_output(name):
    network, inputs = made(name)
    axes = derive(network, inputs)
    assert max(differences(network, axes, inputs)) < (1e-5 if name in LARGE else 1e-9)
    assert len(axes.spaces) == SPACES.get(name, len(axes.spaces)) > 0
    assert axes.boundaries == BOUNDARIES.get(name, axes.boundaries)
    assert len(set(axes.names)) == len(axes.names)


@pytest.mark.parametrize(
    "name", ["vgg11_bn", "resnet18", "densenet121", "mobilenet_v2", "shufflenet", "language", "zoo"]
)
def test_cut_at_a_boundary_the_halves_make_the_whole(name):
    network, inputs = made(name)
    network, inputs = (network.visual, inputs[:1]) if name == "zoo" else (network, inputs)
    axes = derive(network, inputs)
    stop = axes.boundaries[len(axes.boundaries) // 2]
    spaces = axes.spaces[: axes.names.index(stop) + 1]
    early = {port.tensor for space in spaces for port in space.ports if port.role != "reads"}
    ((first, second),) = halves([network], early, inputs[0])
    assert not set(first.state_dict()) & set(second.state_dict())
    assert len(first.state_dict()) + len(second.state_dict()) <= len(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(second(*first(*inputs)), network(*inputs))


@pytest.mark.parametrize("name", ["mlp", "resnet20", "attention", "tied", "wide", "grouped", "option_a", "recurrent"])
def test_leaving_out_a_port_does_change_them(name):
    """So the test above can fail: every single space's readers matter."""
    network, inputs = made(name)
    for space in derive(network, inputs).spaces:
        some = [port for port in space.ports if port.role == "reads"] or list(space.ports)
        torn = Space(space.name, space.width, tuple(p for p in space.ports if p is not some[-1]), space.unit)
        order = {space.name: torch.arange(space.width).reshape(-1, space.unit).flip(0).flatten()}
        moved = copy.deepcopy(network)
        moved.load_state_dict(permuted(network.state_dict(), Axes((torn,)), order))
        assert any(
            (a - b).abs().max() > 1e-6 for a, b in zip(outputs(network, inputs), outputs(moved, inputs), strict=True)
        )


def test_all_features_of_a_residual_network_can_move():
    network, inputs = made("resnet18")
    ports = {(port.tensor, port.axis) for space in derive(network, inputs).spaces for port in space.ports}
    weights = {n: t for n, t in network.state_dict().items() if t.ndim}
    wanted = {(name, axis) for name, t in weights.items() for axis in range(2 if t.ndim > 1 else 1)}
    assert ports == wanted - {("conv1.weight", 1), ("fc.weight", 0), ("fc.bias", 0)}


def test_heads_move_as_blocks():
    network, inputs = made("attention")
    heads = next(space for space in derive(network, inputs).spaces if space.unit > 1)
    assert (heads.width, heads.unit) == (12, 3)
    fused = [port for port in heads.ports if port.tensor == "qkv.weight"]
    assert [(port.axis, port.start, port.role) for port in fused] == [
        (0, 0, "writes"),
        (0, 12, "writes"),
        (0, 24, "writes"),
    ]
    assert Port("out.weight", 1, "reads") in heads.ports


def test_a_tied_tensor_has_ports_under_both_names():
    network, inputs = made("tied")
    (stream,) = [space for space in derive(network, inputs).spaces if space.width == 16 and space.unit == 1]
    assert {"tokens.weight", "head.weight", "places"} <= {port.tensor for port in stream.ports}


def test_a_flatten_repeats_and_a_concatenation_starts_later():
    ports = {port for space in derive(*made("wide")).spaces for port in space.ports if port.tensor == "head.weight"}
    assert {port.repeat for port in ports} == {1, 4}
    assert {port.start for port in ports} >= {0, 48}


def test_groups_share_a_space_with_their_kernels():
    axes = derive(*made("grouped"))
    first, second = axes.spaces
    assert (first.width // first.unit, second.width // second.unit) == (3, 4)  # 6 groups, 3 of the norm; 4 groups
    roles = {port.tensor: port.role for port in (*first.ports, *second.ports)}
    assert roles["wider.weight"] == roles["depthwise.weight"] == roles["norm.weight"] == "scales"
    assert (roles["stem.weight"], roles["point.weight"]) == ("writes", "writes")


def test_roles_are_what_a_tensor_does():
    (space,) = derive(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)), torch.zeros(1, 3, 2, 2)
    ).spaces
    assert {(port.tensor, port.axis): port.role for port in space.ports} == {
        ("0.weight", 0): "writes", ("0.bias", 0): "writes", ("1.weight", 0): "scales", ("1.bias", 0): "scales",
        ("1.running_mean", 0): "scales", ("1.running_var", 0): "scales", ("3.weight", 1): "reads",
    }  # fmt: skip


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.gate(x)
        return self.head(x) if x.sum() > 0 else self.head(-x)


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x).abs()


def test_a_choice_by_value_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"inner reads a number out of what it is given .*pass the spaces by hand: axes=Axes"
    ):
        derive(_nested(Branch()), torch.randn(3, 4))


def _nested(inner: nn.Module) -> nn.Module:
    network = nn.Sequential()
    network.add_module("first", nn.Linear(4, 4))
    network.add_module("inner", inner)
    return network


def test_an_operation_that_is_not_known_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"inner runs _fft_r2c, and it is not known .*pass the spaces by hand: axes=Axes"
    ):
        derive(_nested(Spectrum()), torch.randn(3, 4))


class Wrapped(nn.Linear):
    def forward(self, x):
        return SimpleNamespace(logits=super().forward(x))


def test_an_output_that_cannot_be_looked_into_is_refused():
    """Or its features would be taken for hidden ones."""
    with pytest.raises(ValueError, match=r"the model gives a SimpleNamespace; it has to give tensors"):
        derive(Wrapped(3, 4), torch.randn(1, 3))


def test_an_unknown_operation_on_what_cannot_move_is_no_matter():
    network = nn.Sequential(Spectrum(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert [space.width for space in derive(network, torch.randn(3, 4)).spaces] == [4]


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 2, 1)).train()
    before = copy.deepcopy(network.state_dict())
    network[2].eval()
    derive(network, torch.randn(2, 3, 4, 4))
    assert [module.training for module in network] == [True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.backends.mha.get_fastpath_enabled()
