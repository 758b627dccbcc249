"""What is collected of a model on data: Gram matrices, Fisher diagonals, moments."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.models.axes import derive
from mergekit_nb.models.example import example
from mergekit_nb.models.moments import joint_moments
from mergekit_nb.models.resize import resized
from mergekit_nb.weights.axes import Axes, Port, Probe, Space


class Many(nn.Module):
    """One layer of every kind that has a Gram matrix."""

    def __init__(self):
        super().__init__()
        self.strided = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 6, 3, padding="same", groups=2, bias=False)
        self.signal = nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular")
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.signal(self.grouped(self.strided(x)).relu().flatten(2)).mT
        return self.head(self.block(self.attention(x, x, x, need_weights=False)[0]).mean(1))


@pytest.fixture
def many() -> Many:
    torch.manual_seed(0)
    return Many().eval()


def seen_energy(model: nn.Module, name: str, batches: list) -> float:
    """Sum of squares of a layer's outputs without its bias, as the layer itself computes them."""
    total = 0.0

    def hook(layer, args, output):
        nonlocal total
        out = output[0] if isinstance(output, tuple) else output
        bias = layer.out_proj.bias if isinstance(layer, nn.MultiheadAttention) else layer.bias
        if bias is not None:
            out = out - (
                bias
                if isinstance(layer, nn.Linear | nn.MultiheadAttention)
                else bias.reshape(-1, *[1] * (out.ndim - 2))
            )
        total += out.double().square().sum().item()

    handle = model.get_submodule(name).register_forward_hook(hook)
    with torch.no_grad():
        for batch in batches:
            model(batch)
    handle.remove()
    return total


@pytest.mark.parametrize(
    "name", ["strided", "grouped", "signal", "attention", "block.self_attn", "block.linear2", "head"]
)
def test_a_gram_matrix_gives_the_energy_of_the_layers_outputs(many, name):
    batches = [torch.randn(3, 3, 8, 8), torch.randn(1, 3, 8, 8)]
    found = mk.collect(many, batches, {"gram"})
    layer = many.get_submodule(name)
    tensor = f"{name}.out_proj.weight" if isinstance(layer, nn.MultiheadAttention) else f"{name}.weight"
    weight, gram = many.state_dict()[tensor].double().flatten(1), found[f"gram/{tensor}"]
    grams = gram if gram.ndim == 3 else gram[None]
    energy = sum(
        torch.einsum("oi,ij,oj->", w, g, w).item() for w, g in zip(weight.chunk(len(grams)), grams, strict=True)
    )
    assert energy == pytest.approx(seen_energy(many, name, batches), rel=1e-5)


def test_the_gram_matrix_of_packed_attention_weights_is_that_of_the_tokens(many):
    found = mk.collect(many, [torch.randn(2, 3, 8, 8)], {"gram"})
    assert found["gram/attention.in_proj_weight"].shape == (4, 4)
    assert found["count/attention.in_proj_weight"] == 2 * 16


def test_a_fisher_diagonal_is_the_definition_example_by_example_and_class_by_class(many):
    x = torch.randn(3, 3, 8, 8)
    found = mk.collect(many, [x[:2], (x[2:], torch.zeros(1))], {"fisher"})
    expected = {name: torch.zeros_like(p) for name, p in many.named_parameters()}
    for image in x:
        scores = many(image[None])[0].log_softmax(-1)
        for label, score in enumerate(scores):
            gradients = torch.autograd.grad(score, list(many.parameters()), retain_graph=True)
            for total, gradient in zip(expected.values(), gradients, strict=True):
                total += scores[label].detach().exp() * gradient.square() / len(x)
    assert {f"fisher/{name}" for name in expected} == set(found)
    for name, fisher in expected.items():
        assert_close(found[f"fisher/{name}"], fisher, rtol=1e-3, atol=1e-7)


def test_moments_of_every_space(many):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(50, 3)
    found = mk.collect(net, x.split(10), {"moments"})
    features = net[1](net[0](x)).detach().double()
    assert_close(found["mean/0"], features.mean(0))
    assert_close(found["variance/0"], features.var(0, correction=0))


def test_what_was_collected_can_be_saved_and_the_model_is_left_as_it_was(many, tmp_path):
    before = {name: tensor.clone() for name, tensor in many.state_dict().items()}
    many.train()
    found = mk.collect(many, [torch.randn(2, 3, 8, 8)], {"gram", "fisher", "moments"})
    assert many.training
    assert many.block.training
    assert all(torch.equal(before[name], tensor) for name, tensor in many.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in many.modules())
    save_file(found, tmp_path / "stats.safetensors")
    again = mk.open(tmp_path / "stats.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in found.items())
    assert set(load_file(tmp_path / "stats.safetensors")) == set(found)


def test_features_of_several_models_on_the_same_batches_stacked():
    nets = [nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3)) for _ in range(3)]
    batches = [torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)]
    axes = derive(nets[0], batches[0][:1])
    found = joint_moments(nets, batches, axes)[axes.names[0]]
    with torch.no_grad():
        features = torch.cat([torch.cat([F.relu(n[0](x)) for x in batches]).movedim(1, 0).flatten(1) for n in nets])
    assert_close(found.covariance(), torch.cov(features.double(), correction=0))
    assert_close(found.correlation().float(), torch.corrcoef(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: mk.collect(net, [torch.ones(2, 3)], {"grams"}), 'what is some of "gram", "fisher", "moments"; got grams'),
        (lambda net: mk.collect(net, [], {"gram"}), "nothing to collect from: batches is empty"),
        (lambda net: mk.collect(net[:1], [torch.ones(2, 5, 3)], {"fisher"}), r'logits "example class"; the model gives \(2, 5, 4\)'),
        (lambda net: joint_moments([net], [torch.ones(2, 3)], axes_at("9")), "a Sequential has no module '9'"),
        (lambda net: joint_moments([net], [torch.ones(2, 3)], axes_at("0")), r"saw \(2, 3\), where 4 features"),
        (lambda net: joint_moments([net], [], axes_at("1")), "batches is empty"),
        (lambda net: joint_moments([net], [], axes_at("1"), ["x"]), "there is no space 'x'"),
        (lambda net: resized(net, {"0.weight": torch.ones(5, 3)}), "is in only one of the Sequential and its new weights"),
        (lambda net: example(nn.Sequential(nn.ReLU())), "no input of a Sequential could be guessed"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_said(call, words):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=words):
        call(net)


def axes_at(module: str) -> Axes:
    """A space measured at the input of some module."""
    return Axes((Space("h", 4, (Port("0.weight", 0, "writes"),), probe=Probe(module, "input")),))


def test_a_cross_attention_has_no_one_gram_matrix():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x + 1, x)[0]

    with pytest.raises(ValueError, match="attention is a cross-attention"):
        mk.collect(Cross(), [torch.randn(2, 3, 4)], {"gram"})
