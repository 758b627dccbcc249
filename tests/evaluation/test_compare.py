import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import mergekit_nb as mk
from mergekit_nb.compare import COLUMNS, SCALES, _between, _dial, _turned, compare, failures, table
from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.evaluation.interval import mean_interval
from mergekit_nb.progress import Cancelled

from .tiny_world import world


@pytest.fixture
def tiny():
    return world()


def test_every_method_stands_between_base_and_individual(tiny):
    frame = compare(mk.methods.taking(3), tiny, limit=20, tune_limit=10)
    assert list(frame.columns) == COLUMNS
    assert list(frame["method"].unique()) == ["base", "individual", *mk.methods.taking(3)]
    assert (frame.groupby("method").size() == len(tiny.tasks)).all()
    assert frame["n"].eq(20).all()
    assert frame["accuracy"].between(frame["low"], frame["high"]).all()


def test_the_numbers_are_those_of_merge_and_evaluate(tiny):
    frame = compare([mk.methods.TaskArithmetic(scale=0.2), "emr"], tiny).set_index("method")
    for label, merged in {
        "task_arithmetic (scale=0.2)": mk.merge("task_arithmetic", tiny.base, tiny.experts, scale=0.2),
        "emr": mk.merge("emr", tiny.base, tiny.experts),
    }.items():
        expected = evaluate(merged, tiny.tasks)
        assert frame.loc[label, "accuracy"].tolist() == expected["accuracy"].tolist()
        assert (frame.loc[label, "bytes"] == merged.nbytes["shared"] + sum(merged.nbytes["patches"].values())).all()


def test_bytes_of_base_and_individual_are_one_model_and_one_per_task(tiny):
    frame = compare([], tiny).set_index("method")
    one = sum(tensor.numel() * 4 for tensor in tiny.base.values())
    assert frame.loc["base", "bytes"].tolist() == [one] * 3
    assert frame.loc["individual", "bytes"].tolist() == [3 * one] * 3


def test_the_scale_is_the_best_on_validation(tiny):
    frame = compare(["task_arithmetic"], tiny, tune_limit=None)

    def on_validation(scale):
        merged = mk.merge("task_arithmetic", tiny.base, tiny.experts, scale=scale)
        return evaluate(merged, tiny.tasks, split="validation")["accuracy"].mean()

    best = max(SCALES, key=on_validation)
    chosen = frame[frame["method"] == "task_arithmetic"]
    assert chosen["options"].str.startswith(f"scale={best:g} (validation").all()
    merged = mk.merge("task_arithmetic", tiny.base, tiny.experts, scale=best)
    assert chosen["accuracy"].tolist() == evaluate(merged, tiny.tasks)["accuracy"].tolist()


def test_the_beta_of_lines_is_the_best_on_validation(tiny):
    lines, chain = mk.methods.Lines(), mk.methods.Ties() | mk.methods.Lines()
    frame = compare([lines, chain], tiny, tune_limit=None).set_index("method")
    for label, made in {
        "lines": mk.methods.Lines,
        "ties | lines": lambda beta: mk.methods.Ties() | mk.methods.Lines(beta=beta),
    }.items():
        means = {}
        for beta in SCALES:
            merged = mk.merge(made(beta=beta), tiny.base, tiny.experts)
            means[beta] = evaluate(merged, tiny.tasks, split="validation")["accuracy"].mean()
        best = max(means, key=means.get)
        assert frame.loc[label, "options"].str.startswith(f"beta={best:g} (validation").all()
        expected = evaluate(mk.merge(made(beta=best), tiny.base, tiny.experts), tiny.tasks)["accuracy"]
        assert frame.loc[label, "accuracy"].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "method",
    [
        mk.methods.TaskArithmetic(),
        mk.methods.Knots() | (mk.methods.Dare(seed=1) | mk.methods.Ties()),
        mk.methods.Dare(seed=1) | mk.methods.Ties(),
        mk.methods.Tsv(),
        mk.methods.Ties() | mk.methods.Lines(),
        mk.methods.Lines(),
    ],
    ids=lambda method: method.label,
)
@pytest.mark.parametrize("value", [0.05, 0.3, 1.5])
def test_what_is_tuned_is_a_straight_line(tiny, method, value):
    dial = _dial(method)
    zero, one, there = (mk.merge(_turned(method, dial, x), tiny.base, tiny.experts) for x in (0.0, 1.0, value))
    made = _between(zero if dial == "beta" else None, one, value)
    for name, vector in there.vector.items():
        torch.testing.assert_close(made.vector[name], vector, rtol=1e-5, atol=1e-6)


