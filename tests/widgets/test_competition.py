"""Competition: its numbers are the merge's own, its panels follow the state, its search stops when told to."""

import base64
import io
import json
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import mergekit_nb as mk
from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.maths import compete
from mergekit_nb.methods.pcb import RELEASED_Q, Pcb
from mergekit_nb.progress import Cancelled
from mergekit_nb.widgets import Competition
from mergekit_nb.widgets.competition import search as search_module
from mergekit_nb.widgets.competition import study as study_module
from mergekit_nb.widgets.competition.columns import columns
from mergekit_nb.widgets.competition.figure import SMALLEST
from mergekit_nb.widgets.competition.measure import place
from mergekit_nb.widgets.competition.stages import LOOKS, OF_STEP, Remembered
from mergekit_nb.widgets.competition.state import STEPS, CompetitionState
from mergekit_nb.widgets.competition.study import study
from mergekit_nb.widgets.walk.state import StateError
from tests.widgets.test_walk import BUDGET, control

SOON = 60  # seconds
TENSOR = "blocks.1.weight"


@pytest.fixture(scope="module")
def contestants(models, tasks):
    return study(*models, tasks)


@pytest.fixture
def panel(models, tasks):
    return Competition(*models, tasks)


def entries(study, of):
    """Something of every tensor, as one matrix over the whole model: task entry."""
    return torch.cat([of(name).flatten(1) for name in study.sizes], 1)


# --- the numbers are the merge's -----------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.9])
@pytest.mark.parametrize("variant", RELEASED_Q)
def test_the_merged_value_shown_is_the_merges(models, variant, ratio, few, monkeypatch):
    if not few:
        monkeypatch.setattr(study_module, "AS_MANY", 0)
    contest = study(*models).contest(variant, ratio)
    merged = mk.merge("pcb", *models, variant=variant, ratio=ratio, scale=0.7)
    for name in merged.vector:
        assert torch.equal(contest.merged(name, 0.7), merged.vector[name]), name
        shown = columns(contest, name, 0.7, "largest", 16)
        np.testing.assert_array_equal(shown.merged, merged.vector[name].flatten()[shown.index])


def test_what_is_remembered_merges_the_same_bits(contestants, models):
    method = Remembered(variant="C", ratio=0.3, scale=0.9, study=contestants)
    again = mk.merge(method, *models)
    plain = mk.merge(method.plain(), *models)
    assert all(torch.equal(again.vector[name], plain.vector[name]) for name in plain.vector)
    assert again.provenance["options"] == plain.provenance["options"]
    assert type(method.plain()) is Pcb


def test_thresholds_are_those_of_the_whole_model(contestants):
    contest = contestants.contest("A", 0.1)
    taus, scores = entries(contestants, contestants.vectors.at), entries(contestants, contest.scores)
    ends = compete.clip_range(taus, RELEASED_Q["A"])
    expected = compete.intra_balance(taus, *ends) * compete.inter_balance(taus, "A", *ends)
    torch.testing.assert_close(scores, expected)
    np.testing.assert_allclose(contest.cut, compete.cut_range(expected, 0.1)[0], rtol=1e-6)


def test_every_stage_is_the_mean_it_says(contestants):
    contest = contestants.contest("A", 0.2)
    taus, kept = contest.clipped(TENSOR), contest.weights(TENSOR) > 0
    ends = compete.clip_range(entries(contestants, contestants.vectors.at), RELEASED_Q["A"])
    intra = compete.intra_balance(contestants.vectors.at(TENSOR), *ends)
    expected = {
        "mean": taus.mean(0),
        "intra": (taus * intra).sum(0) / intra.sum(0),
        "drop": (taus * kept).sum(0) / kept.sum(0).clamp(min=1),
    }
    for stage, vector in expected.items():
        torch.testing.assert_close(contest.merged(TENSOR, 1.0, stage), vector, msg=stage)
    everything = contestants.contest("A", 1.0)
    assert torch.equal(contest.merged(TENSOR, 1.0, "inter"), everything.merged(TENSOR, 1.0))


