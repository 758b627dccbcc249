"""Magnitudes and mask densities against flat NumPy arithmetic."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mergekit_nb.analysis import densities, magnitudes
from mergekit_nb.engine.merge import merge

LAYERS = {"stem": ["stem.weight"], "block 0": ["blocks.0.weight", "blocks.0.bias"], "head": ["head.weight"]}
SHAPES = {"stem.weight": (2, 3), "blocks.0.weight": (3, 4), "blocks.0.bias": (3,), "head.weight": (4,)}


@pytest.fixture
def models():
    make = torch.Generator().manual_seed(1)
    base = {name: torch.randn(shape, generator=make) for name, shape in SHAPES.items()}
    experts = {
        task: {name: tensor + size * torch.randn(tensor.shape, generator=make) for name, tensor in base.items()}
        for task, size in {"cars": 0.1, "sun": 0.5}.items()
    }
    return base | {"steps": torch.tensor(3)}, {task: e | {"steps": torch.tensor(9)} for task, e in experts.items()}


def joined(source, layer):
    return np.concatenate([source[name].double().numpy().ravel() for name in LAYERS[layer]])


def cell(table, task, layer, kind):
    row = table[(table["task"] == task) & (table["layer"] == layer) & (table["kind"] == kind)]
    return row["mean_abs"].item()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("task", ["cars", "sun"])
def test_masked_and_rescaled_magnitudes_follow_their_formulas(models, task, layer):
    base, experts = models
    merged = merge("emr", base, experts)
    table = magnitudes(base, experts, merged)
    masks = joined(merged.patches[task].mask, layer)
    kept = np.abs(joined(merged.vector, layer)) * masks
    assert_allclose(
        cell(table, task, layer, "expert"), np.abs(joined(experts[task], layer) - joined(base, layer)).mean()
    )
    assert_allclose(cell(table, task, layer, "masked"), kept.mean())
    assert_allclose(cell(table, task, layer, "rescaled"), merged.patches[task].scale * kept.mean())


def test_the_global_rescaler_restores_the_mean_magnitude_of_the_whole_model(models):
    base, experts = models
    table = magnitudes(base, experts, merge("emr", base, experts, rescale="global"))
    sizes = {layer: sum(int(np.prod(SHAPES[name])) for name in names) for layer, names in LAYERS.items()}
    whole = table.assign(total=table["mean_abs"] * table["layer"].map(sizes)).groupby(["task", "kind"])["total"].sum()
    for task in experts:
        assert_allclose(whole[task, "rescaled"], whole[task, "expert"], rtol=1e-6)


def test_a_merge_without_masks_has_one_vector_for_all_tasks(models):
    base, experts = models
    merged = merge("average", base, experts)
    table = magnitudes(base, experts, merged)
    assert set(table["kind"]) == {"expert", "merged"}
    expected = np.abs(joined(merged.vector, "head")).mean()
    assert cell(table, "cars", "head", "merged") == cell(table, "sun", "head", "merged")
    assert_allclose(cell(table, "cars", "head", "merged"), expected)


def test_without_a_merge_there_are_experts_only_and_layers_in_order(models):
    table = magnitudes(*models)
    assert set(table["kind"]) == {"expert"}
    assert list(table["layer"].unique()) == list(LAYERS)


def test_an_expert_the_merge_does_not_know_is_named(models):
    base, experts = models
    with pytest.raises(ValueError, match="no task moon in this merge; it has cars, sun"):
        magnitudes(base, {"moon": experts["sun"]}, merge("emr", base, experts))


def test_densities_count_the_entries_each_mask_keeps(models):
    merged = merge("emr", *models)
    table = densities(merged).set_index(["task", "tensor"])
    assert len(table) == len(SHAPES) * 2
    for (task, name), row in table.iterrows():
        mask = merged.patches[task].mask[name]
        assert (row["density"], row["n"]) == (mask.sum().item() / mask.numel(), mask.numel())
        assert row["rescaler"] == merged.patches[task].scale
        assert name in LAYERS[row["layer"]]


def test_a_merge_without_masks_says_so(models):
    with pytest.raises(ValueError, match="this merge has no masks"):
        densities(merge("average", *models))
