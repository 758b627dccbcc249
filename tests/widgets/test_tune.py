"""Tune: menus, sliders and state are one thing; what it shows is what mk.merge and mk.evaluate say, on validation images."""

import io
import threading
import time

import ipywidgets
import numpy as np
import pytest
from PIL import Image

import mergekit_nb as mk
from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.methods import METHODS, Average, Dare, Emr, Knots, Lines, Pcb, TallMasks, TaskArithmetic, Ties
from mergekit_nb.widgets import Tune
from mergekit_nb.widgets.tune.compute import REFERENCES
from mergekit_nb.widgets.tune.figure import PLACE
from mergekit_nb.widgets.tune.parts import Parts, afters, befores, parts, written
from mergekit_nb.widgets.tune.state import StateError

SOON = 30  # seconds


@pytest.fixture
def panel(models, tasks):
    return shown(Tune(*models, tasks, limit=20))


def shown(panel):
    """As when a page has drawn it."""
    panel.figure._drawn = True
    return done(panel)


def done(panel):
    assert panel.job.wait(SOON)
    return panel


def drawn(panel, name):
    return np.array(panel.figure.data[PLACE[name]].y, dtype=float)


def truth(panel, subject, limit=20):
    return evaluate(subject, panel.bench.tests, split="validation", limit=limit)["accuracy"].to_numpy()


def test_nothing_is_measured_before_the_page_has_drawn_it(models, tasks):
    panel = Tune(*models, tasks, limit=5)
    assert not panel.job.running
    assert not panel.trials
    assert "is not measured yet" in panel.said.value


def test_it_measures_at_once_and_shows_what_merge_and_evaluate_say(panel, models):
    base, experts = models
    wanted = {"base": base, "individual": experts}
    wanted |= {"average": mk.merge("average", *models), "now": mk.merge("task_arithmetic", *models)}
    for name, subject in wanted.items():
        expected = truth(panel, subject)
        np.testing.assert_allclose(drawn(panel, name), [*expected, expected.mean()])
    table = panel.table().set_index("method")
    assert list(table.index.unique()) == [*REFERENCES, "TaskArithmetic()"]
    assert table.loc["TaskArithmetic()", "accuracy"].tolist() == truth(panel, wanted["now"]).tolist()


def test_only_validation_images_are_looked_at(models, tasks):
    asked = []
    for name, task in (tasks := dict(tasks)).items():
        spy = lambda which, task=task: asked.append(which) or task.split(which)  # noqa: E731
        tasks[name] = type(task)(**{**vars(task), "split": spy})
    shown(Tune(*models, tasks, limit=5))
    assert set(asked) == {"validation"}


def test_a_slider_changes_the_method_and_the_bars(panel, models):
    before = drawn(panel, "now")
    panel.sliders["main"].rows["scale"].editors["one"].widget.value = 1.5
    assert panel.state.method == TaskArithmetic(scale=1.5)
    expected = truth(done(panel), mk.merge("task_arithmetic", *models, scale=1.5))
    np.testing.assert_allclose(drawn(panel, "now"), [*expected, expected.mean()])
    np.testing.assert_allclose(drawn(panel, "before"), before)
    assert "TaskArithmetic(scale=1.5)" in panel.said.value


def test_the_menus_make_a_composition_and_keep_what_was_set(panel):
    panel.sliders["main"].rows["scale"].value = 0.5
    panel.menus["before"].value = "dare"
    panel.sliders["before"].rows["drop"].value = 0.5
    panel.menus["after"].value = "lines"
    assert parts(panel.state.method) == Parts(Dare(drop=0.5), TaskArithmetic(scale=0.5), Lines())
    panel.menus["main"].value = "ties"
    assert parts(panel.state.method) == Parts(Dare(drop=0.5), Ties(), Lines())
    assert len(panel.knobs.children) == 2 * 3
    panel.menus["after"].value = ""
    panel.default.click()
    assert panel.state.method == Dare() | Ties()
    assert list(done(panel).history()["method"]).pop() == "Dare() | Ties()"


