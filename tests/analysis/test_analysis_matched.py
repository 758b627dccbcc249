"""Pairs of a zip, as a table."""

import torch

from mergekit_nb import analysis
from mergekit_nb.maths.matching import identity, zip_features


def test_pairs_by_hand():
    # features 0 and 1 of the first model are alike, and 2 of the first and 5 of the second; 3 and 4 are left to each other
    correlation = torch.eye(6)
    for a, b, value in ((0, 1, 0.9), (2, 5, 0.8), (3, 4, 0.7)):
        correlation[a, b] = correlation[b, a] = value
    table = analysis.matched(zip_features(correlation, 2, alpha=1.0, beta=1.0))
    assert sorted(table.itertuples(index=False, name=None)) == [
        (0, 1, "within a model"), (2, 5, "across models"), (3, 4, "within a model")
    ]  # fmt: skip


def test_a_group_of_three_models_is_three_pairs():
    table = analysis.matched(identity(torch.eye(6), 3))
    assert table["kind"].unique().tolist() == ["across models"]
    assert list(zip(table["a"], table["b"], strict=True)) == [(0, 2), (0, 4), (2, 4), (1, 3), (1, 5), (3, 5)]
