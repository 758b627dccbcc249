from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.cli import main
from mergekit_nb.mergekit_yaml import read
from tests.golden.cases import ids, params, related

MODELS = [{"model": f"m{k}", "parameters": {"weight": 0.5}} for k in (1, 2)]
PLAIN = {"merge_method": "task_arithmetic", "base_model": "m0", "models": MODELS}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = torch.Generator().manual_seed(0)
    return [written(f"m{k}", torch.randn(4, 5, generator=random)) for k in range(3)]


def written(folder, tensor):
    Path(folder).mkdir(exist_ok=True)
    save_file({"w": tensor.contiguous()}, f"{folder}/model.safetensors")
    return tensor


def config(content):
    with open("config.yml", "w") as file:
        yaml.safe_dump(content, file)
    return "config.yml"


def merged(content):
    recipe = read(config(content))
    return mk.merge(recipe.method, recipe.base, recipe.experts).weights()["w"]


@pytest.mark.parametrize("case", [*ids("mergekit/ties_"), *ids("mergekit/task_arithmetic_")])
def test_mergekits_own_outputs(case):
    golden, p = related(case), params(case)
    for name in ("base", "ft0", "ft1", "ft2"):
        written(name, golden[f"in/{name}"])
    density = {} if p["density"] is None else {"density": p["density"]}
    models = [{"model": f"ft{k}", "parameters": {"weight": weight}} for k, weight in enumerate(p["weights"])]
    content = {
        "merge_method": case.split("/")[1].rsplit("_", 1)[0],
        "base_model": "base",
        "models": [{"model": "base"}, *models],
        "parameters": density | {key: p[key] for key in ("normalize", "lambda") if key in p},
        "dtype": "float32",
    }
    assert_close(merged(content), golden["out/merged"], rtol=1e-5, atol=1e-6)


FT = ("ft0", "ft1", "ft2")


@pytest.mark.parametrize("case", [*ids("mergekit/breadcrumbs_")])
def test_mergekits_own_breadcrumbs(case):
    golden, p = related(case), params(case)
    for name in ("base", *FT):
        written(name, golden[f"in/{name}"])
    models = [{"model": ft, "parameters": {"weight": weight}} for ft, weight in zip(FT, p["weights"], strict=True)]
    parameters = {key: p[key] for key in ("density", "gamma")}
    name = case.split("/")[1].rsplit("_", 1)[0]
    content = {"merge_method": name, "base_model": "base", "models": models, "parameters": parameters}
    assert_close(merged(content), golden["out/merged"], rtol=1e-5, atol=1e-6)


WITHOUT_A_BASE = {"slerp/multislerp_w": "multislerp", "slerp/nuslerp_flatten_t0p3": "nuslerp", "karcher/eq3": "karcher"}


@pytest.mark.parametrize("case", WITHOUT_A_BASE)
def test_mergekits_own_spheres(case):
    golden, p = related(case), params(case)
    points = [tensor for key, tensor in sorted(golden.items()) if key.startswith("in/")]
    weights = p.get("weight", [0.7, 0.3] if "t" in p else [None] * 3)
    models = []
    for k, (point, weight) in enumerate(zip(points, weights, strict=True)):
        written(f"p{k}", point)
        models.append({"model": f"p{k}"} | ({} if weight is None else {"parameters": {"weight": weight}}))
    content = {"merge_method": WITHOUT_A_BASE[case], "models": models}
    assert_close(merged(content), golden["out/out"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "name", "parameters"),
    [
        ("slerp/slerp_random_t0p3", "slerp", {"t": 0.3}),
        ("slerp/nuslerp_with_base", "nuslerp", {}),
        ("model_stock/mergekit_three_filterwise", "model_stock", {"filter_wise": True}),
        ("sce/mergekit_topk0p5", "sce", {"select_topk": 0.5}),
        ("mergekit/nearswap_t0p01", "nearswap", {"t": 0.01}),
        ("mergekit/ram", "ram", {"epsilon": 1e-5}),
        ("mergekit/ramplus_tl", "ramplus_tl", {}),
        ("mergekit/arcee_fusion", "arcee_fusion", {}),
    ],
)
@pytest.mark.filterwarnings("ignore:only one expert")
def test_mergekits_own_outputs_of_methods_with_their_own_parameters(case, name, parameters):
    golden = related(case)
    inputs = {key[3:]: t for key, t in golden.items() if key.startswith("in/") and "corr" not in key}
    if name == "slerp":
        inputs = {"base": inputs["v0"], "other": inputs["v1"]}
    for key, tensor in inputs.items():
        written(key, tensor)
    models = [{"model": key} for key in sorted(inputs) if key != "base"]
    if name == "nuslerp":
        models = [m | {"parameters": {"weight": w}} for m, w in zip(models, (0.6, 0.4), strict=True)]
    content = {"merge_method": name, "base_model": "base", "models": models, "parameters": parameters}
    expected = next(tensor for key, tensor in golden.items() if key.startswith("out/"))
    assert_close(merged(content), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "elect"), [("della", "dis-mean"), ("della_linear", None)])
