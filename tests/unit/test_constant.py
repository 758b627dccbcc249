"""Features that never vary are matched with each other, and nothing else changes."""

import torch

from mergekit_nb.maths.constant import paired
from mergekit_nb.maths.matching import zip_features


def correlations():
    """Two models of 4 features each, of which 1 and 3 are dead in both; the others are alike in pairs."""
    r = torch.zeros(8, 8, dtype=torch.float64)
    for i, j, value in [(0, 0, 1), (2, 2, 1), (4, 4, 1), (6, 6, 1), (0, 6, 0.9), (2, 4, 0.8), (0, 2, 0.1), (4, 6, 0.1)]:
        r[i, j] = r[j, i] = value
    return r


def test_dead_features_go_with_dead_features_of_the_same_number():
    assert zip_features(paired(correlations(), 2), 2).groups == ((0, 6), (1, 5), (2, 4), (3, 7))


def test_nothing_else_changes():
    before, after = correlations(), paired(correlations(), 2)
    moved = {tuple(sorted(at)) for at in (before != after).nonzero().tolist()}
    assert moved == {(1, 5), (1, 7), (3, 5), (3, 7)}
    assert torch.equal(after, after.T)
    assert torch.equal(paired(torch.eye(6), 3), torch.eye(6))
