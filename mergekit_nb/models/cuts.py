"""Where a network can be cut in two: after a moment at which one value is all that is still needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from mergekit_nb.models.trace import Trace
from mergekit_nb.weights.axes import Space

Uses = Mapping[str, tuple[int, int]]  # a tensor's name -> the first and the last step that uses it


def cuts(trace: Trace, spaces: Sequence[Space], carriers: Sequence[Set[int]]) -> tuple[Space, ...]:
    """The same spaces, those marked as boundaries at which the network can be cut.

    Args:
        spaces: in order.
        carriers: for each of them, the numbers of the values that carry it.
    """
    uses = _uses(trace)
    marked = set()
    for step, value in necks(trace):
        carried = [value in each for each in carriers]
        sides = [_side(space, uses, step, here) for space, here in zip(spaces, carried, strict=True)]
        before = sides.count("before")
        if before and None not in sides and "before" not in sides[before:] and carried[before - 1]:
            marked.add(before - 1)
    return tuple(replace(space, boundary=at in marked) for at, space in enumerate(spaces))


def necks(trace: Trace) -> Iterator[tuple[int, int]]:
    """Steps after which a single value is still needed, with the number of that value."""
    last = {value.number: at for at, step in enumerate(trace.steps) for value in step.reads}
    last |= {value.number: len(trace.steps) for value in trace.outputs}
    made = {value.number for step in trace.steps for value in step.makes}
    alive = {number for number in last if number not in made}
    for at, step in enumerate(trace.steps):
        alive |= {value.number for value in step.makes}
        alive = {number for number in alive if last.get(number, -1) > at}
        if len(alive) == 1 and at + 1 < len(trace.steps):
            yield at, next(iter(alive))


def _uses(trace: Trace) -> Uses:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, step in enumerate(trace.steps):
        for name in step.weights:
            first.setdefault(name, at)
            last[name] = at
    # tied tensors have one value, which goes by one of their names
    return {alias: (first[name], last[name]) for alias, value in trace.parameters.items() for name in value.weights}


def _side(space: Space, uses: Uses, step: int, carried: bool) -> str | None:
    """Whether a space is written before that step or after it; None where the cut would go through it."""
    spans = [(port.role, *uses[port.tensor]) for port in space.ports]
    if any(first <= step < last for _, first, last in spans):
        return None
    early = [role for role, _, last in spans if last <= step]
    late = [role for role, first, _ in spans if first > step]
    if not late:
        return "before"
    if not early:
        return "after"
    return "before" if carried and set(late) == {"reads"} else None
