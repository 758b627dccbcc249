"""The sliders of every method: made from its class, they stand for a method object, and nothing out of range gets in."""

import ipywidgets
import pytest
import traitlets

from mergekit_nb import knobs
from mergekit_nb.methods import METHODS, Cabs, Lines, Pcb, Ties, Tsv
from mergekit_nb.widgets.sliders import Sliders, explained, meaning

TASKS = ("mnist", "kana", "emoji")
ALL = pytest.mark.parametrize("name", METHODS)


def others(name, field, about):
    """Some values the field may take, one of every kind, beside the defaults of the rest."""
    return [value for value in kinds(about) if allowed(METHODS[name], {field: value})]


def allowed(cls, options):
    """Some methods have rules between two fields, such as n < m."""
    try:
        return cls(**options)
    except ValueError:
        return None


def kinds(field):
    several = [(0.5, 1.0, 0.75)] if field.several and field.kind is float else []
    several += [("*.0.*", "*.1.*")] if field.several and field.kind is str else []
    one = [field.knob.low, field.knob.high] if field.knob else []
    if field.kind is bool:
        one = [True, False]
    elif not field.knob and field.single and not field.choices:
        one = [3] if field.kind is int else [0.125]
    return [*one, *several, *field.choices, *([None] if field.optional else [])]


@ALL
def test_every_hyper_parameter_has_a_named_row_that_stands_at_its_default(name):
    sliders = Sliders(name, TASKS)
    assert sliders.method == METHODS[name]()
    assert list(sliders.rows) == list(knobs.of(METHODS[name]))
    for field, row in sliders.rows.items():
        shown = [e.widget for e in row.editors.values() if e.widget.layout.display != "none"]
        assert len(shown) == 1
        label = shown[0].children[0].value if isinstance(shown[0], ipywidgets.HBox) else shown[0].description
        assert label == field


@ALL
def test_every_value_a_field_may_take_can_be_set_by_its_row_and_is_the_methods(name):
    sliders = Sliders(name, TASKS)
    for field, about in knobs.of(METHODS[name]).items():
        for value in others(name, field, about):
            sliders.rows[field].value = value
            expected = type(sliders.method)(**{n: row.value for n, row in sliders.rows.items()})
            assert sliders.problem.value == ""
            assert sliders.method == expected
            assert getattr(sliders.method, field) == value
        sliders.rows[field].value = about.default


@ALL
def test_a_method_that_is_set_moves_the_controls_and_comes_back_unchanged(name):
    for field, about in knobs.of(METHODS[name]).items():
        for value in others(name, field, about):
            method, sliders = METHODS[name](**{field: value}), Sliders(name, TASKS)
            sliders.method = method
            assert sliders.method is method
            assert sliders.rows[field].value == value
            assert sliders.rows[field].editors[sliders.rows[field].form.value].read() == value


@ALL
def test_what_lies_beyond_a_range_cannot_be_entered(name):
    sliders = Sliders(name, TASKS)
    for field, about in knobs.of(METHODS[name]).items():
        if not about.knob:
            continue
        sliders.rows[field].form.value = "one"
        control = sliders.rows[field].editors["one"].widget
        for far, end in ((-1e6, about.knob.low), (10**6, about.knob.high)):
            control.value = about.kind(far)
            assert sliders.rows[field].value == end
            refused = allowed(METHODS[name], {field: end}) is None
            assert bool(sliders.problem.value) == refused
        for box in sliders.rows[field].editors["each"].parts if "each" in sliders.rows[field].editors else ():
            box.value = 10**6
            assert box.value == about.knob.high
        sliders.rows[field].value = about.default


@ALL
def test_range_and_unit_are_the_knobs(name):
    for about in knobs.of(METHODS[name]).values():
        if about.knob:
            assert about.knob.unit in meaning(about)
            assert f"{about.knob.high:g}" in meaning(about)


def test_what_the_docstring_says_is_at_hand():
    assert (
        explained(Ties)["density"] == "the fraction of entries each task keeps, largest magnitudes first; 1 keeps all."
    )
    assert explained(Ties)["divide_by"].endswith("divides by the weights of those that agree (mergekit).")
    assert "scale" in explained(METHODS["dare"])
    assert "one number per task" in Sliders("ties", TASKS).rows["weights"].children[-1].value


def test_a_step_of_a_slider_is_a_round_number():
    sliders = Sliders("ties")
    control = sliders.rows["density"].editors["one"].widget
    assert (control.min, control.max, control.step) == (0, 1, 0.05)
    control.value = 0.15000000000000002
    assert sliders.method == Ties(density=0.15)


def test_a_slider_that_begins_a_hair_above_zero_counts_from_zero():
    sliders = Sliders("pcb")
    control = sliders.rows["ratio"].editors["one"].widget
    control.value = 0
    assert sliders.method.ratio == knobs.of(Pcb)["ratio"].knob.low
    assert control.value == sliders.method.ratio, "the slider says what the method has"
    control.value = 0.05
    assert sliders.method.ratio == 0.05


def test_one_number_per_task_has_a_box_for_each():
    sliders = Sliders(Pcb(), TASKS)
    row = sliders.rows["scale"]
    row.form.value = "each"
    assert [box.description for box in row.editors["each"].parts] == list(TASKS)
    row.editors["each"].parts[1].value = 2
    assert sliders.method.scale == (1.2, 2.0, 1.2)
    row.form.value = "one"
    assert sliders.method.scale == 1.2


def test_none_is_a_choice_where_the_field_takes_it():
    sliders = Sliders(Tsv(rank=0.25))
    row = sliders.rows["rank"]
    assert row.form.value == "one"
    row.form.value = "none"
    assert sliders.method == Tsv()
    row.form.value = "one"
    assert sliders.method == Tsv(rank=0.25), "the slider stands where it stood"


def test_one_change_is_told_once_and_a_method_that_is_set_moves_all_at_once():
    sliders, told = Sliders("ties", TASKS), []
    sliders.observe(lambda change: told.append(change["new"]), "method")
    sliders.rows["density"].editors["one"].widget.value = 0.5
    sliders.method = Ties(density=0.1, scale=0.3, elect="none", weights=(1, 2, 3))
    assert told == [Ties(density=0.5), Ties(density=0.1, scale=0.3, elect="none", weights=(1, 2, 3))]


def test_what_the_method_refuses_is_told_and_the_last_good_one_stays(monkeypatch):
    sliders = Sliders("cabs")

    def refuse(self):
        if self.n > self.m:
            raise ValueError("n < m, please")

    monkeypatch.setattr(Cabs, "__post_init__", refuse)
    before = sliders.method
    sliders.rows["m"].value = 8
    assert sliders.problem.value == "n &lt; m, please"
    assert sliders.method is before
    sliders.rows["n"].value = 2
    assert sliders.problem.value == ""
    assert (sliders.method.n, sliders.method.m) == (2, 8)


def test_another_methods_object_and_numbers_for_unknown_tasks_are_refused():
    with pytest.raises(traitlets.TraitError, match="the sliders of ties, not of lines"):
        Sliders("ties").method = Lines()
    with pytest.raises(ValueError, match="weights holds one number per task: these sliders were made without tasks="):
        Sliders(Ties(weights=(1, 2)))
    with pytest.raises(ValueError, match=r"weights has 2 numbers for 3 tasks \(mnist, kana, emoji\)"):
        Sliders(Ties(weights=(1, 2)), TASKS)
