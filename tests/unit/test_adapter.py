"""PEFT adapters as experts: written by hand here, in the layout PEFT saves."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.methods import CoreSpace, Dare, Knots, TaskArithmetic, Ties
from mergekit_nb.weights.source import Checkpoint
from tests.golden.cases import MANIFEST, params, related, under

LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "none"}


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def written(folder, tensors, **config):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(LORA | config), "utf-8")
    save_file(
        {f"base_model.model.{name}": t.contiguous() for name, t in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def lora(out, inner, rank=2, seed=0, module="fc"):
    a, b = randn(rank, *inner, seed=seed), randn(out, rank, *[1] * (len(inner) - 1), seed=seed + 1)
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


@pytest.fixture
def base():
    return {"fc.weight": randn(5, 4, seed=9), "fc.bias": randn(5, seed=8), "norm.weight": randn(4, seed=7)}


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({}, 3.0),
        ({"use_rslora": True}, 6 / 2**0.5),
        ({"r": 8, "rank_pattern": {"fc": 2}, "lora_alpha": 1, "alpha_pattern": {"f.": 5}}, 2.5),
        ({"r": 2, "rank_pattern": {"c": 7}, "lora_alpha": 4}, 2.0),  # "fc" ends in "c", but no name in the path does
    ],
)
def test_the_change_is_scaling_b_a(tmp_path, base, config, scaling):
    factors = lora(5, (4,))
    model = mk.open(written(tmp_path / "x", factors, **config)).onto(base)
    change = scaling * factors["fc.lora_B.weight"] @ factors["fc.lora_A.weight"]
    assert_close(model["fc.weight"], base["fc.weight"] + change)
    assert torch.equal(model["fc.bias"], base["fc.bias"])
    assert list(model) == list(base)
    assert_close(mk.TaskVectors.of(base, {"x": model}).at("fc.weight")[0], change)


@pytest.mark.parametrize(("shape", "flag"), [((4, 5), True), ((4, 5), False), ((5, 5), True)])
def test_a_matrix_stored_in_out_is_turned(tmp_path, shape, flag):
    factors = lora(5, shape[:1])  # a square one only the configuration can tell, one that is not tells itself
    base = {"fc.weight": randn(*shape, seed=9)}
    model = mk.open(written(tmp_path / "x", factors, fan_in_fan_out=flag)).onto(base)
    change = 3 * factors["fc.lora_B.weight"] @ factors["fc.lora_A.weight"]
    assert_close(model["fc.weight"], base["fc.weight"] + change.T)
    left, right = model.factors("fc.weight", base["fc.weight"])
    assert_close(left @ right, change.T)


@pytest.mark.parametrize("words", [7, 4])
def test_an_embedding_is_turned(tmp_path, words):
    a, b = randn(2, words), randn(4, 2, seed=1)
    base = {"tok.weight": randn(words, 4, seed=9)}
    folder = written(tmp_path / "x", {"tok.lora_embedding_A": a, "tok.lora_embedding_B": b})
    assert_close(mk.open(folder).onto(base)["tok.weight"], base["tok.weight"] + 3 * (b @ a).T)


def test_a_convolution(tmp_path):
    factors = lora(6, (3, 2, 2))
    base = {"fc.weight": randn(6, 3, 2, 2, seed=9)}
    change = torch.einsum("or,rihw->oihw", factors["fc.lora_B.weight"][..., 0, 0], factors["fc.lora_A.weight"])
    model = mk.open(written(tmp_path / "x", factors)).onto(base)
    assert_close(model["fc.weight"], base["fc.weight"] + 3 * change)


def test_adapters_and_whole_models_merge_alike(tmp_path, base):
    folders = {t: written(tmp_path / t, lora(5, (4,), seed=s)) for s, t in enumerate("abc")}
    whole = {t: dict(mk.open(folder).onto(base)) for t, folder in folders.items()}
    for method in ("average", "ties", "emr", Knots() | Ties(density=0.5), CoreSpace()):
        one, other = (mk.merge(method, base, experts) for experts in (folders, whole))
        for task in "abc":
            for name, weight in other.weights(task).items():
                assert_close(one.weights(task)[name], weight, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    mixed = mk.merge("average", base, {"a": folders["a"], "b": whole["b"]})
    assert_close(mixed.weights()["fc.weight"], (whole["a"]["fc.weight"] + whole["b"]["fc.weight"]) / 2)


def test_a_small_change_of_a_bfloat16_base_is_not_rounded_away(tmp_path):
    base = {"fc.weight": torch.full((5, 4), 100.0, dtype=torch.bfloat16)}
    tiny = {name: 1e-3 * t for name, t in lora(5, (4,)).items()}
    folder = written(tmp_path / "x", tiny)
    merged = mk.merge("task_arithmetic", base, {"x": folder, "y": folder}, scale=1.0)
    assert merged.vector["fc.weight"].abs().min() > 0
    assert merged.weights()["fc.weight"].dtype == torch.bfloat16


def test_opening_reads_no_tensor_and_a_worker_opens_it_again(tmp_path, base, monkeypatch):
    folder = written(tmp_path / "x", lora(5, (4,)))
    expected = mk.open(folder).onto(base)["fc.weight"]
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "__getitem__", lambda self, name: pytest.fail(f"{name} was read"))
        model = mk.open(folder).onto(base)
        assert model.shape("fc.weight") == (5, 4)
        assert model.dtype("fc.weight") == torch.float32
    assert torch.equal(pickle.loads(pickle.dumps(model))["fc.weight"], expected)


def test_what_was_trained_whole_is_the_experts_own(tmp_path, base):
    extra = {"norm.weight": randn(4, seed=3), "fc.base_layer.bias": randn(5, seed=4)}
    folder = written(tmp_path / "x", lora(5, (4,)) | extra, bias="all", modules_to_save=["norm"])
    model = mk.open(folder).onto(base)
    assert torch.equal(model["norm.weight"], extra["norm.weight"])
    assert torch.equal(model["fc.bias"], extra["fc.base_layer.bias"])
    merged = mk.merge("average", base, {"x": folder, "y": base})
    assert_close(merged.weights()["norm.weight"], (extra["norm.weight"] + base["norm.weight"]) / 2)


def test_a_head_the_base_lacks_is_named_with_the_mend(tmp_path, base):
    folder = written(tmp_path / "x", lora(5, (4,)) | {"score.weight": randn(2, 5)}, modules_to_save=["score"])
    with pytest.raises(ValueError, match=r'(?s)score.weight: the base lacks it, x has it.*unmatched="base", "own"'):
        mk.merge("average", base, {"x": folder, "y": base})
    merged = mk.merge("average", base, {"x": folder, "y": base}, unmatched="own")
    assert torch.equal(merged.weights("x")["score.weight"], randn(2, 5))


@pytest.mark.parametrize(
    ("config", "extra", "words"),
    [
        ({"use_dora": True}, {}, "x is a DoRA adapter, .* merge it into its base first"),
        ({"peft_type": "IA3"}, {}, "x is a PEFT adapter of type 'IA3'; only 'LORA'"),
        ({"init_lora_weights": "pissa_niter_4"}, {}, "initialised by 'pissa_niter_4', which changes the base too"),
        ({}, {"fc.lora_magnitude_vector": randn(5)}, "fc.lora_magnitude_vector, which is no low-rank factor"),
        ({}, {"fc.lora_B.bias": randn(5)}, "fc.lora_B.bias, which is no low-rank factor"),
        ({}, {"fc2.lora_A.weight": randn(2, 4)}, "has only lora_A of fc2"),
        ({"r": 3}, {}, "says rank 3 for fc, its factors have 2"),
    ],
)
def test_what_is_no_low_rank_change_is_refused(tmp_path, base, config, extra, words):
    folder = written(tmp_path / "x", lora(5, (4,)) | extra, **config)
    with pytest.raises(ValueError, match=words) as raised:
        mk.merge("average", base, {"x": folder, "y": base})
    assert "\n" not in str(raised.value)


def test_an_adapter_of_another_model_is_refused_with_all_that_does_not_fit(tmp_path, base):
    tensors = lora(5, (3,)) | lora(5, (4,), module="up")
    with pytest.raises(
        ValueError, match=r"(?s)does not fit this base.*fc.weight: .*\[5, 3\].*up.weight: the base lacks"
    ):
        mk.merge("average", base, {"x": written(tmp_path / "x", tensors), "y": base})


def test_an_adapter_is_no_model(tmp_path, base):
    adapter = mk.open(written(tmp_path / "x", lora(5, (4,))))
    with pytest.raises(ValueError, match="is an adapter, so it can be an expert but not the base"):
        mk.merge("average", tmp_path / "x", {"a": base, "b": base})
    with pytest.raises(TypeError, match=r"is an adapter, not a model: mk.open\(…\).onto\(base\)"):
        dict(adapter)


def golden_adapters(tmp_path, golden):
    """The factors of a golden case as adapters: rank 2, scaling 1."""
    for t in range(3):
        stored = under(golden, f"in/lora{t}/")
        tensors = {k.replace(".weight/", ".lora_") + ".weight": w for k, w in stored.items()}
        yield str(t), written(tmp_path / f"lora{t}", tensors, lora_alpha=2)


def test_knots_ties_of_adapters_is_the_authors(tmp_path):
    case = "knots/ties_mean_k20_s0p6_out"
    golden = related(case)
    p = params(case)
    method = Knots(density=p["topK"] / 100, scale=p["scaling"])
    merged = mk.merge(method, under(golden, "in/base/"), dict(golden_adapters(tmp_path, golden)))
    for name, weight in under(golden, "out/").items():
        assert_close(merged.weights()[name], weight, **MANIFEST[case]["compare"])


def test_ties_in_the_core_space_of_adapters_is_the_authors(tmp_path):
    case = "core_space/ties_topK50"
    golden = related(case)
    experts = dict(golden_adapters(tmp_path, golden))
    for name, delta in under(golden, "out/").items():  # theirs trims layer by layer
        method = CoreSpace() | Ties(density=params(case)["topK"] / 100)
        merged = mk.merge(method, under(golden, "in/base/"), experts, include=name)
        assert_close(merged.vector[name], delta.float(), **MANIFEST[case]["compare"])


def test_an_edited_task_vector_is_no_longer_its_factors(tmp_path, base):
    folders = {t: written(tmp_path / t, lora(5, (4,), seed=s)) for s, t in enumerate("ab")}
    edited = Dare(drop=0.5)
    one = mk.merge(edited | CoreSpace() | TaskArithmetic(scale=1.0), base, folders)
    other = mk.merge(edited | TaskArithmetic(scale=1.0), base, folders)
    assert_close(one.vector["fc.weight"], other.vector["fc.weight"], rtol=1e-4, atol=1e-5)
