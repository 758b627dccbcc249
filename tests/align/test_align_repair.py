"""REPAIR gives an averaged network the statistics of those it was averaged from; batch norm's are re-estimated."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.align.repair import hidden, reset
from tests.align.nets import made, mlp, reordered


def averaged(a: nn.Module, b: nn.Module, alpha: float = 0.5) -> nn.Module:
    """The network half way, or at `alpha`."""
    merged = copy.deepcopy(a)
    with torch.no_grad():
        for p, q in zip(merged.parameters(), b.parameters(), strict=True):
            p.mul_(1 - alpha).add_(alpha * q)
    return merged


def outputs(net: nn.Module, x: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
    """Every layer's outputs, "sample feature"."""
    found = {}
    for name in layers:
        net.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: found.__setitem__(name, o.movedim(1, -1).flatten(0, -2))
        )
    with torch.no_grad():
        net(x)
    return found


@pytest.mark.parametrize("alpha", [0.25, 0.5])
@pytest.mark.parametrize("name", ["mlp", "convolutional"])
def test_measured_repair_reaches_the_goal_in_every_hidden_layer(name, alpha):
    a, x = made(name)
    b, _ = made(name, seed=4)
    _, axes, _ = reordered(a, x)
    x = torch.randn(2000, *x.shape[1:])  # the one divides by n, the other by n - 1
    mended = mk.repair(averaged(a, b, alpha), [a, b], [x], alpha)
    layers = hidden(a, axes)
    assert len(layers) == 2
    near, far, got = (outputs(copy.deepcopy(net), x, layers) for net in (a, b, mended))
    for layer in layers:
        assert_close(
            got[layer].mean(0), (1 - alpha) * near[layer].mean(0) + alpha * far[layer].mean(0), rtol=1e-3, atol=1e-4
        )
        assert_close(
            got[layer].std(0), (1 - alpha) * near[layer].std(0) + alpha * far[layer].std(0), rtol=1e-2, atol=1e-4
        )


def test_the_closed_form_is_the_measured_one_in_the_first_layer():
    a, x = made("convolutional")
    b, _ = made("convolutional", seed=4)
    merged = averaged(a, b)
    measured, closed = (mk.repair(merged, [a, b], [x], how=how) for how in ("measured", "closed form"))
    # the one divides by n - 1, the other by n: 1024 samples here
    assert_close(closed[0].weight.data, measured[0].weight.data, rtol=1e-3, atol=1e-5)
    assert_close(closed[0].bias.data, measured[0].bias.data, rtol=1e-2, atol=1e-4)
    assert not torch.allclose(closed[3].weight.data, measured[3].weight.data, rtol=1e-2)


def test_a_network_averaged_with_itself_needs_no_repair():
    a, _ = made("mlp")
    x = torch.randn(2000, 6)
    mended = mk.repair(averaged(a, a), [a, a], [x])
    assert_close(mended(x), a(x), rtol=1e-3, atol=1e-4)


def test_batch_norm_is_reset_to_the_plain_mean_over_batches():
    net, x = made("batch norm")
    batches = [x[:10], x[10:]]
    net.train()
    momenta = [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    first = [net[0](batch).detach() for batch in batches]
    assert reset(net, batches) is net
    assert net.training
    assert [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == momenta
    assert_close(net[1].running_mean, torch.stack([f.mean((0, 2, 3)) for f in first]).mean(0), rtol=1e-4, atol=1e-5)
    assert_close(net[1].running_var, torch.stack([f.var((0, 2, 3)) for f in first]).mean(0), rtol=1e-4, atol=1e-5)


def test_repair_of_a_network_with_batch_norm_is_a_reset_of_a_copy():
    a, x = made("batch norm")
    b, _ = made("batch norm", seed=2)
    merged = averaged(a, b)
    before = merged[1].running_mean.clone()
    mended = mk.repair(merged, [a, b], [x])
    assert torch.equal(merged[1].running_mean, before)
    assert_close(mended[1].running_mean, mended[0](x).mean((0, 2, 3)).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: mk.repair(net, [net], [torch.ones(2, 6)]), "between two networks; got 1"),
        (lambda net: mk.repair(net, [net, net], []), "batches is empty"),
        (lambda net: mk.repair(net, [net, net], [torch.ones(2, 6)], how="exact"), 'how is "measured" or "closed form"; got \'exact\''),
        (lambda net: reset(nn.Sequential(nn.BatchNorm1d(6)), []), "batches is empty"),
        (lambda net: reset(nn.Sequential(nn.BatchNorm1d(6)), iter([])), "pass a list or a DataLoader"),
    ],
)  # fmt: skip
def test_what_cannot_be_repaired_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call(mlp())
