"""Weights through permutations and maps of spaces; wrong ones are refused by name."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mergekit_nb.weights.axes import Axes, Port, Space, mapped, permuted

HEADS = Space("heads", 4, (Port("q", 0, "writes"), Port("o", 1, "reads")), unit=2)
HIDDEN = Space(
    "hidden", 3, (Port("a", 0, "writes"), Port("norm", 0, "scales"), Port("b", 1, "reads", 1, 2)), boundary=True
)
AXES = Axes((HIDDEN, HEADS))
WEIGHTS = {
    "a": torch.arange(6.0).view(3, 2),
    "norm": torch.tensor([1.0, 2.0, 3.0]),
    "b": torch.arange(8.0).view(1, 8),
    "q": torch.arange(4.0),
    "o": torch.arange(4.0)[None],
    "count": torch.tensor(7),
}


def test_a_permutation_moves_writers_scales_and_readers():
    moved = permuted(WEIGHTS, AXES, {"hidden": torch.tensor([2, 0, 1])})
    assert moved["a"].tolist() == [[4, 5], [0, 1], [2, 3]]
    assert moved["norm"].tolist() == [3, 1, 2]
    # entry 0 is before the space, 7 behind it; each feature fills two
    assert moved["b"].tolist() == [[0, 5, 6, 1, 2, 3, 4, 7]]
    assert moved["q"].tolist() == [0, 1, 2, 3]
    assert moved["count"] == 7


def test_a_map_is_m_on_what_writes_and_u_on_what_reads():
    merge, unmerge = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    made = mapped(WEIGHTS, AXES, {"hidden": (merge, unmerge)})
    assert_close(made["a"], merge @ WEIGHTS["a"])
    assert_close(made["norm"], torch.tensor([1.5, 3.0]))
    assert made["b"].tolist() == [[0, 1 + 3, 2 + 4, 5, 6, 7]]


def test_half_precision_is_mapped_in_float32():
    weights = {name: tensor.half() for name, tensor in WEIGHTS.items() if name in ("a", "norm", "b")}
    third = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    made = mapped(weights, Axes((HIDDEN,)), {"hidden": (third, third.T)})
    assert made["a"].dtype == torch.float16
    assert made["a"].tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"hiden": [0, 1, 2]}, "there is no space 'hiden'; the spaces are hidden, heads"),
        ({"hidden": [0, 1, 1]}, "the order of hidden is no permutation of its 3 features"),
        ({"hidden": [0, 1]}, "the order of hidden is no permutation of its 3 features"),
        ({"heads": [0, 2, 1, 3]}, "the order of heads tears blocks apart: its features move 2 at a time"),
        ({"heads": [1, 2, 3, 0]}, "the order of heads tears blocks apart"),
    ],
)
def test_what_is_no_permutation_is_refused(order, said):
    with pytest.raises(ValueError, match=said):
        permuted(WEIGHTS, AXES, {name: torch.tensor(places) for name, places in order.items()})


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"the maps of hidden are M \(new, 3\) and U \(3, new\); got \(2, 3\) and \(2, 3\)"
    ):
        mapped(WEIGHTS, AXES, {"hidden": (torch.ones(2, 3), torch.ones(2, 3))})
    with pytest.raises(ValueError, match="the space hidden has a port on a, which these weights lack"):
        permuted({"b": WEIGHTS["b"]}, AXES, {"hidden": torch.arange(3)})
    with pytest.raises(ValueError, match=r"b \(1, 5\) is too short for the space hidden on axis 1: it needs 7 entries"):
        permuted({**WEIGHTS, "b": torch.zeros(1, 5)}, AXES, {"hidden": torch.arange(3)})


def test_spaces_and_boundaries_are_named():
    assert (AXES.names, AXES.boundaries, AXES.space("heads")) == (("hidden", "heads"), ("hidden",), HEADS)
