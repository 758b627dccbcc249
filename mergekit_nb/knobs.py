"""The methods' hyper-parameters as flags: names, help and values from the fields of the classes in `METHODS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mergekit_nb.methods import METHODS, resolve


def names() -> list[str]:
    """Every hyper-parameter of any method, once."""
    return list(dict.fromkeys(field.name for cls in METHODS.values() for field in fields(cls)))


def described(name: str) -> str:
    """Which methods have it, what it may be, and its default."""
    return "; ".join(
        f"{method}: {_allowed(cls, name)}" for method, cls in METHODS.items() if name in get_type_hints(cls)
    )


def parsed(method: str | None, texts: Mapping[str, str]) -> dict[str, Any]:
    """The values a user typed, in the types of that method's fields. What the method lacks is left for `resolve` to refuse.

    Raises:
        ValueError: a text is no such value; or there is no such method or hyper-parameter, or it is out of range.
    """
    if method is None:
        return {}
    hints = get_type_hints(METHODS[method]) if method in METHODS else {}
    options = {name: _value(name, text, hints.get(name, str)) for name, text in texts.items()}
    resolve(method, options)
    return options


def _allowed(cls: type, name: str) -> str:
    default = next(field.default for field in fields(cls) if field.name == name)
    knob = cls.knobs().get(name)
    kinds = _kinds(get_type_hints(cls)[name])
    if knob:
        each = ", or one per task" if _several(kinds) else ""
        usual = "none" if default is None else f"{default:g}"
        return f"{knob.unit}, {knob.low:g} to {knob.high:g}{each}, default {usual}"
    choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    said = (
        [" ".join(choices)]
        if choices
        else [
            "names" if kinds[0] == tuple[str, ...] else "one number per task" if _several(kinds) else kinds[0].__name__
        ]
    )
    return f"{' or '.join(said + ['none'] * (NoneType in kinds))}, default {'none' if default is None else default}"


def _kinds(hint: Any) -> tuple:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _several(kinds: tuple) -> Any:
    """The kind that holds several values, such as one number per task."""
    return next((kind for kind in kinds if get_origin(kind) is tuple), None)


def _value(name: str, text: str, hint: Any) -> Any:
    kinds = _kinds(hint)
    if NoneType in kinds and text.lower() == "none":
        return None
    try:
        if several := _several(kinds):
            parts = tuple(map(get_args(several)[0], text.split(",")))
            return parts if several is kinds[0] or len(parts) > 1 else parts[0]
        return kinds[0](text) if kinds[0] in (int, float) else text
    except ValueError:
        wanted = "numbers with commas between them" if _several(kinds) else "a number"
        raise ValueError(f"--{name.replace('_', '-')} takes {wanted}; got {text!r}") from None