def test_columns_by_hand():
    # two tasks, ratio 1/2 keeps above the 2nd of 4 scores; A: q clips the largest magnitude to the 3rd of 4
    base = {"blocks.0.w": torch.zeros(4)}
    experts = {
        "a": {"blocks.0.w": torch.tensor([4.0, 3.0, 2.0, 1.0])},
        "b": {"blocks.0.w": torch.tensor([1.0, -2.0, 3.0, 4.0])},
    }
    shown = columns(study(base, experts).contest("A", 0.5), "blocks.0.w", 1.0, "typed", 4, indices=(0, 1, 2, 3))
    unit = np.array([[1, 1, 0.5, 0], [0, 0.5, 1, 1]])
    np.testing.assert_allclose(shown.intra, np.exp(2 * unit**2), rtol=1e-5)
    np.testing.assert_allclose(shown.inter, np.tanh([[20, 3, 10, 5], [5, -2, 15, 20]]), rtol=1e-5)
    assert shown.survivors.tolist() == shown.kept.sum(0).tolist()
    assert [shown.kept[w, j] for j, w in enumerate(shown.winner) if w >= 0].count(0) == 0
    np.testing.assert_allclose(shown.part.sum(0), shown.survivors > 0)


def test_layer_measures_count_what_the_weights_say(contestants):
    contest = contestants.contest("A", 0.1)
    seen, names = contest.overview, contestants.layers["block 0"]
    weights = torch.cat([contest.weights(name).flatten(1) for name in names], 1)
    alive = weights > 0
    np.testing.assert_allclose(seen.kept[1], alive.double().mean(1))
    np.testing.assert_allclose(seen.nobody[1], (~alive.any(0)).double().mean())
    np.testing.assert_allclose(seen.alone[1], (alive.sum(0) == 1).double().mean())
    np.testing.assert_allclose(seen.won.sum(1) + seen.nobody, 1)
    np.testing.assert_allclose(seen.spread.sum(2), 1, rtol=1e-6)
    assert (weights[:, alive.any(0)].argmax(0) == 2).double().mean() * (1 - seen.nobody[1]) == pytest.approx(
        seen.won[1, 2]
    )


def test_scores_stand_in_thresholds_of_their_task():
    scores, cut = torch.tensor([[0.0, 2.0, -2.0, 18.0], [9.0, 0.0, 0.0, 0.0]]), torch.tensor([2.0, 0.0])
    expected = torch.log10(torch.tensor([[1.0, 2, 2, 10], [10, 1, 1, 1]])) * torch.tensor([[1.0, 1, -1, 1], [1] * 4])
    torch.testing.assert_close(place(scores, cut), expected)


def test_a_measurement_can_be_cancelled(models):
    flag = threading.Event()
    flag.set()
    with pytest.raises(Cancelled):
        study(*models).contest("A", 0.1, flag)


# --- the state -----------------------------------------------------------------------------------------------------

