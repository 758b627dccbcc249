import pytest

from mergekit_nb.widgets.walk.state import StateError, WalkState


@pytest.fixture
def state(small):
    return WalkState(small)


def test_it_starts_at_the_first_layer_and_its_largest_tensor(state):
    assert (state.layer, state.layer_name, state.tensor, state.step) == (0, "stem", "stem.weight", 0)


def test_a_layer_can_be_set_by_number_and_by_name(state):
    state.layer = "block 1"
    assert state.layer == 2
    state.layer = 3
    assert state.layer_name == "head"


def test_a_step_can_be_set_by_name(state):
    state.step = "mask"
    assert state.step == 2


def test_the_same_tensor_of_the_next_layer_stays_on_show(state):
    state.layer = "block 0"
    state.tensor = "blocks.0.bias"
    state.layer = "block 1"
    assert state.tensor == "blocks.1.bias"


def test_what_belongs_to_the_old_tensor_is_forgotten(state):
    state.indices, state.selected = (3, 600), ("kana", 600)
    state.layer = "block 0"
    assert state.indices == (3,)
    assert state.selected is None


def test_the_state_is_plain_values(state):
    import json

    state.selected = ("kana", 3)
    assert json.loads(json.dumps(state.as_dict()))["selected"] == ["kana", 3]


WRONG = [
    ("step", 4, "state.step is a whole number from 0 to 3; got 4"),
    ("step", "vote", "state.step is a whole number from 0 to 3; got 'vote'"),
    ("layer", 9, "state.layer is 0 to 3 or one of stem, block 0, block 1, head; got 9"),
    ("layer", "block 7", "state.layer is 0 to 3 or one of stem, block 0, block 1, head; got 'block 7'"),
    ("tensor", "nothing", "stem has no tensor 'nothing'; it has stem.weight, stem.bias"),
    ("tensor", "head.bias", "tensor 'head.bias' belongs to layer 'head'; set state.layer first"),
    ("pick", "best", "state.pick is one of 'most conflicting', 'largest', 'random', 'typed'; got 'best'"),
    ("k", 2.5, "state.k is a whole number from 4 to 64; got 2.5"),
    ("seed", True, "state.seed is a whole number from 0 to 2147483647; got True"),
    ("indices", (1, 768), "stem.weight has weights 0 to 767; got 768"),
    ("selected", ("cars", 1), "state.selected is (task, weight), the task one of mnist, kana, emoji; got ('cars', 1)"),
    ("selected", ("kana", 768), "stem.weight has weights 0 to 767; got 768"),
    ("scope", None, "state.scope is one of 'layer', 'model'; got None"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_value_is_refused_in_one_sentence_and_changes_nothing(state, name, value, message):
    before = state.as_dict()
    with pytest.raises(StateError) as caught:
        setattr(state, name, value)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)
    assert state.as_dict() == before
