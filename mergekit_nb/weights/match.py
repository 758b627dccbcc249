"""Which tensors of base and experts are merged, and what becomes of the others. All that is wrong is said at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from mergekit_nb.weights.source import Checkpoint, Source, dtype_of, shape_of

Unmatched = Literal["error", "base", "own", "mean"]
LISTED = 12  # mismatches shown before "and n more"


@dataclass(frozen=True)
class Match:
    """What is done with every tensor name.

    Attributes:
        merged: floating tensors that all models share, in the base's order; of tied ones the first name.
        aliases: other names of a merged tensor -> the name it is merged under.
        kept: names whose value is the base's (integer buffers, tensors left out).
        own: names each task takes from its own expert.
        mean: names that are the plain mean of the experts that have them.
    """

    merged: tuple[str, ...]
    aliases: dict[str, str]
    kept: tuple[str, ...]
    own: tuple[str, ...]
    mean: tuple[str, ...]


def match(
    base: Source,
    experts: Mapping[str, Source],
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    unmatched: Unmatched = "error",
) -> Match:
    """Sort the tensor names of base and experts.

    Args:
        include, exclude: patterns for tensor names, globs or regular expressions that fit the whole name; what they
            leave out keeps the base's value, or each expert's own with `unmatched="own"`.
        unmatched: for tensors that not all models have in one shape: "error"; "base" keeps the base's; "own" takes each
            expert's; "mean" averages the experts where their shapes agree.

    Raises:
        ValueError: mismatches under "error", all listed; nothing left to merge.
    """
    if unmatched not in get_args(Unmatched):
        raise ValueError(f"unmatched is one of {', '.join(get_args(Unmatched))}; got {unmatched!r}")
    _check_patterns("include", include)
    _check_patterns("exclude", exclude)
    aliases = tied(base, experts)
    names = _names(base, experts)
    chosen = {name: None for name in names if wanted(name, include, exclude)}
    problems = {name: said for name in chosen if name not in aliases and (said := _mismatch(name, base, experts))}
    if problems and unmatched == "error":
        raise ValueError(_report(problems))
    floating = [
        n
        for n in base
        if n in chosen and n not in problems and n not in aliases and dtype_of(base, n).is_floating_point
    ]
    if not floating:
        raise ValueError(_nothing(base, include, exclude, problems))
    merged = set(floating)
    left = [n for n in names if n not in merged and n not in aliases]
    return Match(
        tuple(floating),
        {name: to for name, to in aliases.items() if to in merged},
        tuple(n for n in left if n in base),
        tuple(n for n in left if unmatched == "own" and _own(n, base, experts, chosen, problems)),
        tuple(n for n in left if unmatched == "mean" and n in problems and _same_shape(n, experts)),
    )


def _check_patterns(key: str, patterns: object) -> None:
    """Refuse what is no pattern, and a generator, which is empty after the first name."""
    listed = () if patterns is None else patterns
    if not isinstance(listed, Collection) or not all(isinstance(pattern, str) for pattern in listed):
        raise TypeError(f"{key} is a pattern for tensor names, or a list of them; got {patterns!r}")


def wanted(name: str, include: str | Iterable[str] | None, exclude: str | Iterable[str] | None) -> bool:
    """Whether the patterns let this tensor be merged."""
    return (include is None or _fits(name, include)) and (exclude is None or not _fits(name, exclude))


def tied(base: Source, experts: Mapping[str, Source]) -> dict[str, str]:
    """Names that share their memory with an earlier name in the base, and nowhere contradict it: alias -> first name."""
    if isinstance(base, Checkpoint):
        return {}  # safetensors stores no tensor twice
    first: dict[tuple, str] = {}
    aliases = {}
    for name in base:
        tensor = base[name]
        key = (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        to = first.setdefault(key, name)
        if to != name and tensor.numel() and all(_agree(expert, name, to) for expert in experts.values()):
            aliases[name] = to
    return aliases


def _agree(expert: Source, name: str, to: str) -> bool:
    if name not in expert or to not in expert:
        return to in expert
    one, other = expert[name], expert[to]
    return one.shape == other.shape and (one.data_ptr() == other.data_ptr() or bool((one == other).all()))


def _names(base: Source, experts: Mapping[str, Source]) -> list[str]:
    return list(dict.fromkeys([*base, *(name for expert in experts.values() for name in expert)]))


def _fits(name: str, patterns: str | Iterable[str]) -> bool:
    return any(_fits_one(name, p) for p in ([patterns] if isinstance(patterns, str) else patterns))


def _fits_one(name: str, pattern: str) -> bool:
    if fnmatchcase(name, pattern):
        return True
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:  # a glob like *.bias is no regular expression
        return False


def _mismatch(name: str, base: Source, experts: Mapping[str, Source]) -> str | None:
    if not any(dtype_of(source, name).is_floating_point for source in (base, *experts.values()) if name in source):
        return None  # integer buffers are the base's, whoever else has them
    lacking = [task for task, expert in experts.items() if name not in expert]
    if name not in base:
        return f"the base lacks it, {_list([t for t in experts if t not in lacking])} has it"
    if lacking:
        return f"{_list(lacking)} lacks it"
    shape, floating = shape_of(base, name), dtype_of(base, name).is_floating_point
    for task, expert in experts.items():
        if (found := shape_of(expert, name)) != shape:
            return f"base has shape {list(shape)}, {task} has {list(found)}"
        if dtype_of(expert, name).is_floating_point != floating:
            return f"base is {dtype_of(base, name)}, {task} is {dtype_of(expert, name)}; turn both into floating point first"
    return None


def _own(
    name: str, base: Source, experts: Mapping[str, Source], chosen: dict[str, None], problems: dict[str, str]
) -> bool:
    floating = name not in base or dtype_of(base, name).is_floating_point
    return (name in problems or (name not in chosen and floating)) and any(name in e for e in experts.values())


def _same_shape(name: str, experts: Mapping[str, Source]) -> bool:
    having = [e for e in experts.values() if name in e]
    return len({shape_of(e, name) for e in having}) == 1 and all(dtype_of(e, name).is_floating_point for e in having)


def _report(problems: dict[str, str]) -> str:
    lines = [f"  {name}: {said}" for name, said in list(problems.items())[:LISTED]]
    more = [f"  … and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
    head = f"base and experts differ in {len(problems)} tensor{'s' if len(problems) > 1 else ''}:"
    mend = 'are they the same architecture? unmatched="base", "own" or "mean" says what to do with these tensors'
    return "\n".join([head, *lines, *more, mend])


def _nothing(base: Source, include, exclude, problems: dict[str, str]) -> str:
    if len(base) == 0:
        return "the base has no tensors"
    if include is not None or exclude is not None:
        return f"include={include!r} and exclude={exclude!r} leave nothing to merge; the base has e.g. {next(iter(base))!r}"
    if problems:
        return f"base and experts share no tensor of the same name and shape (e.g. {next(iter(problems.items()))[0]!r}): are they the same architecture?"
    return "all tensors are integers: quantised weights cannot be merged; dequantise them to floating point first"


def _list(tasks: list[str]) -> str:
    return ", ".join(tasks)
