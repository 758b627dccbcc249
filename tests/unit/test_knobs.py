"""What a hyper-parameter may be, as the command line and the sliders read it off the classes."""

from __future__ import annotations

import pytest

from mergekit_nb import knobs
from mergekit_nb.methods import METHODS


@pytest.mark.parametrize("name", METHODS)
def test_every_default_is_what_its_field_says(name):
    for field in knobs.of(METHODS[name]).values():
        if field.default is None:
            assert field.optional
        elif isinstance(field.default, tuple):
            assert field.several
        else:
            assert field.single
            assert isinstance(field.default, field.kind)
        if field.choices:
            assert field.default in (*field.choices, None)


@pytest.mark.parametrize(
    ("method", "name", "said"),
    [
        ("ties", "density", (float, False, True, False)),
        ("ties", "weights", (float, True, False, True)),
        ("pcb", "scale", (float, False, True, True)),
        ("pcb", "q", (float, True, True, False)),
        ("dare", "rescale", (str, True, True, False)),
        ("dare", "seed", (int, False, True, False)),
        ("lines", "blocks", (str, True, False, True)),
        ("tsv", "whiten", (bool, False, True, False)),
    ],
)
def test_the_kinds_of_fields_are_told_apart(method, name, said):
    field = knobs.of(METHODS[method])[name]
    assert (field.kind, field.optional, field.single, field.several) == said


@pytest.mark.parametrize(
    ("method", "texts", "values"),
    [
        ("tsv", {"whiten": "false"}, {"whiten": False}),
        ("tsv", {"whiten": "True", "rank": "none"}, {"whiten": True, "rank": None}),
        ("pcb", {"scale": "0.5", "q": "0.01"}, {"scale": 0.5, "q": 0.01}),
        ("pcb", {"scale": "0.5,1"}, {"scale": (0.5, 1.0)}),
        ("ties", {"weights": "1"}, {"weights": (1.0,)}),
        ("lines", {"blocks": "*.0.*,*.1.*"}, {"blocks": ("*.0.*", "*.1.*")}),
    ],
)
def test_what_is_typed_becomes_the_fields_own_type(method, texts, values):
    assert knobs.parsed(method, texts) == values


@pytest.mark.parametrize(
    ("method", "texts", "told"),
    [
        ("tsv", {"whiten": "no"}, "--whiten takes true or false; got 'no'"),
        ("dare", {"seed": "1.5"}, "--seed takes a whole number; got '1.5'"),
        ("ties", {"weights": "1;2"}, "--weights takes numbers with commas between them; got '1;2'"),
    ],
)
def test_what_it_is_not_is_refused_in_one_sentence(method, texts, told):
    with pytest.raises(ValueError, match="^" + told.replace(".", r"\.")):
        knobs.parsed(method, texts)
