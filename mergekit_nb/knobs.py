"""The methods' hyper-parameters as flags and sliders: names, help and values from the fields of the classes in `METHODS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mergekit_nb.methods import METHODS, Knob, Method, resolve

_WANTED = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Field:
    """What one hyper-parameter of one method may be.

    Attributes:
        default: its value where none is given.
        kind: of a value, or of each of several: int, float, bool or str.
        knob: range, unit and step; None for what has none.
        choices: the words it may be; () where it is not one of a few.
        optional: whether it may be None.
        single, several: whether it may be one value, or a tuple of them (one number per task, or names).
    """

    default: Any
    kind: type
    knob: Knob | None
    choices: tuple
    optional: bool
    single: bool
    several: bool


def of(method: type[Method]) -> dict[str, Field]:
    """The hyper-parameters of a method, in the order of its fields."""
    hints, knobs = get_type_hints(method), method.knobs()
    return {field.name: _field(field.default, hints[field.name], knobs.get(field.name)) for field in fields(method)}


def names() -> list[str]:
    """Every hyper-parameter of any method, once."""
    return list(dict.fromkeys(name for cls in METHODS.values() for name in of(cls)))


def described(name: str) -> str:
    """Which methods have it, what it may be, and its default."""
    having = {method: of(cls) for method, cls in METHODS.items()}
    return "; ".join(f"{method}: {_allowed(found[name])}" for method, found in having.items() if name in found)


def parsed(method: str | None, texts: Mapping[str, str]) -> dict[str, Any]:
    """The values a user typed, in the types of that method's fields. What the method lacks is left for `resolve` to refuse.

    Raises:
        ValueError: a text is no such value; or there is no such method or hyper-parameter, or it is out of range.
    """
    if method is None:
        return {}
    known = of(METHODS[method]) if method in METHODS else {}
    options = {name: _value(name, text, known[name]) if name in known else text for name, text in texts.items()}
    resolve(method, options)
    return options


def _field(default: Any, hint: Any, knob: Knob | None) -> Field:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    choices = tuple(choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind))
    tuples = [kind for kind in kinds if get_origin(kind) is tuple]
    singles = [kind for kind in kinds if kind is not NoneType and kind not in tuples]
    kind = type(choices[0]) if choices else (singles or [get_args(tuples[0])[0]])[0]
    return Field(default, kind, knob, choices, NoneType in kinds, bool(singles), bool(tuples))


def _allowed(field: Field) -> str:
    if field.knob:
        each = ", or one per task" if field.several else ""
        usual = "none" if field.default is None else f"{field.default:g}"
        return f"{field.knob.unit}, {field.knob.low:g} to {field.knob.high:g}{each}, default {usual}"
    several = "names" if field.kind is str else "one number per task"
    said = " ".join(map(str, field.choices)) or (several if field.several else field.kind.__name__)
    none = " or none" if field.optional else ""
    return f"{said}{none}, default {'none' if field.default is None else field.default}"


def _value(name: str, text: str, field: Field) -> Any:
    if field.optional and text.lower() == "none":
        return None
    try:
        if field.several:
            parts = tuple(map(field.kind, text.split(",")))
            return parts if len(parts) > 1 or not field.single else parts[0]
        if field.kind is bool:
            return ("false", "true").index(text.lower()) == 1
        return field.kind(text) if field.kind in (int, float) else text
    except ValueError:
        wanted = "numbers with commas between them" if field.several else _WANTED[field.kind]
        raise ValueError(f"--{name.replace('_', '-')} takes {wanted}; got {text!r}") from None
