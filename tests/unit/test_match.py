"""Which tensors are merged, and what becomes of the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mergekit_nb as mk


def odd(base, experts):
    """A head only the experts have, in two shapes; one tensor only the base has; one of another shape."""
    base = {**base, "only": torch.ones(2), "pos": torch.zeros(4)}
    experts = {
        t: {**e, "head": torch.full((i + 1,), float(i)), "pos": torch.ones(4 + i)}
        for i, (t, e) in enumerate(experts.items())
    }
    return base, experts


def test_all_mismatches_are_listed_at_once(base, experts):
    with pytest.raises(ValueError, match="differ in 3 tensors") as error:
        mk.merge("average", *odd(base, experts))
    text = str(error.value)
    assert "only: mnist, svhn, cars lacks it" in text
    assert "pos: base has shape [4], svhn has [5]" in text
    assert "head: the base lacks it" in text
    assert "unmatched=" in text


def test_unmatched_base_keeps_the_base(base, experts):
    base, experts = odd(base, experts)
    weights = mk.merge("average", base, experts, unmatched="base").weights()
    assert set(weights) == set(base)
    assert torch.equal(weights["pos"], base["pos"])


@pytest.mark.parametrize("method", ["average", "emr"])
def test_unmatched_own_takes_each_experts(base, experts, method):
    base, experts = odd(base, experts)
    merged = mk.merge(method, base, experts, unmatched="own")
    for task, expert in experts.items():
        weights = merged.weights(task)
        assert torch.equal(weights["head"], expert["head"])
        assert torch.equal(weights["pos"], expert["pos"])
        assert torch.equal(weights["only"], base["only"])


def test_unmatched_mean_averages_where_shapes_agree(base, experts):
    for i, expert in enumerate(experts.values()):
        expert["extra"] = torch.full((2,), float(i))
    weights = mk.merge("average", base, experts, unmatched="mean").weights()
    assert weights["extra"].tolist() == [1.0, 1.0]


def test_patterns_choose_tensors(base, experts):
    merged = mk.merge("average", base, experts, include="blocks.*", exclude=["*.scale"])
    assert list(merged.vector) == ["blocks.0.bias"]
    assert torch.equal(merged.weights()["stem.weight"], base["stem.weight"])
    with pytest.raises(ValueError, match="leave nothing to merge"):
        mk.merge("average", base, experts, include="encoder.*")


def test_integer_buffers_stay_the_bases(base, experts):
    assert mk.merge("emr", base, experts).weights("cars")["blocks.1.steps"] == base["blocks.1.steps"]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_tied_tensors_are_merged_once_and_stay_equal(tmp_path):
    nets = [Tied() for _ in range(3)]
    merged = mk.merge("emr", nets[0], {"a": nets[1], "b": nets[2]})
    assert dict(merged.aliases) == {"head.weight": "embed.weight"}
    assert list(merged.vector) == ["embed.weight"]
    weights = mk.load(merged.save(tmp_path / "m")).weights("a")
    assert torch.equal(weights["head.weight"], weights["embed.weight"])
    assert merged.apply_(Tied(), "a").head.weight.shape == (5, 3)


def test_a_tie_that_an_expert_broke_is_no_tie():
    base, a = Tied(), Tied()
    a.head.weight = nn.Parameter(a.embed.weight.detach() + 1)
    merged = mk.merge("average", base, {"a": a, "b": Tied()})
    assert merged.aliases == {}
    assert not torch.equal(merged.weights()["head.weight"], merged.weights()["embed.weight"])


def test_quantised_weights_are_refused():
    weights = {"w": torch.ones(3, dtype=torch.int8)}
    with pytest.raises(ValueError, match="dequantise"):
        mk.merge("average", weights, {"a": weights, "b": weights})


@pytest.mark.parametrize("patterns", [3, [3], (p for p in ["blocks.*"])])
def test_what_is_no_pattern_is_said(base, experts, patterns):
    for key in ("include", "exclude"):
        with pytest.raises(TypeError, match=f"^{key} is a pattern for tensor names, or a list of them; got "):
            mk.merge("average", base, experts, **{key: patterns})