@pytest.mark.parametrize(
    "method", [Ties(density=0.3), Dare(drop=0.5) | Ties(), Knots() | Ties(density=0.5) | Lines(), Pcb(scale=(1, 2, 3))]
)
def test_a_method_set_from_a_cell_moves_menus_and_sliders(panel, method):
    panel.state.method = method
    kept = parts(method)
    for place, part in kept._asdict().items():
        assert panel.menus[place].value == (part.name if part else "")
        assert (panel.sliders[place] and panel.sliders[place].method) == part
    assert written(done(panel).state.method) in panel.said.value.replace("mk.methods.", "")


def test_a_name_is_understood_and_a_wrong_one_refused(panel):
    panel.state.method = "emr"
    assert panel.state.method == Emr()
    for wrong, told in [
        ("tise", "did you mean 'ties'"),
        ("slerp", "exactly 2"),
        (Dare() | Dare() | Ties(), "one method"),
    ]:
        with pytest.raises(StateError, match=told):
            panel.state.method = wrong
    assert panel.state.method == Emr()


def test_parts_that_do_not_go_together_are_told_and_the_old_ones_stay(panel, monkeypatch):
    panel.state.method = TallMasks()
    monkeypatch.setattr(Dare, "__or__", lambda *_: (_ for _ in ()).throw(TypeError("not these two")))
    panel.menus["before"].value = "dare"
    assert "not these two" in panel.problem.value
    assert panel.state.method == TallMasks()
    assert panel.menus["before"].value == ""
    panel.menus["main"].value = "ties"
    assert panel.problem.value == ""


def test_methods_that_cannot_be_composed_are_told_when_they_are_chosen(panel):
    panel.state.method = Emr()
    panel.menus["before"].value = "knots"
    assert "knots | emr" in panel.problem.value
    assert panel.state.method == Emr()


def test_what_a_merge_refuses_is_told_in_the_panel(panel, monkeypatch):
    monkeypatch.delenv("MERGEKIT_NB_STRICT")

    def refuse(*_, **__):
        raise ValueError("these experts do not fit")

    monkeypatch.setattr("mergekit_nb.widgets.tune.compute.merge", refuse)
    panel.state.method = Ties()
    done(panel)
    assert panel.problem.value == "these experts do not fit"
    assert panel.figure.data[PLACE["now"]].visible is False


@pytest.mark.parametrize("name", mk.methods.taking(3))
def test_every_method_can_be_tuned(panel, name):
    panel.menus["main"].value = name
    assert done(panel).trials[-1].label == f"{METHODS[name].__name__}()" or name == "task_arithmetic"
    assert panel.problem.value == ""
    for row in panel.sliders["main"].rows.values():
        assert isinstance(row, ipywidgets.HBox)


@pytest.mark.parametrize("name", befores())
def test_what_may_stand_before_another_can_be_chosen(panel, name):
    panel.menus["before"].value = name
    assert done(panel).trials[-1].label == f"{METHODS[name].__name__}() | TaskArithmetic()"


@pytest.mark.parametrize("name", afters())
def test_what_may_stand_after_another_can_be_chosen(panel, name):
    panel.menus["after"].value = name
    assert done(panel).trials[-1].label == f"TaskArithmetic() | {METHODS[name].__name__}()"


@pytest.mark.parametrize(
    "method", [Ties(), Dare() | Ties(), Ties() | Lines(), Dare() | Ties() | Lines(), Knots() | Ties() | Lines()]
)
def test_taken_apart_and_joined_it_is_the_same_merge(method, models):
    again = parts(method).joined()
    one, other = (mk.merge(m, *models).vector for m in (method, again))
    assert all((one[name] == other[name]).all() for name in one)
    assert again.label == method.label


def test_how_a_method_is_written_makes_it_again():
    scope = {name: getattr(mk.methods, name) for name in ("Dare", "Ties", "Pcb", "Average")}
    for method in (Dare(drop=0.5, rescale=None) | Ties(), Pcb(scale=(1.0, 2.0)), Average(), Ties(weights=(1.0, 2.0))):
        assert eval(written(method), scope) == method


