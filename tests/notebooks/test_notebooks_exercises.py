"""The checker of the exercises: right answers pass, every likely slip gets its own hint."""

import re

import pytest
import torch

from mergekit_nb.notebooks import exercises
from mergekit_nb.notebooks.exercises import check, feedback


@pytest.mark.parametrize(
    "answer",
    [
        lambda tau, kept: (tau @ kept) / (kept @ kept),
        lambda tau, kept: float((tau * kept).sum() / kept.square().sum()),
        lambda tau, kept: torch.linalg.lstsq(kept[:, None], tau[:, None]).solution,
    ],
)
def test_a_right_answer_is_right_however_it_is_written(answer):
    assert feedback(answer) == exercises.RIGHT


@pytest.mark.parametrize(("hint", "slip"), exercises.MISTAKES.items())
def test_every_foreseen_slip_gets_its_hint(hint, slip):
    assert feedback(slip) == hint


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda tau, kept: ..., "Not filled in yet"),
        (lambda tau, kept: None, "Not filled in yet"),
        (lambda tau: 1.0, "stopped with TypeError"),
        (lambda tau, kept: tau @ kept[:3], "stopped with RuntimeError"),
        (lambda tau, kept: tau / kept, r"One number is wanted; your function gave a tensor of shape \(40,\)"),
        (lambda tau, kept: "1", "your function gave str"),
        (lambda tau, kept: 1.0, r"Not yet. At your s = 1.000 the squared distance is"),
    ],
)
def test_other_answers_get_a_hint_and_never_an_exception(answer, words):
    assert re.search(words, feedback(answer))


def test_the_hint_of_a_wrong_number_points_to_a_nearer_one():
    said = feedback(lambda tau, kept: 1.0)
    there, then = said.split("distance is ")[1].split(";")[0], said.split("it is ")[1].rstrip(".")
    assert float(then) < float(there)


def test_check_prints_its_verdict(capsys):
    check(lambda tau, kept: ...)
    assert capsys.readouterr().out.strip() == exercises.TODO