WRONG = [
    ("step", 5, "state.step is a whole number from 0 to 4; got 5"),
    ("variant", "E", "state.variant is one of 'A', 'B', 'C', 'D', 'paper'; got 'E'"),
    ("ratio", 10, "state.ratio is a fraction of entries kept, in [1e-06, 1]; got 10; did you mean 0.1?"),
    ("scale", 9, "state.scale is a multiplier of the merged vector, in [-2, 5]; got 9"),
    ("scale", (1.0, 1.0), "state.scale is one number here, the same for every task; got (1.0, 1.0)"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_value_is_refused_in_one_sentence(contestants, name, value, message):
    with pytest.raises(StateError) as caught:
        setattr(CompetitionState(contestants), name, value)
    assert str(caught.value) == message


def test_a_step_can_be_set_by_name(contestants):
    state = CompetitionState(contestants)
    state.step = "drop"
    assert state.step == STEPS.index("drop") == 3


# --- the panel -----------------------------------------------------------------------------------------------------


def test_the_sliders_show_another_competition(panel):
    control(panel, "ratio").value = 0.5
    assert panel.job.wait(SOON)
    assert panel.contest.method.ratio == 0.5
    np.testing.assert_allclose(np.array(panel.figure.data[0].z), panel.contest.overview.kept)
    control(panel, "variant").value = "D"
    assert panel.job.wait(SOON)
    assert panel.contest.method.variant == "D"
    merged = np.frombuffer(panel.grid.columns["merged"], np.float32)
    truth = mk.merge(Pcb(variant="D", ratio=0.5), panel.study.vectors.base, panel.study.vectors.experts)
    np.testing.assert_array_equal(merged, truth.vector[panel.state.tensor].flatten()[panel.grid.columns["index"]])


def test_lambda_moves_the_merged_value_at_once(panel):
    one = np.frombuffer(panel.grid.columns["merged"], np.float32)
    control(panel, "scale").value = 2.4
    np.testing.assert_allclose(np.frombuffer(panel.grid.columns["merged"], np.float32), 2 * one, rtol=1e-6)


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("variant", ["A", "paper"])
def test_every_step_says_something_and_looks_its_own_way(panel, step, variant):
    panel.state.step, panel.state.variant = step, variant
    assert panel.job.wait(SOON)
    assert panel.state.layer_name in panel.text.value
    assert panel.grid.step == step
    others = {panel.png() for panel.state.step in range(5)}
    assert len(others) == 5


def test_the_chosen_cell_says_whose_scores_are_drawn(panel):
    panel.grid.selected = ["kana", panel.grid.columns["index"][0]]
    assert panel.state.selected[0] == "kana"
    assert "Scores of kana" in panel.figure.layout.annotations[2].text
    drawn = np.concatenate([panel.figure.data[4].y, panel.figure.data[5].y])
    np.testing.assert_allclose(drawn, np.maximum(panel.contest.overview.spread[panel.state.layer, 1], SMALLEST / 10))


def test_a_click_in_a_heat_map_goes_to_the_layer(panel):
    class Points:
        ys = ("head",)

    panel.figure.data[0]._dispatch_on_click(Points(), None)
    assert panel.state.layer_name == "head"
    assert [(shape.y0, shape.y1) for shape in panel.figure.layout.shapes[:2]] == [(2.5, 3.5)] * 2


def test_messages_are_small(panel):
    panel.state.k = 64
    packed = panel.grid.columns
    binary = sum(len(value) for value in packed.values() if isinstance(value, bytes))
    text = len(json.dumps({key: value for key, value in packed.items() if not isinstance(value, bytes)}))
    assert binary + text < BUDGET
    assert len(json.dumps(panel.figure._widget_data, default=lambda array: np.asarray(array).tolist())) < BUDGET


def test_the_picture_stands_beside_the_live_panel(panel):
    data, about = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.width == 2 * about["image/png"]["width"]


def test_without_tasks_it_says_why_nothing_is_tested(models):
    panel = Competition(*models)
    assert panel.accuracy is None
    assert panel.search is None
    assert any("pass tasks=" in str(getattr(child, "value", "")) for child in panel.children)


@pytest.mark.filterwarnings("ignore:only one expert")
@pytest.mark.parametrize("case", ["one expert", "an expert equal to the base", "all experts equal to the base"])
def test_models_with_little_to_see_can_be_seen(models, case):
    base, experts = models
    chosen = {
        "one expert": {"mnist": experts["mnist"]},
        "an expert equal to the base": experts | {"kana": base},
        "all experts equal to the base": dict.fromkeys(experts, base),
    }[case]
    panel = Competition(base, chosen)
    for variant in RELEASED_Q:
        panel.state.variant = variant
        assert panel.job.wait(SOON)
        panel.state.step = 4
        assert Image.open(io.BytesIO(panel.png())).width
        json.dumps(panel.figure.data[1].z, allow_nan=False)
    assert panel.error is None


# --- accuracy ------------------------------------------------------------------------------------------------------


def test_accuracy_is_that_of_the_stages(panel):
    for box in panel.accuracy.boxes.values():
        box.value = True
    panel.accuracy.run.click()
    assert panel.accuracy.job.wait(SOON)
    table = panel.accuracy.table().set_index(["variant", "task"])["accuracy"]
    models = panel.study.vectors.base, panel.study.vectors.experts
    truths = {"PCB": mk.merge("pcb", *models), "by the score, none dropped": mk.merge("pcb", *models, ratio=1.0)}
    for label, merged in truths.items():
        expected = evaluate(merged, panel.study.tests, limit=100).set_index("task")["accuracy"]
        pd.testing.assert_series_equal(table[label], expected, check_names=False)
    assert set(table.index.get_level_values(0)) == {look.label for look in LOOKS.values()}


def test_what_a_hyper_parameter_moves_is_measured_again_and_nothing_else(panel):
    panel.accuracy.run.click()
    assert panel.accuracy.job.wait(SOON)
    before = set(panel.accuracy.measured)
    panel.state.ratio = 0.5
    assert panel.accuracy.job.wait(SOON)
    assert {key[0] for key, _ in set(panel.accuracy.measured) - before} == {"drop", "pcb"}


def test_the_model_of_the_step_is_outlined(panel):
    for step, stage in enumerate(OF_STEP):
        panel.state.step = step
        outlined = [trace.name for trace in panel.accuracy.figure.data if trace.marker.line.width]
        assert outlined == [LOOKS[stage].label]


# --- the search ----------------------------------------------------------------------------------------------------


def test_the_search_is_mk_search_on_validation_and_tests_once(panel, monkeypatch):
    looks = []

    def watched(merged, tests, **how):
        looks.append(how.get("split", "test"))
        return evaluate(merged, tests, **how)

    monkeypatch.setattr(search_module, "evaluate", watched)
    panel.search.boxes["ratio"].value = True
    panel.search.search(8)
    assert panel.search.job.wait(SOON)
    assert looks == ["validation"] * 8 + ["test"] * 2
    truth = mk.search(
        "pcb", panel.study.vectors.base, panel.study.vectors.experts, panel.study.tests, search_module.BOUNDS, 8,
        seed=search_module.SEED, limit=50,
    )  # fmt: skip
    pd.testing.assert_frame_equal(panel.search.history, truth.history)
    pd.testing.assert_frame_equal(panel.search.found.history, truth.history)
    assert panel.search.found.method == truth.method
    assert list(panel.search.tested.index) == ["start", "chosen"]
    assert list(panel.search.figure.data[0].y) == list(truth.history["score"])
    assert f"{panel.search.tested.loc['chosen', 'accuracy']:.1%}" in panel.search.said.value


def test_the_search_starts_from_what_is_on_show(panel):
    panel.state.variant, panel.state.scale = "D", 0.8
    panel.search.search(4)
    assert panel.search.job.wait(SOON)
    assert panel.search.history["scale"][0] == 0.8
    assert panel.search.found.method.variant == "D"


def test_cancel_stops_a_search_within_a_second_and_looks_at_no_test_image(panel, monkeypatch):
    splits = []

    def slow(merged, tests, **how):
        splits.append(how.get("split", "test"))
        time.sleep(0.05)
        return evaluate(merged, tests, **how)

    monkeypatch.setattr(search_module, "evaluate", slow)
    panel.search.budget.value = 60
    panel.search.run.click()
    while len(panel.search.history) < 2:
        time.sleep(0.02)
    assert panel.search.run.description == "Cancel"
    began = time.monotonic()
    panel.search.run.click()
    assert panel.search.job.wait(SOON)
    assert time.monotonic() - began < 1
    assert panel.search.said.value.startswith("Cancelled after")
    assert (panel.search.found, panel.search.tested, set(splits)) == (None, None, {"validation"})
    assert panel.search.run.description == "Search"


def test_nothing_to_search_is_told(panel, monkeypatch):
    monkeypatch.delenv("MERGEKIT_NB_STRICT")
    panel.search.boxes["scale"].value = False
    panel.search.run.click()
    assert "tick λ, ratio, or both" in panel.search.problem.value


def test_headless_panels_are_measured_searched_and_pictured(models, tasks, monkeypatch):
    blank = Competition(*models, tasks).png()
    monkeypatch.setenv("MERGEKIT_NB_HEADLESS", "1")
    panel = Competition(*models, tasks)
    assert set(panel.accuracy.table()["task"]) == set(tasks)
    assert len(panel.search.history) == search_module.FEW
    pictures = [Image.open(io.BytesIO(png)) for png in (blank, panel.png())]
    assert pictures[1].height > pictures[0].height + 2 * 400, "accuracy and search stand below, twice as fine"