def slowed(monkeypatch, seconds=0.05):
    """Every batch takes a while."""
    import mergekit_nb.widgets.tune.compute as module

    real = module.counts

    def slow(*args, **kwargs):
        for triple in real(*args, **{**kwargs, "batch_size": 2}):
            time.sleep(seconds)
            yield triple

    monkeypatch.setattr(module, "counts", slow)


def test_the_latest_setting_wins(panel, monkeypatch):
    slowed(monkeypatch, 0.02)
    for scale in (0.5, 0.6, 0.7):
        panel.sliders["main"].rows["scale"].value = scale
        time.sleep(0.1)
    assert [trial.key for trial in done(panel).trials[1:]] == [TaskArithmetic(scale=0.7)]
    expected = panel.trials[-1].found
    np.testing.assert_allclose(drawn(panel, "now")[:-1], [right / n for right, n in expected.values()])


def test_cancel_works_within_a_second_and_half_a_setting_is_no_result(panel, monkeypatch):
    slowed(monkeypatch)
    began = time.monotonic()
    panel.state.method = Ties()
    assert time.monotonic() - began < 1, "the page does not wait for the work"
    time.sleep(0.6)
    assert panel.run.description == "Cancel"
    assert panel.progress.value > 0
    began = time.monotonic()
    panel.run.click()
    done(panel)
    assert time.monotonic() - began < 1
    assert panel.said.value.startswith("Cancelled.")
    assert "is not measured yet" in panel.said.value
    assert [trial.key for trial in panel.trials] == [TaskArithmetic()]
    panel.run.click()
    assert done(panel).trials[-1].key == Ties()


def test_nothing_is_measured_twice(panel):
    panel.state.method = Ties()
    done(panel)
    panel.state.method = TaskArithmetic()
    assert len(done(panel).trials) == 2
    assert "is right on" in panel.said.value


def test_the_tries_are_drawn_and_the_best_is_marked(panel):
    for scale in (0.0, 1.0, 3.0):
        panel.state.method = TaskArithmetic(scale=scale)
        done(panel)
    history = panel.history()
    trace = panel.figure.data[PLACE["tried"]]
    np.testing.assert_allclose(trace.y, history["mean"])
    assert [mark == "star" for mark in trace.marker.symbol].index(True) == history["mean"].argmax()
    assert (
        history["bytes"] == mk.merge("task_arithmetic", panel.bench.base, panel.bench.experts).nbytes["shared"]
    ).all()


def test_other_images_are_another_comparison(panel):
    panel.state.limit = 10
    done(panel)
    assert list(panel.history()["images a task"]) == [20, 10]
    assert len(panel.figure.data[PLACE["tried"]].y) == 1
    panel.state.limit = None
    assert np.isfinite(drawn(done(panel), "base")).all()
    for wrong in (-1, 1.5, True, "many"):
        with pytest.raises(StateError, match="number of images of each task, or None for all"):
            panel.state.limit = wrong


def test_headless_it_is_measured_when_it_is_made(models, tasks, monkeypatch):
    monkeypatch.setenv("MERGEKIT_NB_HEADLESS", "1")
    threads = threading.active_count()
    panel = Tune(*models, tasks, limit=5)
    panel.state.method = "ties"
    assert len(panel.trials) == 2
    assert threading.active_count() == threads


def test_the_picture_shows_the_setting(panel):
    first = panel.png()
    panel.state.method = Ties()
    second = done(panel).png()
    assert first != second
    assert Image.open(io.BytesIO(second)).width >= 1200
    data, _ = panel._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= data.keys()


def test_a_zoo_alone_is_enough_and_tasks_are_needed(models, tasks):
    class Zoo:
        base, experts = models

    Zoo.tasks = tasks
    assert shown(Tune(Zoo(), limit=5)).tasks == tuple(models[1])
    with pytest.raises(ValueError, match="needs tasks="):
        Tune(*models)
