import numpy as np
import pytest
import torch

from mergekit_nb.widgets.walk.columns import cancelled, chosen, columns
from mergekit_nb.widgets.walk.study import study

TAUS = torch.tensor([[1.0, -2.0, 0.5, 2.0], [3.0, -1.0, -4.0, -2.0], [-1.0, 5.0, -0.1, 0.0]])


@pytest.mark.parametrize("pick", ["most conflicting", "largest", "random", "typed"])
@pytest.mark.parametrize("tensor", ["stem.weight", "blocks.1.bias"])
def test_every_number_is_the_merges_own(small, tensor, pick):
    shown = small.columns(tensor, pick, 16, seed=3, indices=(5, 2, 11))
    where = shown.index
    np.testing.assert_array_equal(shown.shared, small.merged.vector[tensor].flatten()[where])
    for row, task in enumerate(small.tasks):
        patch = small.merged.patches[task]
        np.testing.assert_array_equal(shown.kept[row], patch.mask[tensor].flatten()[where])
        np.testing.assert_array_equal(
            shown.rebuilt[row], patch.apply(tensor, small.merged.vector[tensor]).flatten()[where]
        )
        np.testing.assert_array_equal(shown.tau[row], small.vectors.at(tensor)[row].flatten()[where])
    np.testing.assert_array_equal(np.sign(shown.shared), shown.elected)


def test_the_three_steps_by_hand():
    # sums:    3      2      -3.6   0      -> signs + + - - (a tie elects -)
    # agree:   1,3    5      4,0.1  2      -> shared 3 5 -4 -2, won by tasks 1 2 1 1
    shared = torch.tensor([3.0, 5.0, -4.0, -2.0])
    masks = torch.tensor([[1, 0, 0, 0], [1, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.bool)
    shown = columns(TAUS, shared, masks, np.array([1.0, 0.5, 2.0]), torch.arange(4), (2, 2), "negative")
    assert shown.elected.tolist() == [1, 1, -1, -1]
    assert shown.winner.tolist() == [1, 2, 1, 1]
    assert shown.rebuilt.tolist() == [[3, 0, 0, 0], [1.5, 0, -2, -1], [0, 10, -8, 0]]
    assert shown.place == ("[0, 0]", "[0, 1]", "[1, 0]", "[1, 1]")
    assert shown.scale == 5


def test_a_weight_nobody_agrees_on_has_no_winner():
    nothing = torch.zeros(2, 3)
    shown = columns(nothing, torch.zeros(3), nothing.bool(), np.ones(2), torch.arange(3), (3,), "negative")
    assert shown.winner.tolist() == [-1, -1, -1]
    assert shown.scale == 0


def test_most_conflicting_is_where_most_magnitude_cancels():
    # sum|tau| - |sum tau|: 5-3, 8-2, 4.6-3.6, 4-0
    torch.testing.assert_close(cancelled(TAUS), torch.tensor([2.0, 6.0, 1.0, 4.0]))
    assert chosen(TAUS, "most conflicting", 2).tolist() == [1, 3]


def test_largest_is_the_largest_of_any_task():
    assert chosen(TAUS, "largest", 2).tolist() == [1, 2]


def test_random_depends_on_seed_and_tensor_only():
    taus = torch.zeros(2, 1000)
    one = chosen(taus, "random", 8, "fc", 0)
    assert one.tolist() == chosen(taus, "random", 8, "fc", 0).tolist()
    assert one.tolist() != chosen(taus, "random", 8, "fc", 1).tolist()
    assert one.tolist() != chosen(taus, "random", 8, "proj", 0).tolist()


def test_typed_positions_are_shown_sorted_and_once():
    assert chosen(TAUS, "typed", 2, indices=(3, 0, 3)).tolist() == [0, 3]


def test_no_more_weights_than_there_are():
    assert chosen(TAUS, "largest", 64).tolist() == [0, 1, 2, 3]


def test_the_tie_rule_is_the_merges():
    base = {"blocks.0.w": torch.zeros(2, 2)}
    experts = {"a": {"blocks.0.w": torch.ones(2, 2)}, "b": {"blocks.0.w": -torch.ones(2, 2)}}
    for tie, sign in (("negative", -1), ("zero", 0), ("positive", 1)):
        shown = study(base, experts, tie=tie).columns("blocks.0.w", "largest", 4)
        assert set(shown.elected.tolist()) == {sign}
        np.testing.assert_array_equal(np.sign(shown.shared), shown.elected)


def test_columns_carry_no_gradient(models):
    base = {name: weight.clone().requires_grad_() for name, weight in models[0].items()}
    with torch.enable_grad():
        shown = study(base, models[1]).columns("stem.weight", "largest", 8)
    assert isinstance(shown.tau, np.ndarray)


def test_a_scalar_tensor_can_be_shown():
    base = {"logit_scale": torch.tensor(1.0)}
    shown = study(base, {"a": {"logit_scale": torch.tensor(2.0)}, "b": {"logit_scale": torch.tensor(1.5)}}).columns(
        "logit_scale", "most conflicting", 8
    )
    assert shown.index.tolist() == [0]
