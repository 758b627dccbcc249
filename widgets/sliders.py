"""Sliders of any method, from its class: range, step, unit and default are those of its `Knob`s."""

import re
from collections.abc import Callable, Sequence
from html import escape
from inspect import getdoc
from typing import Any, NamedTuple

import ipywidgets
import traitlets

from mergekit_nb import knobs
from mergekit_nb.knobs import Field
from mergekit_nb.methods import Method, resolve

WHOLE = 2**31 - 1  # the largest whole number a box takes
LABEL, LONG, SHORT = {"description_width": "90px"}, {"width": "440px"}, {"width": "260px"}
LINE = {"flex": "1 1 100%", "flex_flow": "row wrap", "align_items": "center"}  # numbers have a line of their own,
FLOW = {"flex": "0 0 auto", "align_items": "center"}  # words stand side by side
FORMS = {"one": "a number", "each": "one per task", "none": "none"}
DIGITS = 9  # of a slider's number: it counts in steps, 0.15000000000000002 among them


class Sliders(ipywidgets.Box):
    """A labelled control for every hyper-parameter of one method; no number out of its range can be entered.

    Args:
        method: a name from `mk.METHODS`, a class, or an object whose values are shown first.
        tasks: names of the tasks, for what may be one number per task; without them that is not offered.

    Attributes:
        method: the method object that the controls stand for. Observe it; set it to another of its class, and they move.
        rows: hyper-parameter -> its row of controls; `rows["density"].value = 0.3` is what a hand would do.
    """

    method = traitlets.Instance(Method)

    def __init__(self, method: str | type[Method] | Method, tasks: Sequence[str] = ()):
        method = resolve(method)
        told = explained(type(method))
        self.rows = {n: Row(n, field, tasks, told.get(n, "")) for n, field in knobs.of(type(method)).items()}
        self.problem = ipywidgets.HTML()
        self.problem.add_class("mk-problem")
        self._following = False
        super().__init__([*self.rows.values(), self.problem], method=method, layout={"flex_flow": "row wrap"})
        self.add_class("mk-sliders")
        self._show()
        self.observe(self._show, "method")
        for row in self.rows.values():
            row.observe(self._take, "value")

    @traitlets.validate("method")
    def _same_class(self, proposal: dict) -> Method:
        new, old = proposal["value"], self._trait_values.get("method")
        if old is not None and type(new) is not type(old):
            raise traitlets.TraitError(f"these are the sliders of {old.label}, not of {new.label}")
        return new

    def _take(self, _: dict) -> None:
        """What the controls say becomes the method. What it refuses is told, and the last good one stays."""
        if self._following:
            return
        try:
            self.method = type(self.method)(**{name: row.value for name, row in self.rows.items()})
            self.problem.value = ""
        except ValueError as error:
            self.problem.value = escape(str(error))

    def _show(self, _: dict | None = None) -> None:
        self._following = True  # what lies between one control's move and the next is no method anybody chose
        try:
            for name, row in self.rows.items():
                row.value = getattr(self.method, name)
        finally:
            self._following = False


class Editor(NamedTuple):
    """A control for one form of a value."""

    widget: ipywidgets.Widget
    parts: tuple[ipywidgets.Widget, ...]  # whose values make the value
    read: Callable[[], Any]
    write: Callable[[Any], None]


class Row(ipywidgets.HBox):
    """One hyper-parameter: its control, a choice of form where it may be none or one per task, and what it means.

    Attributes:
        value: what the field takes: a number, a word, a tuple, or None.
    """

    value = traitlets.Any()

    def __init__(self, name: str, field: Field, tasks: Sequence[str] = (), help: str = ""):
        self.name, self.editors, self._moving = name, _editors(name, field, tasks), False
        forms = [(FORMS[form], form) for form in self.editors]
        self.form = ipywidgets.Dropdown(
            options=forms, description="as", style={"description_width": "20px"}, layout={"width": "150px"}
        )
        self.form.layout.display = "" if len(forms) > 1 else "none"
        self.form.add_class("mk-form")
        unit = ipywidgets.HTML(f"<span title='{escape(help, quote=True)}'>{escape(meaning(field))}</span>")
        unit.add_class("mk-unit")
        super().__init__([*(editor.widget for editor in self.editors.values()), self.form, unit])
        self.layout = LINE if field.knob or len(forms) > 1 else FLOW
        self.add_class(f"mk-knob-{name}")
        self._offer()
        self.value = self.editors[self.form.value].read()
        self.observe(self._write, "value")
        for part in (self.form, *(part for editor in self.editors.values() for part in editor.parts)):
            part.observe(self._read, "value")

    def _read(self, _: dict) -> None:
        self._offer()
        if not self._moving:
            self.value = self.editors[self.form.value].read()

    def _write(self, change: dict) -> None:
        form = self._form_of(change["new"])
        if form not in self.editors:
            raise ValueError(f"{self.name} holds one number per task: these sliders were made without tasks=")
        self._moving = True
        try:
            self.editors[form].write(change["new"])
            self.form.value = form
        finally:
            self._moving = False

    def _form_of(self, value: Any) -> str:
        form = "none" if value is None else "each" if isinstance(value, tuple) else "one"
        return self.form.value if form == "none" and form not in self.editors else form  # a menu has a word for none

    def _offer(self) -> None:
        """Show the control of the form that was chosen."""
        for form, editor in self.editors.items():
            editor.widget.layout.display = "" if form == self.form.value else "none"


