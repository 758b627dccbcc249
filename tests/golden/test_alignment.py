"""Git Re-Basin, REPAIR, PLeaS and the exact Fisher diagonal against the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.align.pleas import Plan, _joint_grams, _least_squares, fitted
from mergekit_nb.align.rebasin import weight_matching
from mergekit_nb.align.repair import repair
from mergekit_nb.maths import squares
from mergekit_nb.maths.partial import partial
from mergekit_nb.weights.axes import Axes, Port, Probe, Space

from .cases import ids, params, related, under


def chain(layers: list[str], widths: list[int]) -> Axes:
    """The spaces of a multilayer perceptron."""
    return Axes(
        tuple(
            Space(
                one,
                width,
                (
                    Port(f"{one}.weight", 0, "writes"),
                    Port(f"{one}.bias", 0, "writes"),
                    Port(f"{two}.weight", 1, "reads"),
                ),
                probe=Probe(two, "input"),
            )
            for one, two, width in zip(layers, layers[1:], widths, strict=False)
        )
    )


def as_torch(tensors: dict) -> dict:
    """Flax's kernels are "in out"."""
    return {
        name.replace("/kernel", ".weight").replace("/bias", ".bias"): t.T.contiguous() if "kernel" in name else t
        for name, t in tensors.items()
    }


@pytest.mark.parametrize("seed", range(3))
def test_git_rebasins_weight_matching(seed):
    golden = related("git_rebasin/mlp_noisy_permuted")
    a, b, expected = (as_torch(under(golden, prefix)) for prefix in ("in/a/", "in/b/", "out/b_aligned/"))
    axes = chain(["Dense_0", "Dense_1", "Dense_2"], params("git_rebasin/mlp_noisy_permuted")["layers"][1:-1])
    found = weight_matching(a, b, axes, seed)
    for i, order in enumerate(found.order.values()):
        assert torch.equal(order, golden[f"out/perm/P_{i}"])
    assert list(found.objective) == sorted(found.objective)
    aligned = mk.align(b, to=a, axes=axes, seed=seed)
    assert all(torch.equal(aligned[name], expected[name]) for name in expected)


def test_pleas_weight_matching():
    golden = related("permutation/pleas_weight_matching_mlp")
    axes = chain(["a", "b", "c"], params("permutation/pleas_weight_matching_mlp")["hidden"])
    found = weight_matching(under(golden, "in/m1/"), under(golden, "in/m2/"), axes)
    assert all(torch.equal(found.order[name], golden[f"out/perm_{name}"]) for name in "ab")


def convolution(weight: torch.Tensor, bias: torch.Tensor) -> nn.Sequential:
    layer = nn.Conv2d(weight.shape[1], len(weight), weight.shape[2], padding=1)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return nn.Sequential(layer)


@pytest.mark.parametrize(("case", "how"), [("resample", "measured"), ("closed_form", "closed form")])
def test_repair(case, how):
    golden, alpha = related(f"repair/{case}"), params(f"repair/{case}")["alpha"]
    ends = [convolution(golden[f"in/c{i}/weight"], golden[f"in/c{i}/bias"]) for i in range(2)]
    averaged = convolution(
        *[(1 - alpha) * golden[f"in/c0/{n}"] + alpha * golden[f"in/c1/{n}"] for n in ("weight", "bias")]
    )
    axes = Axes((Space("0", 5, (Port("0.weight", 0, "writes"), Port("0.bias", 0, "writes"))),))
    mended = repair(averaged, ends, [golden["in/x"]], alpha, how, axes)
    assert_close(mended[0].weight.data, golden["out/fused/weight"], rtol=1e-3, atol=1e-5)
    assert_close(mended[0].bias.data, golden["out/fused/bias"], rtol=1e-3, atol=1e-5)
    if "out/y" in golden:
        assert_close(mended(golden["in/x"]).detach(), golden["out/y"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("case", ids("permutation/pleas_partial_merge"))
def test_pleas_partial_merge(case):
    golden, maps, axes = related(case), {}, chain(["a", "b", "c"], [8, 6])
    for name in "ab":
        ratio, order, cost = params(case)[f"ratio_{name}"], golden[f"in/perm_{name}"], golden[f"in/cost_{name}"]
        if ratio == 1:  # the authors' code then takes features by their numbers and merges the most similar one
            ratio, order = 1 - 1e-6, torch.arange(len(order))
        zipped = partial(order, cost[torch.arange(len(order)), order], ratio)
        merged = len(golden[f"out/blocks_{name}/merged1"])
        assert [group[0] for group in zipped.groups[:merged]] == golden[f"out/blocks_{name}/merged1"].tolist()
        assert [group[1] - len(order) for group in zipped.groups[:merged]] == golden[
            f"out/blocks_{name}/merged2"
        ].tolist()
        maps[name] = zipped.maps()
    weights = Plan((axes, axes), maps).weights([under(golden, "in/m1/"), under(golden, "in/m2/")])
    for name in ("a.weight", "a.bias", "b.weight", "b.bias"):
        assert torch.equal(weights[name], golden[f"out/{name}"])
    # the classifier, which the authors replace: theirs counts what was not merged in full, ours is the mean of both
    theirs = golden["out/c.weight"].clone()
    theirs[:, merged:] /= 2
    assert torch.equal(weights["c.weight"], theirs)


class Chain(nn.Module):
    """The perceptron of the least-squares case."""

    def __init__(self, weights: dict):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)
        self.load_state_dict(weights)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).relu())


def test_closed_form_least_squares_are_below_adams():
    golden, axes = related("permutation/pleas_least_squares_adam"), chain(["a", "b", "c"], [8, 6])
    networks = [Chain(under(golden, f"in/m{i}/")) for i in (1, 2)]
    maps = {
        name: partial(golden[f"in/perm_{name}"], torch.ones(width), 0.0).maps() for name, width in (("a", 8), ("b", 6))
    }
    plan, batches = Plan((axes, axes), maps), list(golden["in/batches"])
    start = plan.weights([network.state_dict() for network in networks])
    ours, adams = fitted(plan, networks, batches, start), under(golden, "out/")
    for name, gram in _joint_grams(networks, ["a", "b", "c"], batches).items():
        lift, target, _ = _least_squares(plan, name, [n.get_submodule(name) for n in networks], biased=True)
        loss = [
            squares.loss(torch.cat([w[f"{name}.weight"], w[f"{name}.bias"][:, None]], 1).double(), target, lift, gram)
            for w in (ours, start, adams)
        ]
        assert loss[0] <= min(loss[1:]) * (1 + 1e-6)
        assert name == "a" or loss[0] < 0.9 * loss[2]


def test_the_exact_fisher_diagonal():
    golden = under(related("fisher_tf/exact_fisher_mlp"), "in/")
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=False))
    network.load_state_dict({"0.weight": golden["W"].T, "0.bias": golden["b"], "2.weight": golden["V"].T})
    found = mk.collect(network, golden["x"].split(5), {"fisher"})
    expected = under(related("fisher_tf/exact_fisher_mlp"), "out/")
    assert_close(found["fisher/0.weight"].T, expected["F_W"], rtol=1e-4, atol=1e-7)
    assert_close(found["fisher/0.bias"], expected["F_b"], rtol=1e-4, atol=1e-7)
    assert_close(found["fisher/2.weight"].T, expected["F_V"], rtol=1e-4, atol=1e-7)
