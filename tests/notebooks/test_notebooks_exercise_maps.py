"""The checker of the maps: right answers pass, every likely slip gets its own hint."""

import re

import pytest
import torch

from mergekit_nb.notebooks import exercise_maps
from mergekit_nb.notebooks.exercise_maps import check, feedback


def answer(weight=lambda group: 1 / len(group), copy=lambda group: 1.0, offset=0):
    def maps(groups, features):
        merge, unmerge = torch.zeros(len(groups), features), torch.zeros(features, len(groups))
        for merged, group in enumerate(groups):
            members = [(feature + offset) % features for feature in group]
            merge[merged, members] = weight(group)
            unmerge[members, merged] = copy(group)
        return merge, unmerge

    return maps


def test_the_answer_of_the_notebook_is_right():
    assert feedback(answer()) == exercise_maps.RIGHT


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (lambda groups, features: ..., "Two tensors are wanted"),
        (answer(lambda _: ...), "Not filled in yet"),
        (answer(lambda _: 0.0, lambda _: 0.0), "Not filled in yet"),
        (answer(lambda _: 1.0), "M adds up"),
        (answer(lambda _: 0.5), r"M is not yet the mean over a group, for the groups \[\(0, 3\), \(1, 2, 4\)"),
        (answer(copy=lambda group: 1 / len(group)), "U copies"),
        (answer(offset=1), "U has the wrong members"),
        (lambda groups, features: answer()(groups, features)[::-1], r"M is \(6, 3\) and U \(3, 6\)"),
        (lambda groups: None, "stopped with TypeError"),
    ],
)
def test_slips_get_hints(maps, words):
    assert re.search(words, feedback(maps))


def test_check_prints_its_verdict(capsys):
    check(answer())
    assert capsys.readouterr().out.strip() == exercise_maps.RIGHT
