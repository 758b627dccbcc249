"""Similarity against flat NumPy arithmetic in float64, and the words of its errors."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from mergekit_nb.analysis import similarity
from mergekit_nb.engine.merge import merge
from mergekit_nb.weights.merged import load

NAMES = ("stem.weight", "blocks.0.weight", "blocks.0.bias", "head.weight")
SHAPES = ((2, 3), (3, 2), (), (4,))
# squares of these neither overflow nor underflow float64; signed zeros and zeros come up often
ENTRIES = st.floats(-1e3, 1e3, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)


@st.composite
def models(draw, dtype=np.float32):
    return {
        name: torch.from_numpy(draw(hnp.arrays(dtype, shape, elements=ENTRIES)).copy())
        for name, shape in zip(NAMES, SHAPES, strict=True)
    }


def flat(model):
    return np.concatenate([tensor.double().numpy().ravel() for _, tensor in sorted(model.items())])


def oracle(x, y):
    length = np.linalg.norm(x) * np.linalg.norm(y)
    cosine = x @ y / length if length else np.nan
    return cosine, np.mean(np.sign(x) * np.sign(y) == -1), np.linalg.norm(x - y), x.size


def scores(row):
    return row["cosine"], row["sign_conflict"], row["l2"], row["n"]


@given(models(), models())
def test_the_whole_model_equals_the_flat_computation(a, b):
    table = similarity(a, b)
    assert list(table["scope"]) == ["model"]
    assert_allclose(scores(table.iloc[0]), oracle(flat(a), flat(b)), rtol=1e-9, atol=1e-9)


@given(models(), models(), models())
def test_task_vectors_are_differences_from_the_base(a, b, base):
    row = similarity(a, b, base=base).iloc[0]
    assert row["of"] == "task vectors"
    assert_allclose(scores(row), oracle(flat(a) - flat(base), flat(b) - flat(base)), rtol=1e-9, atol=1e-9)


@given(models(), models())
def test_every_tensor_and_every_layer_has_its_own_row(a, b):
    tensors = similarity(a, b, by="tensor").set_index("scope")
    assert set(tensors.index) == set(NAMES)
    for name in NAMES:
        expected = oracle(a[name].double().numpy().ravel(), b[name].double().numpy().ravel())
        assert_allclose(scores(tensors.loc[name]), expected, rtol=1e-9, atol=1e-9)
    layers = similarity(a, b, by="layer").set_index("scope")
    assert list(layers.index) == ["stem", "block 0", "head"]
    block = [{name: model[name] for name in NAMES if ".0." in name} for model in (a, b)]
    assert_allclose(scores(layers.loc["block 0"]), oracle(*map(flat, block)), rtol=1e-9, atol=1e-9)


@given(models(), models())
def test_similarity_is_symmetric(a, b):
    ab, ba = similarity(a, b, by="tensor"), similarity(b, a, by="tensor")
    pd.testing.assert_frame_equal(ab, ba)


@given(models(), models(), st.floats(1e-3, 1e3))
def test_cosine_and_conflict_do_not_change_with_scale(a, b, factor):
    longer = {name: tensor.double() * factor for name, tensor in a.items()}
    before, after = similarity(a, b).iloc[0], similarity(longer, b).iloc[0]
    assert_allclose(after["cosine"], before["cosine"], rtol=1e-9, atol=1e-9)
    assert after["sign_conflict"] == before["sign_conflict"]


@given(models())
def test_a_model_is_like_itself_and_conflicts_with_its_opposite(a):
    same = similarity(a, a).iloc[0]
    opposite = similarity(a, {name: -tensor for name, tensor in a.items()}).iloc[0]
    assert (same["l2"], same["sign_conflict"]) == (0, 0)
    assert opposite["sign_conflict"] == np.mean(flat(a) != 0)
    if flat(a).any():
        assert_allclose([same["cosine"], opposite["cosine"]], [1, -1], rtol=1e-12)
    else:
        assert np.isnan(same["cosine"])
        assert np.isnan(opposite["cosine"])


@given(models(), models(), models())
def test_l2_keeps_the_triangle_inequality(a, b, c):
    table = similarity({"a": a, "b": b, "c": c}).set_index(["a", "b"])["l2"]
    assert table["a", "c"] <= (table["a", "b"] + table["b", "c"]) * (1 + 1e-12)


@given(models(np.float16), models(np.float16))
def test_sixteen_bit_weights_are_summed_in_float64(a, b):
    assert_allclose(scores(similarity(a, b).iloc[0]), oracle(flat(a), flat(b)), rtol=1e-9, atol=1e-9)


def test_conflict_survives_products_that_underflow():
    tiny, other = (torch.tensor([sign * 1e-200, 1e-200], dtype=torch.float64) for sign in (1, -1))
    assert similarity({"w": tiny}, {"w": other})["sign_conflict"].item() == 0.5


def test_cosine_by_hand():
    # (3, 4) and (4, 3): 24 / 25; no conflict; distance sqrt(2)
    row = similarity({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([4.0, 3.0])}).iloc[0]
    assert_allclose(scores(row), (24 / 25, 0, 2**0.5, 2))
    assert (row["a"], row["b"], row["of"]) == ("a", "b", "weights")


def test_several_models_make_every_pair_once_in_order():
    several = {name: {"w": torch.randn(5)} for name in "dbca"}
    table = similarity(several)
    assert list(zip(table["a"], table["b"], strict=True)) == list(combinations("dbca", 2))


def test_two_groups_make_every_combination():
    left = {name: {"w": torch.randn(5)} for name in "ab"}
    right = {name: {"w": torch.randn(5)} for name in "xyz"}
    table = similarity(left, right)
    assert len(table) == 6
    assert set(table["b"]) == set("xyz")


def test_integer_buffers_do_not_count():
    a = {"w": torch.ones(3), "num_batches_tracked": torch.tensor(1000)}
    assert similarity(a, a)["n"].item() == 3


def test_a_module_and_a_dict_can_be_compared():
    layer = torch.nn.Linear(3, 2)
    assert similarity(layer, layer.state_dict())["l2"].item() == 0


@pytest.fixture
def eights():
    make = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=make) for name, shape in zip(NAMES, SHAPES, strict=True)}
    experts = {
        task: {name: tensor + 0.1 * torch.randn(tensor.shape, generator=make) for name, tensor in base.items()}
        for task in ("cars", "sun", "dtd")
    }
    return base, experts


def test_a_merged_model_is_compared_task_by_task_with_its_experts(eights):
    base, experts = eights
    merged = merge("emr", base, experts)
    table = similarity(merged, experts).set_index("b")
    assert list(table.index) == list(experts)
    assert set(table["of"]) == {"task vectors"}
    for task, expert in experts.items():
        expected = oracle(flat(merged.weights(task)) - flat(base), flat(expert) - flat(base))
        assert_allclose(scores(table.loc[task]), expected, rtol=1e-9, atol=1e-9)
    # EMR's mask lets through only what has the expert's own sign
    assert (table["sign_conflict"] == 0).all()


def test_a_merged_model_can_be_compared_by_its_full_weights(eights):
    base, experts = eights
    merged = merge("average", base, experts)
    row = similarity(merged, experts, of="weights").iloc[0]
    assert row["of"] == "weights"
    assert_allclose(scores(row), oracle(flat(merged.weights()), flat(experts["cars"])), rtol=1e-9, atol=1e-9)


def test_order_of_the_arguments_of_a_merged_model_does_not_matter(eights):
    merged = merge("emr", *eights)
    pd.testing.assert_frame_equal(similarity(merged, eights[1]), similarity(eights[1], merged))


W, V = {"w": torch.ones(3)}, {"v": torch.ones(3)}
TWO = {"x": W, "y": {"w": torch.ones(2), "v": torch.ones(1)}}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: similarity(W, W, of="task vectors"), "pass base="),
        (lambda: similarity(W, W, of="vectors"), 'of is "weights" or "task vectors"; got \'vectors\''),
        (lambda: similarity(W, W, by="block"), "by is .* got 'block'"),
        (lambda: similarity(W), "one model has nothing to be compared with"),
        (lambda: similarity({}, W), "a is empty"),
        (lambda: similarity(W, V), "(?s)b: lacks w.*b: has v, which a lacks"),
        (lambda: similarity(TWO), r"(?s)y: w is \(2,\), in x \(3,\).*y: has v, which x lacks"),
        (lambda: similarity(TWO, base=W), "which the base lacks"),
        (lambda: similarity({"x": W}, {"x": dict(W)}), "both have a model named x"),
    ],
)
def test_a_wrong_call_gets_one_clear_message(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_merged_model_needs_experts_it_was_made_of(eights):
    merged = merge("emr", *eights)
    with pytest.raises(ValueError, match="pass them by task name"):
        similarity(merged)
    with pytest.raises(ValueError, match="no task moon in this merge; it has cars, sun, dtd"):
        similarity(merged, {"moon": eights[0]})


def test_a_merge_is_compared_on_what_it_merged(eights):
    base, experts = eights
    headed = {task: expert | {"classifier": torch.ones(3)} for task, expert in experts.items()}
    merged = merge("emr", base, headed, unmatched="own", exclude="*.bias")
    assert set(similarity(merged, headed, by="tensor")["scope"]) == set(NAMES) - {"blocks.0.bias"}


def test_a_plain_merge_loaded_without_its_base_compares_weights(eights, tmp_path):
    base, experts = eights
    loaded = load(merge("average", base, experts).save(tmp_path / "merge"))
    assert set(similarity(loaded, experts)["of"]) == {"weights"}
    table = similarity(loaded, experts, base=base)
    expected = oracle(flat(loaded.weights()) - flat(base), flat(experts["sun"]) - flat(base))
    assert_allclose(scores(table.set_index("b").loc["sun"]), expected, rtol=1e-9, atol=1e-9)
