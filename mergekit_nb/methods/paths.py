"""Hyper-parameters by name, also of the parts of a composition: "density", "ties.density"."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from mergekit_nb.methods.base import Chain, Method


def get(method: Method, path: str) -> Any:
    """The value of a field: "density"; of a composition "ties.density".

    Raises:
        ValueError: there is none; the message names what there is.
    """
    if isinstance(method, Chain) and (rest := _inner(method.first, path)) is not None:
        return get(method.first, rest)
    if isinstance(method, Chain) and (rest := _inner(method.then, path)) is not None:
        return get(method.then, rest)
    known = [f"{part.label}.…" for part in (method.first, method.then)] if isinstance(method, Chain) else []
    known = known or [field.name for field in fields(method)]
    if path not in known:
        raise ValueError(f"{method.label} has no {path!r} to search; it has {', '.join(known)}")
    return getattr(method, path)


def put(method: Method, path: str, value: Any) -> Method:
    """The method with another value of that field, checked as always."""
    if not isinstance(method, Chain):
        return replace(method, **{path: value})
    if (rest := _inner(method.first, path)) is not None:
        return replace(method, first=put(method.first, rest, value))
    return replace(method, then=put(method.then, _inner(method.then, path), value))


def _inner(part: Method, path: str) -> str | None:
    """What is left of "ties.density" inside `Ties`; a composition passes the whole on to its parts."""
    if isinstance(part, Chain):
        return path if any(_inner(p, path) is not None for p in (part.first, part.then)) else None
    return path.removeprefix(f"{part.label}.") if path.startswith(f"{part.label}.") else None
