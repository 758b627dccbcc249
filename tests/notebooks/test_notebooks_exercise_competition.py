"""The checker of notebook 02's exercise: right answers pass, every likely slip gets its own hint."""

import re

import pytest

from mergekit_nb.notebooks import exercises_competition as exercise


def weights(score, cut, top):
    return ((score - cut) / (top - cut)).clamp(min=0)


def right(tau, score, cut, top):
    w = weights(score, cut, top)
    return (w * tau).sum() / w.sum().clamp(min=1e-12)


def test_the_answer_printed_in_the_notebook_is_right():
    assert exercise.feedback(right) == exercise.RIGHT
    assert exercise.feedback(lambda *column: float(right(*column))) == exercise.RIGHT


@pytest.mark.parametrize(("hint", "slip"), exercise.MISTAKES.items())
def test_every_foreseen_slip_gets_its_hint(hint, slip):
    assert exercise.feedback(slip) == hint


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda tau, score, cut, top: ..., re.escape(exercise.TODO)),
        (lambda tau: 1.0, "stopped with TypeError"),
        (lambda tau, score, cut, top: tau, "One number is wanted"),
        (lambda tau, score, cut, top: (w := weights(score, cut, top)) @ tau / w.sum(), "divide 0 by 0"),
        (lambda tau, score, cut, top: 0.0, "Not yet. For tau = "),
    ],
)
def test_other_answers_get_a_hint_and_never_an_exception(answer, words):
    assert re.search(words, exercise.feedback(answer))


def test_check_prints_its_verdict(capsys):
    exercise.check(right)
    assert capsys.readouterr().out.strip() == exercise.RIGHT
