import copy
import dataclasses
import threading

import pandas as pd
import pytest
import torch

from mergekit_nb.evaluation.accuracy import counts, evaluate
from mergekit_nb.evaluation.interval import wilson
from mergekit_nb.progress import Cancelled

from .tiny_world import CLASSES, answers, encoder, task, weights, world


@pytest.fixture
def tiny():
    return world()


def by_hand(module, task, split="test"):
    images, labels = task.split(split)
    return (answers(module, task.head, images) == labels).float().mean().item()


def test_an_expert_is_as_right_as_counting_by_hand_says(tiny):
    frame = evaluate(tiny.experts, tiny.tasks)
    assert list(frame.columns) == ["task", "accuracy", "n", "low", "high"]
    assert list(frame["task"]) == ["one", "two", "three"]
    assert frame["n"].tolist() == [50, 50, 50]
    # labels are the expert's own answers, every fourth of 50 moved: 13 wrong
    assert frame["accuracy"].tolist() == [37 / 50] * 3
    low, high = wilson(37, 50)
    assert frame[["low", "high"]].to_numpy().tolist() == [[low, high]] * 3


def test_one_model_is_evaluated_on_every_task(tiny):
    frame = evaluate(tiny.base, tiny.tasks)
    expected = [by_hand(encoder(0), task) for task in tiny.tasks.values()]
    assert frame["accuracy"].tolist() == pytest.approx(expected)


def test_a_module_is_evaluated_and_left_as_it_was(tiny):
    module = encoder(2).train()
    before = copy.deepcopy(module.state_dict())
    frame = evaluate(module, tiny.tasks)
    assert frame.set_index("task")["accuracy"]["two"] == 37 / 50
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_the_same_call_gives_the_same_frame(tiny):
    first = evaluate(tiny.base, tiny.tasks, limit=17)
    assert first["n"].tolist() == [17] * 3
    pd.testing.assert_frame_equal(first, evaluate(tiny.base, tiny.tasks, limit=17))


def test_the_batch_size_changes_nothing_here(tiny):
    whole = evaluate(tiny.base, tiny.tasks)
    pd.testing.assert_frame_equal(whole, evaluate(tiny.base, tiny.tasks, batch_size=7))


def test_a_limit_does_not_follow_an_order_in_the_labels():
    sorted_by_class = dataclasses.replace(
        task("one", 1),
        split=lambda which: (torch.zeros(400, 1, 2, 4, dtype=torch.uint8), torch.arange(400) * CLASSES // 400),
    )
    frame = evaluate(weights(1), [sorted_by_class], limit=80)
    # one picture, so one answer: right on its own class only, a quarter of the images
    assert 0.1 < frame["accuracy"][0] < 0.45


def test_stale_weights_of_another_task_do_not_linger(tiny):
    only_bias = {"visual.bias": weights(5)["visual.bias"]}
    frame = evaluate({"one": weights(1), "two": only_bias}, [tiny.tasks["one"], tiny.tasks["two"]])
    module = encoder(0)
    module.load_state_dict(only_bias, strict=False)
    assert frame["accuracy"][1] == pytest.approx(by_hand(module, tiny.tasks["two"]))


def test_counts_give_running_totals_task_by_task(tiny):
    triples = list(counts(tiny.experts, tiny.tasks, batch_size=20))
    assert [(name, total) for name, _, total in triples] == [
        (name, total) for name in tiny.tasks for total in (20, 40, 50)
    ]
    assert [correct for _, correct, total in triples if total == 50] == [37] * 3


def test_no_inference_mode_leaks_to_whoever_reads_the_counts(tiny):
    for _ in counts(tiny.experts, tiny.tasks):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_progress_counts_images(tiny):
    seen = []
    evaluate(tiny.base, tiny.tasks, batch_size=25, progress=lambda done, total, text: seen.append((done, total)))
    assert seen == [(done, 150) for done in range(25, 151, 25)]


@pytest.mark.parametrize("run", [evaluate, lambda *args, **options: list(counts(*args, **options))])
def test_cancel_stops_the_work(tiny, run):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        run(tiny.base, tiny.tasks, cancel=stop)


def test_cancel_set_from_a_batch_stops_at_the_next(tiny):
    stop, seen = threading.Event(), []

    def at_the_second_batch(done, total, text):
        seen.append(done)
        if len(seen) == 2:
            stop.set()

    with pytest.raises(Cancelled):
        evaluate(tiny.base, tiny.tasks, batch_size=10, progress=at_the_second_batch, cancel=stop)
    assert seen == [10, 20]


def test_an_unknown_task_is_named_with_the_known_ones(tiny):
    with pytest.raises(ValueError, match=r"no model for task three: there is one for one, two"):
        evaluate({"one": weights(1), "two": weights(2)}, tiny.tasks)


def test_weights_the_model_lacks_are_all_named(tiny):
    wrong = {"visual.weight": torch.zeros(2, 3), "head.weight": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"task one:\n  the model has no head.weight\n  visual.weight is \(2, 3\)"):
        evaluate(wrong, tiny.tasks)


def test_nan_weights_are_an_error_not_a_score(tiny):
    broken = {name: torch.full_like(tensor, float("nan")) for name, tensor in tiny.base.items()}
    with pytest.raises(ValueError, match="logits on task one are not finite"):
        evaluate(broken, tiny.tasks)


def test_an_empty_split_is_named(tiny):
    empty = dataclasses.replace(tiny.tasks["two"], split=lambda which: (torch.zeros(0, 1, 2, 4), torch.zeros(0)))
    with pytest.raises(ValueError, match="the validation split is empty for task two"):
        evaluate(tiny.base, [tiny.tasks["one"], empty], split="validation")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "calibration"}, "no split 'calibration' with labels: there are test, validation"),
        ({"limit": 0}, "limit is a number of images per task"),
        ({"batch_size": 0}, "batch_size is a number of images"),
        ({"device": "abacus"}, 'device "abacus" cannot be used here'),
    ],
)
def test_wrong_options_are_explained(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(tiny.base, tiny.tasks, **options)


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ({}, "empty mapping"),
        ("emr", "cannot evaluate a str"),
        (torch.nn.Linear(2, 2), "a Linear has no encode_image"),
    ],
)
def test_what_is_no_model_is_refused(tiny, subject, message):
    with pytest.raises(ValueError, match=message):
        evaluate(subject, tiny.tasks)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [({}, "no task to evaluate on"), (["mnist"], "'mnist' is no Task"), ([task("one", 1)] * 2, "same name: one")],
)
def test_what_is_no_task_is_refused(tiny, tasks, message):
    with pytest.raises(ValueError, match=message):
        evaluate(tiny.base, tasks)
