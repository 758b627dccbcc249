"""The checkers of the family's exercises: right answers pass, likely slips get a hint, a contest is judged on validation."""

from types import SimpleNamespace

import pytest

import mergekit_nb as mk
from mergekit_nb.notebooks import exercises_family as family
from mergekit_nb.notebooks.exercises_family import check_method, check_scale, method_feedback, scale_feedback
from tests.evaluation.tiny_world import world


@pytest.mark.parametrize("answer", [lambda tasks: 1 / tasks, lambda tasks: float(1 / tasks) + 1e-12])
def test_the_right_scale_is_right(answer):
    assert scale_feedback(answer) == family.RIGHT


@pytest.mark.parametrize(("hint", "slip"), family.SLIPS.items())
def test_every_foreseen_slip_gets_its_hint(hint, slip):
    assert scale_feedback(slip) == hint


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda tasks: ..., "Not filled in yet"),
        (lambda tasks: None, "Not filled in yet"),
        (lambda: 1.0, "stopped with TypeError"),
        (lambda tasks: "1", "your function gave str"),
        (lambda tasks: 0.5, "for 3 experts your scale 0.5 gives another model"),
        (lambda tasks: 1e9, "for 2 experts your scale 1e"),
    ],
)
def test_other_answers_get_a_hint_and_never_an_exception(answer, words):
    assert words in scale_feedback(answer)


@pytest.fixture
def tiny():
    return world()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (..., "Not filled in yet"),
        ("ties", "A method object is wanted, such as mk.methods.Ties(density=0.3); this is str"),
        (mk.methods.Slerp(), "It cannot be merged: slerp merges exactly 2 experts"),
        (mk.methods.Emr(), "emr keeps something for each task"),
        (mk.methods.TaskArithmetic(scale=0.0), "Not better yet"),
    ],
)
def test_what_cannot_win_is_told_why(tiny, method, words):
    assert words in method_feedback(method, tiny, "task_arithmetic")


def test_the_contest_is_judged_on_validation_images(tiny):
    asked = []
    tasks = {}
    for name, task in tiny.tasks.items():
        spy = lambda which, task=task: asked.append(which) or task.split(which)  # noqa: E731
        tasks[name] = type(task)(**{**vars(task), "split": spy})
    spied = SimpleNamespace(base=tiny.base, experts=tiny.experts, tasks=tasks)
    said = method_feedback(mk.methods.Average(), spied, mk.methods.TaskArithmetic(scale=5.0))
    assert set(asked) == {"validation"}
    means = [
        mk.evaluate(mk.merge(m, tiny.base, tiny.experts), tiny.tasks, split="validation", limit=50)["accuracy"].mean()
        for m in ("average", mk.methods.TaskArithmetic(scale=5.0))
    ]
    assert said.startswith(f"On validation images: {means[0]:.1%}, task_arithmetic {means[1]:.1%}.")
    assert ("Better" in said) == (means[0] > means[1])


def test_checks_print_their_verdict(tiny, capsys):
    check_scale(lambda tasks: ...)
    check_method(..., tiny)
    assert capsys.readouterr().out.strip().splitlines() == [family.TODO] * 2