def test_della_drops_by_rank_and_restores_the_l1_norm(name, elect):
    content = PLAIN | {"merge_method": name, "parameters": {"density": 0.5, "epsilon": 0.1, "lambda": 0.9}}
    method = read(config(content)).method
    dropped = method.first if elect else method
    assert (dropped.density, dropped.window, dropped.rescale, dropped.elect) == (0.5, 0.1, "l1", "none")
    assert (method.then.merge_as, method.then.scale) == (elect, 0.9) if elect else method.scale == 0.9


def test_linear_is_the_weighted_mean_and_needs_no_base(models):
    content = {
        "merge_method": "linear",
        "models": [{"model": f"m{k}", "parameters": {"weight": weight}} for k, weight in enumerate((1, 2, 5))],
    }
    assert_close(merged(content), (models[0] + 2 * models[1] + 5 * models[2]) / 8)


def test_dare_restores_the_l1_norm_of_each_tensor(models):
    content = PLAIN | {"merge_method": "dare_linear", "models": MODELS[:1], "parameters": {"density": 0.5}}
    with pytest.warns(UserWarning, match="only one expert"):
        tau = merged(content) - models[0]
    assert_close(tau.abs().sum(), 0.5 * (models[1] - models[0]).abs().sum())
    assert (tau == 0).any()


def test_dare_ties_drops_then_elects_without_trimming(models):
    recipe = read(config(PLAIN | {"merge_method": "dare_ties", "parameters": {"density": 0.75, "lambda": 0.9}}))
    assert recipe.method.label == "dare | ties"
    assert (recipe.method.first.drop, recipe.method.first.rescale) == (0.25, "l1")
    assert (recipe.method.then.density, recipe.method.then.scale, recipe.method.then.merge_as) == (1.0, 0.9, "dis-sum")


def test_the_command_line_merges_a_configuration(models, capsys):
    assert main(["merge", config(PLAIN), "out"]) == 0
    expected = models[0] + 0.5 * (models[1] - models[0]) + 0.5 * (models[2] - models[0])
    assert_close(mk.load("out").weights()["w"], expected)
    assert "task_arithmetic of m1, m2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge_method": "passthrough"}, "merge_method 'passthrough' is not one of those both packages have: linear"),
        ({"merge_method": "slerp"}, "slerp merges the base_model and one other model; got 2 others"),
        ({"merge_method": "slerp", "models": [{"model": "m1"}]}, "slerp needs t under parameters"),
        ({"merge_method": "karcher", "models": [{"model": "m1"}, {"model": "m2"}]}, "karcher averages its base_model with the others"),
        ({"merge_method": "multislerp", "parameters": {"weight": 1.0, "normalize_weights": False}}, "normalize_weights: false is not supported"),
        ({"merge_method": "ram", "models": [{"model": "m1", "parameters": {"epsilon": 1}}]}, "parameters of m1 has epsilon"),
        ({"merge_method": "breadcrumbs", "models": [{"model": f"m{k}", "parameters": {"weight": 1, "gamma": k / 10}} for k in (1, 2)]}, "different gammas"),
        ({"slices": []}, "the configuration has slices, which is not supported"),
        ({"tokenizer_source": "union"}, "tokenizer_source"),
        ({"models": None}, "no such list"),
        ({"base_model": None}, "task_arithmetic needs a base_model"),
        ({"base_model": "mistralai/Mistral-7B-v0.1"}, "no model mistralai/Mistral-7B-v0.1 on this machine"),
        ({"models": [{"model": "m1"}]}, "needs a weight for every model"),
        ({"models": [{"model": "m1", "parameters": {"weight": [0, 1]}}]}, "weight of m1 is .* only plain numbers"),
        ({"models": [{"model": "m1", "parameters": {"weight": 1, "gamma": 1}}]}, "parameters of m1 has gamma"),
        ({"parameters": {"normalize": True, "epsilon": 1}}, "parameters has epsilon"),
        ({"parameters": {"rescale": True}}, "rescale: true is supported for the dare and della methods only"),
        ({"dtype": "bfloat16"}, "dtype bfloat16 is not the base's own, torch.float32"),
        ({"merge_method": "linear", "parameters": {"normalize": False, "weight": 1.0}, "models": [{"model": "m1"}, {"model": "m2"}]}, "add up to 1"),
        ({"merge_method": "ties", "models": [{"model": f"m{k}", "parameters": {"weight": 1, "density": k / 4}} for k in (1, 2)]}, "different densities"),
    ],
)  # fmt: skip
def test_what_is_not_the_same_here_is_refused(capsys, change, message):
    content = {key: value for key, value in (PLAIN | change).items() if value is not None}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(config(content))
    assert main(["merge", "config.yml", "out"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_file_and_no_yaml_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no configuration nowhere.yml"):
        read("nowhere.yml")
    (tmp_path / "broken.yml").write_text("models: [")
    with pytest.raises(ValueError, match=r"broken.yml is no YAML"):
        read("broken.yml")
    (tmp_path / "list.yml").write_text("- a")
    with pytest.raises(ValueError, match="the configuration is no mapping"):
        read("list.yml")


def test_a_configuration_and_flags_contradict_each_other(capsys):
    assert main(["merge", config(PLAIN), "out", "--method", "ties"]) == 2
    assert "name only the folder" in capsys.readouterr().err