def test_every_split_is_read_once_and_tuning_asks_for_validation(tiny):
    asked = []
    for name, task in list(tiny.tasks.items()):
        spy = lambda which, task=task: asked.append(which) or task.split(which)  # noqa: E731
        tiny.tasks[name] = type(task)(**{**vars(task), "split": spy})
    compare(["ties"], tiny)
    assert asked == ["test"] * 3 + ["validation"] * 3  # each image file is read once


def test_what_has_no_scale_or_sets_its_own_options_is_not_tuned(tiny):
    frame = compare(["average", mk.methods.Ties(density=0.5)], tiny, limit=5).set_index("method")
    assert frame.loc["average", "options"].tolist() == [""] * 3
    assert frame.loc["ties (density=0.5)", "options"].tolist() == ["density=0.5"] * 3


def test_without_tuning_the_defaults_are_used(tiny):
    frame = compare(["ties"], tiny, tune=False).set_index("method")
    expected = evaluate(mk.merge("ties", tiny.base, tiny.experts), tiny.tasks)
    assert frame.loc["ties", "accuracy"].tolist() == expected["accuracy"].tolist()
    assert frame.loc["ties", "options"].tolist() == [""] * 3


def test_a_composition_is_tuned_by_the_scale_of_its_last_method(tiny):
    frame = compare([mk.methods.Dare(seed=0) | mk.methods.Ties()], tiny, limit=5, tune_limit=5).set_index("method")
    assert frame.loc["dare | ties", "options"].str.startswith("scale=").all()


def test_the_same_call_gives_the_same_frame(tiny):
    frames = [compare(["ties", "emr"], tiny, limit=20).drop(columns="seconds") for _ in range(2)]
    pd.testing.assert_frame_equal(*frames)


def test_progress_ends_at_its_total_and_cancel_stops(tiny):
    seen, stop = [], threading.Event()
    compare(["average", "ties"], tiny, limit=5, progress=lambda done, total, text: seen.append((done, total)))
    total = 2 + 2 + 2 + len(SCALES)
    assert seen == [(done, total) for done in range(1, total + 1)]
    with pytest.raises(Cancelled):
        compare(["ties"], tiny, cancel=stop, progress=lambda done, total, text: stop.set() if done == 4 else None)


def test_the_table_has_a_mean_with_its_interval(tiny):
    frame = compare(["average", "emr"], tiny)
    wide = table(frame)
    assert list(wide.index) == ["base", "individual", "average", "emr"]
    assert list(wide.columns) == [*tiny.tasks, "mean", "low", "high", "options", "seconds", "bytes"]
    rows = frame[frame["method"] == "emr"]
    assert wide.loc["emr", "mean"] == pytest.approx(rows["accuracy"].mean())
    np.testing.assert_allclose(
        wide.loc["emr", ["low", "high"]].astype(float), mean_interval(*rows[["accuracy", "low", "high"]].T.values)
    )


@pytest.mark.parametrize(
    ("methods", "message"),
    [(["ties", "ties"], "listed twice: ties"), (["tise"], "no method 'tise'; did you mean 'ties'")],
)
def test_wrong_lists_are_explained(tiny, methods, message):
    with pytest.raises(ValueError, match=message):
        compare(methods, tiny)


def test_a_search_by_tasks_looks_at_validation_only(tiny):
    def watched(task):
        def split(name):
            seen.add(name)
            return task.split(name)

        return replace(task, split=split)

    seen = set()
    tasks = {name: watched(task) for name, task in tiny.tasks.items()}
    found = mk.search("task_arithmetic", tiny.base, tiny.experts, tasks, {"scale": (0, 1)}, 4, limit=20)
    assert seen == {"validation"}
    expected = evaluate(mk.merge(found.method, tiny.base, tiny.experts), tiny.tasks, split="validation", limit=20)
    assert found.score == expected["accuracy"].mean()


def test_a_method_that_takes_two_experts_is_refused_before_anything_is_run(tiny):
    with pytest.raises(ValueError, match="slerp merges exactly 2 experts; got 3"):
        compare(["average", "slerp"], tiny, progress=lambda done, total, text: pytest.fail("it began"))


def test_failures_are_read_off_the_table():
    rows = {"base": (0.5, 0.6), "individual": (0.9, 0.8), "a": (0.85, 0.5), "b": (0.3, 0.7), "c": (0.9, 0.9)}
    frame = pd.DataFrame(
        [
            (method, task, share, share - 0.06, share + 0.06)
            for method, shares in rows.items()
            for task, share in zip(("x", "y"), shares, strict=True)
        ],
        columns=["method", "task", "accuracy", "low", "high"],
    )
    found = failures(frame)
    assert list(found.index) == ["a", "b", "c"]
    assert found["worst"].tolist() == ["y", "x", "x"]
    assert found["loss"].tolist() == pytest.approx([0.3, 0.6, 0])
    assert found["below"].tolist() == [("y",), ("x",), ()]
    assert found["surely"].tolist() == [(), ("x",), ()]
