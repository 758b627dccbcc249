import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from mergekit_nb.widgets import Accuracy, EmrWalk, Similarity
from mergekit_nb.widgets.walk.state import StateError

BUDGET = 256_000  # bytes a message may have: more is dropped by some front ends


@pytest.fixture
def walk(models, tasks):
    return EmrWalk(*models, tasks)


def control(panel, name):
    """A control of a panel by its CSS class."""
    boxes = list(panel.children)
    for box in boxes:
        boxes += getattr(box, "children", ())
        if f"mk-{name}" in box._dom_classes:
            return box
    raise LookupError(name)


def test_the_layer_slider_moves_everything(walk):
    before = np.array(walk.figure.data[2].y), walk.grid.columns["tensor"], walk.text.value
    control(walk, "layer").value = 2
    assert walk.state.layer_name == "block 1"
    assert walk.grid.columns["tensor"] == walk.state.tensor == "blocks.1.weight"
    assert (np.array(walk.figure.data[2].y) != before[0]).all()
    assert "block 1" in walk.text.value
    assert [(shape.y0, shape.y1) for shape in walk.figure.layout.shapes] == [(1.5, 2.5)] * 2
    assert control(walk, "tensor").value == "blocks.1.weight"


def test_the_state_moves_the_controls(walk):
    walk.state.layer, walk.state.step, walk.state.pick, walk.state.k = "head", 3, "largest", 16
    values = [control(walk, name).value for name in ("layer", "step", "pick", "k")]
    assert values == [3, 3, "largest", 16]
    assert walk.grid.step == 3
    assert len(walk.grid.columns["index"]) == 16


def test_changing_the_layer_keeps_the_tensor_that_was_chosen(walk):
    walk.state.layer = "block 0"
    control(walk, "tensor").value = "blocks.0.bias"
    control(walk, "layer").value = 2
    assert (walk.state.tensor, control(walk, "tensor").value) == ("blocks.1.bias",) * 2


def test_a_click_in_the_heat_map_goes_to_the_layer(walk):
    class Points:
        ys = ("block 1",)

    walk.figure.data[0]._dispatch_on_click(Points(), None)
    assert walk.state.layer == 2


def test_a_cell_chosen_on_the_page_is_in_the_state_and_back(walk):
    index = walk.grid.columns["index"][3]
    walk.grid.selected = ["kana", index]
    assert walk.state.selected == ("kana", index)
    walk.state.selected = ("emoji", index)
    assert walk.grid.selected == ["emoji", index]
    walk.state.layer = 1
    assert walk.grid.selected == []


def test_a_step_chosen_in_the_grid_is_in_the_state(walk):
    walk.grid.step = 2
    assert walk.state.step == 2
    assert control(walk, "step").value == 2


def test_typed_positions_are_shown(walk):
    control(walk, "pick").value = "typed"
    control(walk, "indices").value = "7, 3 12"
    assert walk.grid.columns["index"] == [3, 7, 12]
    assert control(walk, "indices").layout.display == ""
    assert control(walk, "seed").layout.display == "none"


@pytest.mark.parametrize(
    ("typed", "told"), [("3, x", "whole numbers such as 3, 17, 42; got x"), ("900", "0 to 767; got 900")]
)
def test_a_wrong_entry_is_told_in_the_panel(walk, monkeypatch, typed, told):
    monkeypatch.delenv("MERGEKIT_NB_STRICT")
    control(walk, "indices").value = typed
    assert told in walk.problem.value
    assert isinstance(walk.error, StateError)
    control(walk, "indices").value = "3"
    assert walk.problem.value == ""
    assert walk.error is None


def test_an_exception_in_a_callback_is_shown_with_its_traceback(walk, monkeypatch):
    monkeypatch.delenv("MERGEKIT_NB_STRICT")
    monkeypatch.setattr("mergekit_nb.widgets.walk.words.step_text", lambda *_: 1 / 0)
    walk.state.step = 1
    assert "ZeroDivisionError" in walk.problem.value
    assert "<summary>traceback</summary>" in walk.problem.value


