"""Zipping: what comes back when the networks are one network, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.models.axes import derive
from mergekit_nb.models.flops import flops
from mergekit_nb.models.moments import joint_moments
from mergekit_nb.models.resnet import ResNet
from mergekit_nb.models.watch import unfused
from mergekit_nb.weights.axes import Axes, Port, Probe, Space, permuted
from tests.models.architectures import made
from tests.models.test_axes import shuffled


def network(seed: int, outputs: int = 4) -> nn.Module:
    """A residual network in which nothing is as it is when fresh."""
    torch.manual_seed(seed)
    net = ResNet((6, 8, 8), (2, 1, 1), outputs).eval()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return net


def batches(count: int = 3) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(5)
    return [torch.randn(8, 3, 12, 12, generator=noise) for _ in range(count)]


def run(net: nn.Module, x: torch.Tensor):
    with torch.no_grad():
        return net(x)


@pytest.mark.parametrize("stop_at", [None, "layer1", "layer2", "layer3"])
@pytest.mark.parametrize("count", [2, 3])
def test_a_network_zipped_with_itself_is_itself(stop_at, count):
    net, data = network(0), batches()
    # a third copy is as like to the two that are one already as alpha says, and others of its own may be more
    zipped = mk.zipit([net] * count, data, alpha=0.3 if count == 2 else 1.0, stop_at=stop_at, reset=False)
    outs = run(zipped, data[0])
    for out in [outs] if stop_at is None else outs:
        assert_close(out, run(net, data[0]), rtol=1e-4, atol=1e-5)
    width = {space: len(groups) for space, groups in zipped.groups.items()}
    for space, groups in zipped.groups.items():
        assert {group for group in groups if len(group) == count} == {
            tuple(i + n * width[space] for n in range(count)) for i in range(width[space])
        }


@pytest.mark.parametrize("name", ["mlp", "residual", "grouped", "attention", "wide", "option_a"])
def test_a_hidden_permutation_is_found_and_undone(name):
    net, inputs = (network(0), tuple(batches(1))) if name == "residual" else made(name)
    torch.manual_seed(1)
    data = [torch.randn(16, *inputs[0].shape[1:]).to(inputs[0]) for _ in range(2)]
    axes = derive(net, inputs)
    other = copy.deepcopy(net)
    other.load_state_dict(permuted(net.state_dict(), axes, shuffled(axes)))
    for stop_at in (None, *axes.boundaries[:2]):
        zipped = mk.zipit([net, other], data, stop_at=stop_at, reset=False, matching="permute")
        outs = run(zipped, data[0])
        for out in [outs] if stop_at is None else outs:
            assert_close(out, run(net, data[0]), rtol=1e-5, atol=1e-5)


def test_heads_are_measured_inside_attention_that_calls_no_module():
    net, inputs = made("language")
    axes = derive(net, inputs)
    heads = axes.space("layers.0.self_attn")
    assert (heads.unit, heads.probe) == (4, Probe("layers.0.self_attn", "inside", -1, 0))
    found = joint_moments([net], [inputs[0]], axes, [heads.name])[heads.name]
    seen = {}
    # what is projected, by another way: the projection's input, from its output
    net.layers[0].self_attn.register_forward_hook(lambda part, _, out: seen.update(out=out[0], part=part))
    with torch.no_grad(), unfused():
        net(*inputs)
    projection = seen["part"].out_proj
    mixed = (seen["out"] - projection.bias) @ torch.linalg.inv(projection.weight.detach()).T
    assert_close(found.mean, mixed.flatten(0, 1).mean(0).detach())
    assert_close(run(mk.zipit([net, net], [inputs[0]]), inputs[0]), run(net, inputs[0]))


@pytest.mark.parametrize("dead", [slice(0, 1), slice(None, None, 3), slice(None, None, 2)])
def test_dead_features_do_not_keep_a_network_from_being_itself(dead):
    for seed in range(4):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3))
        net[0].bias.data[dead] = -50.0
        data = [torch.randn(30, 4)]
        assert_close(run(mk.zipit([net, net], data), data[0]), run(net, data[0]))


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.125), (1e-4, 0.0), (1.0, 1.0)])
def test_groups_are_a_partition_of_all_features(count, alpha, beta):
    nets = [network(seed) for seed in range(count)]
    zipped = mk.zipit(nets, batches(1), alpha=alpha, beta=beta)
    axes = derive(nets[0], batches(1)[0][:1])
    assert tuple(zipped.groups) == axes.names
    for name, groups in zipped.groups.items():
        width = axes.space(name).width
        assert len(groups) == width
        assert sorted(feature for group in groups for feature in group) == list(range(count * width))
        assert zipped.zips[name].lost == ()


def test_heads_may_have_other_classes_and_the_trunk_runs_once():
    nets, data = [network(0), network(1, outputs=7), network(2, outputs=2)], batches()
    zipped = mk.zipit(nets, data, stop_at="layer2")
    calls = []
    zipped.trunk.register_forward_hook(lambda *_: calls.append(1))
    assert [tuple(out.shape) for out in run(zipped, data[0])] == [(8, 4), (8, 7), (8, 2)]
    assert calls == [1]
    assert zipped.boundaries == ("layer1", "layer2", "layer3")
    one, three = flops(nets[0], data[0]), sum(flops(net, data[0]) for net in nets)
    assert one < flops(zipped, data[0]) < three


def test_cost_falls_as_the_boundary_moves():
    nets, x = [network(0), network(1)], batches(1)
    cost = [flops(mk.zipit(nets, x, stop_at=at), x[0]) for at in ("layer1", "layer2", "layer3", None)]
    assert cost == sorted(cost, reverse=True)
    assert cost[-1] == flops(nets[0], x[0]) < cost[-2] < cost[0] < 2 * cost[-1]


def test_what_lies_behind_the_boundary_is_each_networks_own():
    nets = [network(0), network(1)]
    zipped = mk.zipit(nets, batches(), stop_at="layer2", reset=False)
    for head, net in zip(zipped.heads, nets, strict=True):
        assert torch.equal(head.get_parameter("linear.weight"), net.linear.weight)
        assert not any(name.startswith(("conv1", "layer1", "layer2")) for name in head.state_dict())
    assert not any(name.startswith(("layer3", "linear")) for name in zipped.trunk.state_dict())


def test_plain_averaging_is_the_identity_matching():
    nets = [network(0), network(1)]
    merged = mk.zipit(nets, batches(1), matching="identity", reset=False).trunk.state_dict()
    for name, tensor in merged.items():
        mean = (nets[0].state_dict()[name] + nets[1].state_dict()[name]) / 2
        assert_close(tensor, mean if tensor.is_floating_point() else nets[0].state_dict()[name])


def test_only_statistics_differ_after_a_reset_and_the_networks_are_left_alone():
    nets = [network(0), network(1)]
    before = copy.deepcopy([net.state_dict() for net in nets])
    kept = mk.zipit(nets, batches(), reset=False).state_dict()
    reset = mk.zipit(nets, batches()).state_dict()
    moved = {name for name in kept if not torch.equal(kept[name], reset[name])}
    assert moved == {name for name in kept if "running_" in name or name.endswith("num_batches_tracked")}
    for net, weights in zip(nets, before, strict=True):
        assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())


def test_a_zip_is_a_module_that_can_be_copied_and_stored(tmp_path):
    data = batches()
    zipped = mk.zipit([network(0), network(1)], data, stop_at="layer1").eval()
    twin = copy.deepcopy(zipped)
    for parameter in twin.parameters():
        parameter.data.zero_()
    torch.save(zipped.state_dict(), tmp_path / "zip.pt")
    twin.load_state_dict(torch.load(tmp_path / "zip.pt", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(run(twin, data[0]), run(zipped, data[0]), strict=True))


class Branch(nn.Module):
    """What cannot be traced: it looks at its input."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = torch.relu(self.one(x))
        return self.two(x) if x.sum() >= 0 else -self.two(x)