def meaning(field: Field) -> str:
    """Unit and range, for the eye."""
    if field.knob:
        return f"{field.knob.unit}, {field.knob.low:g} to {field.knob.high:g}"
    return "one number per task" if field.several and field.kind is not str else ""


def explained(method: type[Method]) -> dict[str, str]:
    """Hyper-parameter -> what the method's docstring says of it."""
    doc = getdoc(method) or ""
    section = doc.partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}


def _editors(name: str, field: Field, tasks: Sequence[str]) -> dict[str, Editor]:
    """One for each form the value may take, the default's first."""
    if field.kind is str and field.several:
        return {"each": _names(name)}
    if field.choices or field.kind is bool:
        return {"one": _single(_choice(name, field))}
    made = {"one": _single(_number(name, field), field)} if field.single else {}
    if field.optional:
        made["none"] = _none(name)
    if field.several and tasks:
        made["each"] = _per_task(name, field, tasks)
    return made


def _single(control: ipywidgets.Widget, field: Field | None = None) -> Editor:
    def read() -> Any:
        return _within(control.value, field) if field else control.value

    return Editor(control, (control,), read, lambda value: setattr(control, "value", value))


def _choice(name: str, field: Field) -> ipywidgets.Widget:
    if field.kind is bool:
        return ipywidgets.Checkbox(field.default, description=name, style=LABEL, layout=SHORT)
    words = [*field.choices, *([None] if field.optional and None not in field.choices else [])]
    options = [("none" if word is None else str(word), word) for word in words]
    return ipywidgets.Dropdown(options=options, value=field.default, description=name, style=LABEL, layout=SHORT)


def _number(name: str, field: Field) -> ipywidgets.Widget:
    """A slider where there is a range, else a box."""
    look = {"description": name, "style": LABEL, "layout": LONG, "continuous_update": False}
    if field.knob:
        cls = ipywidgets.IntSlider if field.kind is int else ipywidgets.FloatSlider
        form = {} if field.kind is int else {"readout_format": ".4"}
        return cls(value=_start(field), min=_floor(field), max=field.knob.high, step=field.knob.step, **form, **look)
    look["layout"] = SHORT
    if field.kind is int:
        return ipywidgets.BoundedIntText(value=field.default, min=0, max=WHOLE, **look)
    return ipywidgets.FloatText(value=field.default, **look)


def _per_task(name: str, field: Field, tasks: Sequence[str]) -> Editor:
    boxes = tuple(_box(task, field) for task in tasks)
    label = ipywidgets.Label(name, layout={"width": LABEL["description_width"]})
    widget = ipywidgets.HBox([label, *boxes], layout={"flex_flow": "row wrap"})

    def write(values: Sequence[float]) -> None:
        if len(values) != len(boxes):
            raise ValueError(f"{name} has {len(values)} numbers for {len(tasks)} tasks ({', '.join(tasks)})")
        for box, value in zip(boxes, values, strict=True):
            box.value = value

    return Editor(widget, boxes, lambda: tuple(box.value for box in boxes), write)


def _box(task: str, field: Field) -> ipywidgets.Widget:
    look = {"description": task, "style": {"description_width": "70px"}, "layout": {"width": "150px"}}
    if field.knob:
        span = {"min": field.knob.low, "max": field.knob.high, "step": field.knob.step}
        return ipywidgets.BoundedFloatText(value=_start(field), **span, **look)
    return ipywidgets.FloatText(value=1.0, step=0.1, **look)


def _none(name: str) -> Editor:
    shown = ipywidgets.Text("none", disabled=True, description=name, style=LABEL, layout=LONG)
    return Editor(shown, (), lambda: None, lambda _: None)


def _names(name: str) -> Editor:
    box = ipywidgets.Text(
        description=name, placeholder="none; or names with commas", continuous_update=False, style=LABEL, layout=LONG
    )

    def read() -> tuple[str, ...] | None:
        return tuple(word.strip() for word in box.value.split(",") if word.strip()) or None

    return Editor(box, (box,), read, lambda value: setattr(box, "value", ", ".join(value or ())))


def _start(field: Field) -> float:
    """Where a slider stands before anything is chosen: the default, or the low end where that is none."""
    return field.default if isinstance(field.default, int | float) else max(field.knob.low, 0)


def _floor(field: Field) -> float:
    """A slider counts its steps from its low end: from 0 where the range begins a hair above it."""
    low, step = field.knob.low, field.knob.step
    return 0.0 if 0 < low < step else low


def _within(value: float, field: Field) -> float:
    if not field.knob or field.kind is int:
        return value
    return min(max(round(value, DIGITS), field.knob.low), field.knob.high)
