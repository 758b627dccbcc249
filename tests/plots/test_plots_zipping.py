"""The figures of zips draw what the tables say."""

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose

from mergekit_nb import plots

NAMES = ["left 0", "left 1", "right 0", "right 1"]


def correlation():
    values = np.array([[1, 0.9, 0.2, 0.1], [0.9, 1, 0.3, -0.4], [0.2, 0.3, 1, 0.8], [0.1, -0.4, 0.8, 1]])
    return pd.DataFrame(values, NAMES, NAMES)


def test_every_pair_is_marked_on_both_sides_of_the_diagonal_in_the_colour_of_its_kind():
    pairs = pd.DataFrame([(0, 1, "within a model"), (1, 3, "across models")], columns=["a", "b", "kind"])
    heat, across, within = plots.matched_features(correlation(), pairs).data
    assert_allclose(heat.z, correlation().to_numpy(), rtol=1e-6)
    assert (heat.zmin, heat.zmax) == (-1, 1)
    assert set(zip(across.x, across.y, strict=True)) == {("right 1", "left 1"), ("left 1", "right 1")}
    assert set(zip(within.x, within.y, strict=True)) == {("left 0", "left 1"), ("left 1", "left 0")}
    assert (across.name, within.name) == ("across models (1)", "within a model (1)")
    assert across.marker.color != within.marker.color
    assert across.marker.symbol != within.marker.symbol


def test_models_are_told_apart_by_ticks_and_lines():
    fig = plots.matched_features(correlation(), pd.DataFrame(columns=["a", "b", "kind"]), "Layer 1")
    assert fig.layout.title.text == "Layer 1"
    assert (fig.layout.xaxis.tickvals, fig.layout.xaxis.ticktext) == ((0.5, 2.5), ("left", "right"))
    assert [line.x0 for line in fig.layout.shapes if line.x0 == line.x1] == [1.5]


def test_a_line_goes_through_the_boundaries_of_a_method_in_the_order_of_their_cost():
    rows = [
        ("ensemble", "none", 4e6, 0.8, 0.7, 0.9),
        ("zip", "all", 2e6, 0.6, 0.5, 0.7),
        ("zip", "layer1", 3e6, 0.7, 0.6, 0.8),
    ]
    table = pd.DataFrame(rows[::-1], columns=["method", "boundary", "flops", "accuracy", "low", "high"])
    line, reference = plots.accuracy_against_flops(table).data
    assert (list(line.x), list(line.y), list(line.text)) == ([2, 3], [0.6, 0.7], ["all", "layer1"])
    assert_allclose(line.error_y.array, [0.1, 0.1])
    assert (line.mode, reference.mode, reference.name) == ("lines+markers", "markers", "ensemble")
