import time

import numpy as np
import pytest

from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.widgets import Accuracy, EmrWalk
from mergekit_nb.widgets.variants import LABELS, subject

SOON = 30  # seconds


@pytest.fixture
def panel(models, tasks):
    return Accuracy(*models, tasks)


def done(panel):
    assert panel.job.wait(SOON)
    return panel


def test_nothing_is_measured_until_asked(panel):
    assert panel.table().empty
    assert not panel.job.running


def test_what_is_shown_is_what_evaluate_says(panel):
    panel.boxes["base"].value = True
    panel.run.click()
    table = done(panel).table().set_index(["variant", "task"])
    for variant, label in LABELS.items():
        truth = evaluate(subject(panel.study, variant, 0), panel.study.tests, limit=100).set_index("task")
        for column in ("accuracy", "n", "low", "high"):
            np.testing.assert_allclose(table.loc[label, column].loc[truth.index], truth[column])
    bars = {trace.name: np.array(trace.y) for trace in panel.figure.data}
    np.testing.assert_allclose(bars["+ rescale"][:-1], table.loc["+ rescale", "accuracy"])
    assert bars["+ rescale"][-1] == pytest.approx(table.loc["+ rescale", "accuracy"].mean())


def test_the_steps_are_measured_once_and_the_moving_one_again(panel):
    panel.run.click()
    first = dict(done(panel).measured)
    panel.state.layer = 2
    second = done(panel).measured
    assert set(second) - set(first) == {(("partial", 2), 100)}


def test_a_layer_moves_nothing_before_the_first_measurement_or_when_not_wanted(panel):
    panel.state.layer = 1
    assert not panel.job.running
    panel.run.click()
    known = len(done(panel).measured)
    panel.follow.value = False
    panel.state.layer = 2
    assert len(done(panel).measured) == known


def slowed(panel, monkeypatch, seconds=0.05):
    """Every batch takes a while."""
    import mergekit_nb.widgets.accuracy as module

    real = module.counts

    def slow(*args, **kwargs):
        for triple in real(*args, **{**kwargs, "batch_size": 2}):
            time.sleep(seconds)
            yield triple

    monkeypatch.setattr(module, "counts", slow)


def test_cancel_works_within_a_second_and_says_so(panel, monkeypatch):
    slowed(panel, monkeypatch)
    panel.run.click()
    time.sleep(0.5)
    assert panel.run.description == "Cancel"
    assert panel.progress.value > 0
    began = time.monotonic()
    panel.run.click()
    done(panel)
    assert time.monotonic() - began < 1
    assert panel.said.value == "Cancelled."
    assert panel.run.description == "Measure"
    assert panel.table().empty, "half a variant is no result"


def test_the_slider_overtakes_a_measurement(panel, monkeypatch):
    panel.run.click()
    done(panel)
    slowed(panel, monkeypatch, 0.02)
    for layer in (1, 2, 3):
        panel.state.layer = layer
        time.sleep(0.1)
    measured = {key for key, _ in done(panel).measured}
    assert ("partial", 3) in measured
    assert ("partial", 1) not in measured


def test_the_page_does_not_wait_for_the_work(panel, monkeypatch):
    slowed(panel, monkeypatch)
    began = time.monotonic()
    panel.run.click()
    panel.state.step = 2
    assert time.monotonic() - began < 1
    panel.job.cancel()
    done(panel)


def test_a_failure_is_shown_and_the_panel_can_go_on(panel, monkeypatch):
    monkeypatch.delenv("MERGEKIT_NB_STRICT")
    with monkeypatch.context() as patch:
        patch.setattr("mergekit_nb.widgets.accuracy.counts", lambda *_, **__: (1 / 0 for _ in "x"))
        panel.run.click()
        done(panel)
    assert "ZeroDivisionError" in panel.problem.value
    panel.run.click()
    assert done(panel).problem.value == ""
    assert not panel.table().empty


def test_headless_panels_are_measured_and_pictured(models, tasks, monkeypatch):
    blank = EmrWalk(*models, tasks).png()
    monkeypatch.setenv("MERGEKIT_NB_HEADLESS", "1")
    walk = EmrWalk(*models, tasks)
    assert set(walk.accuracy.table()["task"]) == set(tasks)
    assert walk.png() != blank


def test_the_step_on_show_is_outlined(panel):
    for step, label in enumerate(("individual experts", "elect", "+ mask", "+ rescale")):
        panel.state.step = step
        outlined = [trace.name for trace in panel.figure.data if trace.marker.line.width]
        assert outlined == [label]


def test_a_variant_can_be_hidden(panel):
    panel.boxes["mask"].value = False
    assert [trace.name for trace in panel.figure.data if not trace.visible] == ["base, zero-shot", "+ mask"]


def test_another_number_of_images_is_another_measurement(panel):
    panel.images.value = 50
    panel.run.click()
    assert {limit for _, limit in done(panel).measured} == {50}
    panel.images.value = 0
    assert panel.limit is None
    assert panel.table().empty


def test_moving_on_after_a_cancel_starts_nothing(panel, monkeypatch):
    slowed(panel, monkeypatch)
    panel.run.click()
    time.sleep(0.3)
    panel.run.click()
    done(panel).state.layer = 1
    assert not panel.job.running
