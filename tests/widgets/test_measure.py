"""The walk's measures against the analysis floor, which computes them another way."""

import numpy as np
import pytest

from mergekit_nb.analysis import densities, magnitudes, similarity


@pytest.fixture(scope="module")
def grid(small):
    """A DataFrame's column as "layer task"."""

    def pivot(table, row, column, value):
        return (
            table.pivot(index=row, columns=column, values=value).loc[list(small.layers), list(small.tasks)].to_numpy()
        )

    return pivot


@pytest.mark.parametrize(("measure", "kind"), [("own", "expert"), ("masked", "masked"), ("rescaled", "rescaled")])
def test_magnitudes_are_those_of_the_analysis(small, models, grid, measure, kind):
    table = magnitudes(*models, small.merged)
    expected = grid(table[table["kind"] == kind], "layer", "task", "mean_abs")
    np.testing.assert_allclose(getattr(small.overview, measure), expected, rtol=1e-6)


def test_conflict_is_the_sign_conflict_with_the_unified_vector(small, models, grid):
    base, experts = models
    elected = {name: base[name].double() + vector.double() for name, vector in small.merged.vector.items()}
    wide = {task: {name: weight.double() for name, weight in expert.items()} for task, expert in experts.items()}
    wide_base = {name: weight.double() for name, weight in base.items()}
    table = similarity({"elected": elected}, wide, base=wide_base, by="layer")
    np.testing.assert_allclose(small.overview.conflict, grid(table, "scope", "b", "sign_conflict"), atol=1e-3)


def test_density_is_that_of_the_masks(small, grid):
    table = densities(small.merged).assign(kept=lambda t: t["density"] * t["n"])
    sums = table.groupby(["layer", "task"])[["kept", "n"]].sum().reset_index()
    expected = grid(sums.assign(share=sums["kept"] / sums["n"]), "layer", "task", "share")
    np.testing.assert_allclose(small.overview.density, expected)


@pytest.mark.parametrize("layer", [None, 0, 2])
def test_similarity_is_that_of_the_analysis(small, models, layer):
    base, experts = models
    table = similarity(experts, base=base, by="model" if layer is None else "layer")
    table = table if layer is None else table[table["scope"] == list(small.layers)[layer]]
    cosines = small.overview.similarity(layer)
    order = list(small.tasks)
    for row in table.itertuples():
        assert cosines[order.index(row.a), order.index(row.b)] == pytest.approx(row.cosine, abs=1e-6)
    np.testing.assert_allclose(np.diagonal(cosines), 1)


def test_cosine_is_that_of_the_rebuilt_vectors(small, models):
    """By hand, in float64, for one layer and task."""
    task, names = small.tasks[1], small.layers["block 0"]
    tau = np.concatenate([(models[1][task][n].double() - models[0][n].double()).numpy().ravel() for n in names])
    patch = small.merged.patches[task]
    rebuilt = np.concatenate([(patch.apply(n, small.merged.vector[n])).double().numpy().ravel() for n in names])
    expected = tau @ rebuilt / np.linalg.norm(tau) / np.linalg.norm(rebuilt)
    assert small.overview.cosine[1, 1] == pytest.approx(expected, abs=1e-6)


def test_the_rescaler_shown_is_the_one_used(small):
    assert small.scalers.tolist() == [small.merged.patches[task].scale for task in small.tasks]
    np.testing.assert_allclose(small.overview.rescaled, small.overview.masked * small.scalers)


def test_means_over_the_model_weigh_layers_by_their_entries(small, models):
    tau = np.concatenate([(models[1]["mnist"][n] - models[0][n]).abs().double().numpy().ravel() for n in small.sizes])
    assert small.overview.mean("own")[0] == pytest.approx(tau.mean(), rel=1e-6)
