"""ZipIt! over whole networks against the authors' own merges, stage by stage: their graphs are hand-written, ours derived."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.resnet import Bottleneck

import mergekit_nb as mk
from mergekit_nb.align.repair import reset
from mergekit_nb.align.zipit import assemble
from mergekit_nb.maths.matching import permute, zip_features
from mergekit_nb.maths.moments import correlation
from mergekit_nb.models.axes import derive
from mergekit_nb.models.moments import joint_moments
from mergekit_nb.models.resnet import ResNet

from .cases import core, params, under

RESNET = [
    "layer1.0.conv1", "layer1.1.conv1", "layer1", "layer2.0.conv1", "layer2.1.conv1", "layer2", "layer3.0.conv1",
    "layer3.1.conv1", "layer3",
]  # fmt: skip
BOTTLENECK = [
    "conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2", "layer1", "layer2.0.conv1",
    "layer2.0.conv2", "layer2.1.conv1", "layer2.1.conv2", "layer2",
]  # fmt: skip
VGG = ["features.0", "features.3", "features.6", "features.8"]
CASES = {
    "zipit_graph_resnet_full": RESNET,
    "zipit_graph_resnet_partial": RESNET,
    "zipit_graph_bottleneck": BOTTLENECK,
    "zipit_graph_vgg_permute": VGG,
}
STATISTICS = ("running_mean", "running_var")


class Bottlenecks(nn.Module):
    """A stem and two stages of two bottleneck blocks."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.layer1, self.layer2 = self._stage(8, 3, 1), self._stage(12, 5, 2)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(20, 5)

    def _stage(self, channels, planes, stride):
        way = nn.Sequential(nn.Conv2d(channels, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes))
        return nn.Sequential(Bottleneck(channels, planes, stride, way), Bottleneck(4 * planes, planes))

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))


class Vgg(nn.Module):
    """Convolutions of 6, 8, 10 and 10 features, with ReLU and pools between them."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in (6, "M", 8, "M", 10, 10, "M"):
            if width == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(10, 5)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def build(case):
    if "resnet" in case:
        return ResNet((4, 8, 16), (2, 2, 2), 10)
    return Bottlenecks() if "bottleneck" in case else Vgg()


def networks(case, device):
    found = []
    for number in range(params(case)["models"]):
        network = build(case)
        missing = network.load_state_dict(under(core(case), f"in.model.{number}."), strict=False).missing_keys
        assert all(name.endswith("num_batches_tracked") for name in missing)
        found.append(network.eval().to(device))
    return found


def nodes(case):
    return dict(zip(params(case)["metric_nodes"], CASES[case], strict=True))


def batches(case, device):
    return list(core(case)["in.images"].to(device).split(params(case)["batch"]))


def stop(case):
    return nodes(case).get(params(case)["stop_at"])


def zips(case, device):
    """The matchings, from the stored covariances."""
    chosen, golden = params(case)["kwargs"], core(case)
    a, b = (0.3, 0.125) if isinstance(chosen, str) else (chosen["a"], chosen["b"])
    found = {}
    for node in params(case)["transformed_nodes"]:
        r = correlation(golden[f"out.covariance.{node}"].to(device))
        permuting = params(case)["matching"] == "match_tensors_permute"
        found[nodes(case)[node]] = permute(r) if permuting else zip_features(r, 2, a, b, "official")
    return found


def merged(case, device):
    nets = networks(case, device)
    images = batches(case, device)
    return assemble(nets, derive(nets[0], images[0][:1]), zips(case, device), stop(case), images[0][:1])


def check_logits(case, zipped, key, device):
    golden = core(case)
    with torch.no_grad():
        outs = zipped.eval()(golden["in.test"].to(device))
    wanted = [golden[f"out.{key}.{n}"] for n in range(len(outs))] if isinstance(outs, list) else [golden[f"out.{key}"]]
    for out, want in zip(outs if isinstance(outs, list) else [outs], wanted, strict=True):
        assert_close(out.cpu(), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_the_derived_spaces_are_the_authors_measuring_points(case, device):
    axes = derive(networks(case, device)[0], batches(case, device)[0][:1])
    assert list(axes.names) == CASES[case]


def test_the_boundaries_are_the_authors_stage_ends():
    # the authors' node numbers: 15, 30, 45 of the ResNet; 3, 24, 45 of the bottlenecks; after every layer of the VGG
    of = {case: derive(build(case), torch.zeros(1, 3, 8, 8)).boundaries for case in CASES}
    assert of["zipit_graph_resnet_full"] == ("layer1", "layer2", "layer3")
    assert of["zipit_graph_bottleneck"] == ("conv1", "layer1", "layer2")
    assert of["zipit_graph_vgg_permute"] == tuple(VGG)


@pytest.mark.parametrize("case", CASES)
def test_covariances_at_the_derived_probes_are_the_authors(case, device):
    nets, images, golden = networks(case, device), batches(case, device), core(case)
    found = joint_moments(nets, images, derive(nets[0], images[0][:1]))
    for node, name in nodes(case).items():
        assert_close(
            found[name].covariance().float().cpu(), golden[f"out.covariance.{node}"], rtol=1e-3, atol=1e-5, msg=name
        )


@pytest.mark.parametrize("case", CASES)
def test_matchings_of_the_stored_covariances_are_the_authors(case, device):
    golden, found = core(case), zips(case, device)
    for node in params(case)["transformed_nodes"]:
        for number, (merge, unmerge) in enumerate(found[nodes(case)[node]].maps()):
            assert torch.equal(unmerge.cpu(), golden[f"out.unmerge.{node}.{number}"]), node
            # a permutation of theirs is divided by 2 + 1e-5, ours by 2
            assert_close(merge.cpu(), golden[f"out.merge.{node}.{number}"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_merged_weights_are_the_authors(case, device):
    golden, zipped = core(case), merged(case, device)
    ours = zipped.trunk.state_dict()
    assert len(ours) > 5
    for name, weight in under(golden, "out.merged.").items():
        if name in ours:
            assert_close(ours[name].cpu(), weight, rtol=1e-4, atol=1e-5, msg=name)
    check_logits(case, zipped, "logits", device)


@pytest.mark.parametrize("case", [case for case in CASES if "vgg" not in case])
def test_reset_statistics_are_the_authors(case, device):
    golden, zipped = core(case), reset(merged(case, device), batches(case, device))
    parts = {"out.bnreset_merged.": zipped.trunk} | {f"out.bnreset_head.{n}.": h for n, h in enumerate(zipped.heads)}
    for prefix, part in parts.items():
        stored = part.state_dict()
        for name in [name for name in stored if name.endswith(STATISTICS)]:
            assert_close(stored[name].cpu(), golden[prefix + name], rtol=1e-3, atol=1e-4, msg=prefix + name)
    check_logits(case, zipped, "logits_bnreset", device)


@pytest.mark.parametrize("case", CASES)
def test_all_in_one_call(case, device):
    """From models and images to logits: a near-tie in a covariance could flip a match, in these cases none does."""
    chosen = params(case)["kwargs"]
    options = {} if isinstance(chosen, str) else {"alpha": chosen["a"], "beta": chosen["b"]}
    matching = "permute" if "permute" in case else "zip"
    nets = networks(case, device)
    before = copy.deepcopy([net.state_dict() for net in nets])
    zipped = mk.zipit(
        nets, batches(case, device), stop_at=stop(case), mode="official", matching=matching, reset=False, **options
    )
    check_logits(case, zipped, "logits", device)
    for net, weights in zip(nets, before, strict=True):
        assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