def test_an_exception_in_a_callback_is_raised_where_panels_are_strict(walk, monkeypatch):
    monkeypatch.setattr("mergekit_nb.widgets.walk.words.step_text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        walk.state.step = 1


def test_what_a_model_is_called_cannot_write_into_the_page(models):
    base, experts = models
    named = {"<b>x</b>": experts["mnist"], "kana": experts["kana"]}
    walk = EmrWalk(base, named)
    for step in range(4):
        walk.state.step = step
        assert "<b>x</b>" not in walk.text.value


def test_the_rescalers_on_the_page_are_the_merges(walk):
    assert walk.grid.columns["scalers"] == [walk.study.merged.patches[task].scale for task in walk.study.tasks]


@pytest.mark.parametrize(("rescale", "said"), [("per_tensor", "λ = Σ mean|τ|"), ("global", "λ = mean|τ|")])
def test_the_formula_shown_is_the_one_used(models, rescale, said):
    walk = EmrWalk(*models, rescale=rescale)
    walk.state.step = 3
    assert said in walk.text.value
    lowest = min(walk.study.scalers)
    assert f"{lowest:.2f}" in walk.text.value


def test_messages_are_small(walk):
    walk.state.k = 64
    columns = walk.grid.columns
    binary = sum(len(value) for value in columns.values() if isinstance(value, bytes))
    text = len(json.dumps({key: value for key, value in columns.items() if not isinstance(value, bytes)}))
    assert binary + text < BUDGET
    assert len(json.dumps(walk.figure._widget_data, default=lambda array: np.asarray(array).tolist())) < BUDGET


def test_the_picture_is_a_readable_png_beside_the_live_panel(walk):
    data, about = walk._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.width == 2 * about["image/png"]["width"] >= 1200, "twice as fine as it is shown"
    assert len(image.getcolors(1 << 16)) > 20


def test_the_picture_shows_the_step(walk):
    pictures = set()
    for step in range(4):
        walk.state.step = step
        pictures.add(walk.png())
    assert len(pictures) == 4


def test_without_tasks_the_walk_says_why_there_is_no_accuracy(models):
    walk = EmrWalk(*models)
    assert walk.accuracy is None
    assert any(
        "pass tasks=" in getattr(child, "value", "")
        for child in walk.children
        if isinstance(getattr(child, "value", 0), str)
    )
    with pytest.raises(ValueError, match="needs tasks="):
        Accuracy(state=walk.state)


def test_half_the_arguments_are_refused(models):
    with pytest.raises(ValueError, match="both base and experts"):
        EmrWalk(models[0])


def test_tasks_that_miss_an_expert_are_named(models, tasks):
    with pytest.raises(ValueError, match="nothing to test emoji on; it has mnist, kana"):
        EmrWalk(*models, {name: tasks[name] for name in ("mnist", "kana")})


def test_options_reach_the_merge(models):
    walk = EmrWalk(*models, rescale="global")
    assert walk.study.merged.provenance["options"]["rescale"] == "global"


def test_panels_on_one_state_move_together(walk):
    similarity = Similarity(state=walk.state)
    before = np.array(similarity.figure.data[0].z, dtype=float)
    control(walk, "layer").value = 1
    after = np.array(similarity.figure.data[0].z, dtype=float)
    assert not np.allclose(before, after, equal_nan=True)
    control(similarity, "layer").value = 3
    assert walk.state.layer_name == "head"
    assert control(walk, "layer").value == 3


def test_models_and_a_state_together_are_refused(walk, models):
    for panel in (Similarity, Accuracy):
        with pytest.raises(ValueError, match="not both"):
            panel(*models, state=walk.state)


def test_similarity_of_the_whole_model_and_of_a_layer(walk):
    similarity = Similarity(state=walk.state)
    np.testing.assert_allclose(similarity.matrix(), walk.study.overview.similarity(0))
    control(similarity, "scope").value = "model"
    np.testing.assert_allclose(similarity.matrix(), walk.study.overview.similarity(None))
    assert "whole model" in similarity.figure.layout.title.text
    assert "task vectors" in similarity.figure.layout.title.text


def test_colours_of_similarity_mean_the_same_on_every_layer(walk):
    similarity = Similarity(state=walk.state)
    ends = [(similarity.figure.data[0].zmin, similarity.figure.data[0].zmax)]
    for layer in range(len(walk.state.layers)):
        walk.state.layer = layer
        off = walk.study.overview.similarity(layer)[~np.eye(3, dtype=bool)]
        assert np.abs(off).max() <= similarity.figure.data[0].zmax
        ends.append((similarity.figure.data[0].zmin, similarity.figure.data[0].zmax))
    assert len(set(ends)) == 1


@pytest.mark.filterwarnings("ignore:only one expert")
@pytest.mark.parametrize("case", ["one expert", "an expert equal to the base", "all experts equal to the base"])
def test_models_with_little_to_see_can_be_seen(models, case):
    base, experts = models
    chosen = {
        "one expert": {"mnist": experts["mnist"]},
        "an expert equal to the base": experts | {"kana": base},
        "all experts equal to the base": dict.fromkeys(experts, base),
    }[case]
    walk = EmrWalk(base, chosen)
    similarity = Similarity(state=walk.state)
    for layer in range(len(walk.state.layers)):
        for step in range(4):
            walk.state.layer, walk.state.step = layer, step
    assert walk.error is None
    assert similarity.error is None
    assert Image.open(io.BytesIO(walk.png())).width
    assert Image.open(io.BytesIO(similarity.png())).width
    json.dumps(similarity.figure.data[0].z, allow_nan=False)
    json.dumps(walk.figure.data[1].z, allow_nan=False)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_models_in_other_dtypes_are_shown(models, dtype):
    import torch

    base, experts = models
    cast = {task: {n: w.to(getattr(torch, dtype)) for n, w in expert.items()} for task, expert in experts.items()}
    walk = EmrWalk({n: w.to(getattr(torch, dtype)) for n, w in base.items()}, cast)
    walk.state.layer, walk.state.step = "head", "rescale"
    assert walk.error is None


def test_models_given_as_modules_and_files_are_shown(models, tmp_path):
    from safetensors.torch import save_file

    base, experts = models
    for name, weights in {"base": base, **experts}.items():
        save_file(weights, tmp_path / f"{name}.safetensors")
    walk = EmrWalk(str(tmp_path / "base.safetensors"), {task: tmp_path / f"{task}.safetensors" for task in experts})
    np.testing.assert_array_equal(walk.study.scalers, EmrWalk(base, experts).study.scalers)