def test_spaces_can_be_passed_by_hand():
    ports = (Port("one.weight", 0, "writes"), Port("one.bias", 0, "writes"), Port("two.weight", 1, "reads"))
    axes = Axes((Space("hidden", 6, ports, probe=Probe("two", "input"), boundary=True),))
    torch.manual_seed(0)
    net, data = Branch(), [torch.randn(20, 4)]
    with pytest.raises(ValueError, match="pass the spaces by hand: axes="):
        mk.zipit([net, net], data)
    assert_close(run(mk.zipit([net, net], data, axes=axes), data[0]), run(net, data[0]))
    with pytest.raises(ValueError, match=r"Branch cannot be cut in two: torch\.fx says.*Zip it whole: stop_at=None"):
        mk.zipit([net, net], data, axes=axes, stop_at="hidden")


class Sized(nn.Module):
    """What torch.fx cannot trace and torch.export can: a choice by the shape of the input."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.two(torch.relu(self.one(x if x.shape[1] == 4 else x[:, :4])))


def test_what_fx_cannot_trace_is_cut_by_export():
    torch.manual_seed(0)
    nets, data = [Sized(), Sized()], [torch.randn(20, 4)]
    with pytest.raises(torch.fx.proxy.TraceError):
        torch.fx.symbolic_trace(nets[0])
    parts = mk.zipit(nets, data, stop_at="one")
    assert [tuple(out.shape) for out in run(parts, data[0][:7])] == [(7, 2), (7, 2)]
    whole = mk.zipit([nets[0], nets[0]], data, stop_at="one")
    assert_close(run(whole, data[0][:7])[1], run(nets[0], data[0][:7]))
    assert [name for name in parts.trunk.state_dict() if "two" in name] == []


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ((0,), {}, "zipping takes two networks or more; got 1"),
        (
            (0, 1),
            {"stop_at": "layer1.0.conv1"},
            "cannot be cut at 'layer1.0.conv1'; the boundaries are layer1, layer2, layer3",
        ),
        ((0, 1), {"matching": "zipper"}, "matching is one of zip, permute, optimal, identity, first; got 'zipper'"),
        ((0, 1), {"mode": "careful"}, "mode is one of guarded, official; got 'careful'"),
        ((0, 1), {"alpha": 0.0}, r"alpha is in \(0, 1\]; got 0.0"),
        ((0, 1), {"batches": []}, "there is nothing to measure on: batches is empty"),
        (
            (0, 1),
            {"batches": [torch.zeros(0, 3, 12, 12)]},
            "there is nothing to measure on: the first batch holds no inputs",
        ),
        ((0, 1), {"batches": (x for x in batches())}, "pass a list or a DataLoader, not a generator"),
    ],
)
def test_wrong_calls_are_refused(given, options, said):
    options = {"batches": batches(1), **options}
    with pytest.raises(ValueError, match=said):
        mk.zipit([network(seed) for seed in given], options.pop("batches"), **options)


@pytest.mark.parametrize(
    ("networks", "data", "said"),
    [
        (network(0), batches(1), "networks are two torch modules or more, in a list"),
        ({"a": network(0), "b": network(1)}, batches(1), "networks are two torch modules or more, in a list"),
        ([network(0).state_dict(), network(1).state_dict()], batches(1), "networks are two torch modules or more"),
        ([network(0), network(1)], batches(1)[0], "batches are a list of tensors or a DataLoader; got Tensor"),
        ([network(0), network(1)], None, "batches are a list of tensors or a DataLoader; got NoneType"),
        ([network(0), network(1)], [{"x": batches(1)[0]}], "a batch is a tensor, or a pair .* of tensors; got dict"),
    ],
)
def test_what_is_no_network_or_no_batch_is_named(networks, data, said):
    with pytest.raises(TypeError, match=said):
        mk.zipit(networks, data)


def test_broken_weights_are_named():
    broken = network(1)
    broken.conv1.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"^conv1\.weight of number 2 has entries that are NaN or infinite"):
        mk.zipit([network(0), broken], batches(1))
    with pytest.raises(ValueError, match=r"^conv1\.weight of the network to be aligned has entries that are NaN"):
        mk.align(broken, to=network(0))


def test_networks_of_other_widths_are_told_apart_from_other_heads():
    wide = ResNet((6, 10, 8), (2, 1, 1), 4)
    with pytest.raises(ValueError, match=r"in number 2; are they one architecture\?$"):
        mk.zipit([network(0), wide], batches(1))
    with pytest.raises(ValueError, match=r"are they one architecture\?$"):
        mk.align(wide, to=network(0))


def test_at_the_last_boundary_classifiers_may_have_other_classes():
    nets, data = [network(0), network(1, outputs=7)], batches()
    zipped = mk.zipit(nets, data, stop_at="layer3")
    assert [tuple(out.shape) for out in run(zipped, data[0])] == [(8, 4), (8, 7)]
    itself = mk.zipit([nets[1], nets[1]], data, stop_at="layer3", reset=False)
    assert_close(run(itself, data[0])[1], run(nets[1], data[0]), rtol=1e-4, atol=1e-5)


def test_heads_that_differ_need_a_boundary():
    said = r"linear\.weight is \(4, 8\) in the first network and is \(9, 8\) in number 2; zip up to a boundary \(layer1, layer2, layer3\)"
    with pytest.raises(ValueError, match=said):
        mk.zipit([network(0), network(1, outputs=9)], batches(1))


def test_features_that_no_module_sees_are_named():
    (space,) = derive(Bare(), torch.zeros(1, 4)).spaces
    assert space.probe is None
    with pytest.raises(ValueError, match=f"no module sees the features of {space.name}, so they cannot be matched"):
        mk.zipit([Bare(), Bare()], [torch.zeros(2, 4)])


class Bare(nn.Module):
    """Two matrices, multiplied without a module."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6, 2))

    def forward(self, x):
        return torch.relu(x @ self.one) @ self.two
