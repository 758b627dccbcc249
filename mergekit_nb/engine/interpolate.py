"""Interpolation between models, tensor by tensor, where not all have the same tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mergekit_nb.progress import CancelFlag, Progress, ticker
from mergekit_nb.weights.match import wanted
from mergekit_nb.weights.source import Source, dtype_of, shape_of
from mergekit_nb.weights.source import open as open_source

OneSided = Literal["error", "keep_first", "keep_own"]
Branches = Mapping[str, float | Sequence[float]]


def interpolate(
    a: str | Path | Source | nn.Module,
    b: str | Path | Source | nn.Module,
    grid: Iterable[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    *,
    one_sided: OneSided = "error",
    branches: Branches | None = None,
    exclude: str | Iterable[str] | None = None,
    progress: Progress = False,
    cancel: CancelFlag | None = None,
) -> dict[float, dict[str, Tensor]]:
    """The models (1 - x) a + x b for every x of the grid: x -> state dict, in a's dtypes.

    Args:
        a, b: paths, mappings or modules.
        grid: 0 is a, 1 is b; numbers beyond go on in a straight line.
        one_sided: what becomes of tensors that only one model has, or has in another shape: "error"; "keep_first" takes
            a's, and leaves out what only b has (the authors' code); "keep_own" takes whichever is there, a's of two.
        branches: name pattern -> x for those tensors whatever the grid says; the first that fits counts.
        exclude: patterns of tensors that keep a's values, as do integer ones.

    Raises:
        ValueError: one-sided tensors under "error", all listed; a pattern that no tensor fits.

    Source: Shukor et al. 2023, "UnIVAL", arXiv:2307.16184, weight interpolation of models with different modalities.
    """
    grid = [float(x) for x in grid]
    if branches and (several := [p for p, x in branches.items() if not isinstance(x, int | float)]):
        raise ValueError(f"branches[{several[0]!r}]: between two models one number says how far to go to the second")
    pairs = {p: (1 - x, x) for p, x in (branches or {}).items()}
    found = {}
    with ticker(progress, len(grid), "interpolate", cancel) as tick:
        for x in grid:
            found[x] = blend({"a": a, "b": b}, (1 - x, x), one_sided=one_sided, branches=pairs, exclude=exclude)
            tick(1)
    return found


def blend(
    models: Mapping[str, str | Path | Source | nn.Module],
    weights: Sequence[float],
    *,
    one_sided: OneSided = "error",
    branches: Branches | None = None,
    exclude: str | Iterable[str] | None = None,
) -> dict[str, Tensor]:
    """The weighted sum of any number of models, as `interpolate`; the weights are used as given.

    Args:
        models: name -> model; the first gives dtypes, and the values of what is not blended.
        weights: one number per model; for a mean they add up to 1.
        branches: name pattern -> numbers in their place, one per model.

    Where tensors are excluded, or missing in some model, the authors' code adds the running value to itself (0.5, then
    0.5 * 1.3, …) where it means to keep it; here it is kept.

    Raises:
        ValueError: as `interpolate`; another number of weights than of models.
    """
    sources = {name: open_source(model) for name, model in models.items()}
    _check(sources, weights, one_sided, branches or {})
    one_sided_names = dict(_mismatches(sources))
    if one_sided_names and one_sided == "error":
        lines = "\n".join(f"  {name}: {said}" for name, said in one_sided_names.items())
        raise ValueError(
            f'these tensors are not in all models alike; one_sided="keep_first" or "keep_own" decides:\n{lines}'
        )
    made = {}
    for name in _names(sources, one_sided):
        first = next(source[name] for source in sources.values() if name in source).detach()
        blended = first.is_floating_point() and name not in one_sided_names and wanted(name, None, exclude)
        shares = _weights(name, weights, branches)
        made[name] = _sum([s[name] for s in sources.values()], shares) if blended else first.clone()
        if blended and not torch.isfinite(made[name].float()).all():
            raise ValueError(
                f"{name}: the sum is NaN or infinite; is it in one of {', '.join(sources)}, or a weight too large?"
            )
    return made


def _sum(tensors: list[Tensor], weights: Sequence[float]) -> Tensor:
    compute = torch.float64 if tensors[0].dtype == torch.float64 else torch.float32
    total = sum(weight * tensor.detach().to(compute) for weight, tensor in zip(weights, tensors, strict=True))
    return total.to(tensors[0].dtype)


def _weights(name: str, weights: Sequence[float], branches: Branches | None) -> Sequence[float]:
    return next((given for pattern, given in (branches or {}).items() if wanted(name, pattern, None)), weights)


def _names(sources: Mapping[str, Source], one_sided: OneSided) -> list[str]:
    first = list(next(iter(sources.values())))
    return (
        list(dict.fromkeys([*first, *(n for s in sources.values() for n in s)])) if one_sided == "keep_own" else first
    )


def _mismatches(sources: Mapping[str, Source]) -> Iterator[tuple[str, str]]:
    """Floating tensors that are not in all models, or not in one shape: name and what is wrong."""
    for name in dict.fromkeys(n for source in sources.values() for n in source):
        having = {model: source for model, source in sources.items() if name in source}
        if not any(dtype_of(source, name).is_floating_point for source in having.values()):
            continue
        shapes = {model: list(shape_of(source, name)) for model, source in having.items()}
        if len(having) < len(sources):
            yield name, f"only {', '.join(having)} has it"
        elif len({tuple(shape) for shape in shapes.values()}) > 1:
            yield name, ", ".join(f"{model} has shape {shape}" for model, shape in shapes.items())


def _check(sources: Mapping[str, Source], weights: Sequence[float], one_sided: OneSided, branches: Branches) -> None:
    if one_sided not in get_args(OneSided):
        raise ValueError(f"one_sided is one of {', '.join(get_args(OneSided))}; got {one_sided!r}")
    if not all(isfinite(weight) for given in (weights, *branches.values()) for weight in given):
        raise ValueError(f"weights are finite numbers; got {list(weights)}")
    for what, given in {"weights": weights, **{f"branches[{p!r}]": w for p, w in branches.items()}}.items():
        if len(given) != len(sources):
            raise ValueError(f"{what} has {len(given)} numbers for {len(sources)} models ({', '.join(sources)})")
    names = [name for source in sources.values() for name in source]
    for pattern in branches:
        if not any(wanted(name, pattern, None) for name in names):
            raise ValueError(f"branches: no tensor fits {pattern!r}; there is e.g. {names[0]!r}")
