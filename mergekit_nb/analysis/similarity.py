"""How alike models, or their task vectors, are: cosine, sign conflict, L2; per tensor, per layer, whole model."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, product
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from mergekit_nb.analysis.names import by_layer, floating_names
from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.source import Source, open

By = Literal["model", "layer", "tensor"]
Of = Literal["weights", "task vectors"]
COLUMNS = ["a", "b", "scope", "cosine", "sign_conflict", "l2", "n", "of"]


class Comparison(NamedTuple):
    """Some named sources, the pairs of names to compare among them, and the tensors to look at (None: all)."""

    sources: Mapping[str, Source]
    pairs: list[tuple[str, str]]
    only: list[str] | None = None


def similarity(
    a: Source | Mapping[str, Source] | Merged,
    b: Source | Mapping[str, Source] | None = None,
    *,
    base: Source | None = None,
    by: By = "model",
    of: Of | None = None,
) -> pd.DataFrame:
    """Compare models pair by pair; one row for each pair and scope.

    Args:
        a: one model (anything `open` takes), several by name, or a `Merged`. Several alone: every pair of them.
        b: one model or several: every one of `a` against every one of `b`. With a `Merged`: the experts; each task's
            merged weights are compared with that task's expert, on the tensors that were merged.
        base: what the models were fine-tuned from; a `Merged` brings its own.
        by: a row for the whole "model", for each "layer", or for each "tensor".
        of: "task vectors" (model minus base; the default where there is a base) or "weights" (the default elsewhere).

    Returns:
        Columns a, b, scope ("model" or the layer's or tensor's name), cosine in [-1, 1] (NaN where a side is all zero),
        sign_conflict in [0, 1] (share of all n entries on which the two have opposite signs; a zero conflicts with
        nothing), l2 in weight units, n (entries compared), of. Sums are float64; integer tensors are left out.

    Raises:
        ValueError: the models differ in tensor names or shapes (all differences are listed), or a base is missing.

    Source: the quantities of Huang et al. 2024, EMR-Merging, arXiv:2405.17461, Fig. 4, which compares full weights.
    """
    if by not in ("model", "layer", "tensor"):
        raise ValueError(f'by is "model", "layer" or "tensor"; got {by!r}')
    merged = a if isinstance(a, Merged) else b if isinstance(b, Merged) else None
    if base is None and merged is not None and merged.vector:  # loaded without its base it has no vector
        base = merged.base
    of = _chosen(of, base)
    comparisons = _against_experts(merged, a if merged is b else b) if merged is not None else _pairs(a, b)
    rows = [row for each in comparisons for row in _rows(each, base, by, of)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _chosen(of: Of | None, base: Source | None) -> Of:
    if of not in (None, "weights", "task vectors"):
        raise ValueError(f'of is "weights" or "task vectors"; got {of!r}')
    if of == "task vectors" and base is None:
        raise ValueError("task vectors are differences from a base: pass base=, or compare of='weights'")
    return of or ("weights" if base is None else "task vectors")


def _named(models: Source | Mapping[str, Source], name: str) -> dict[str, Source]:
    """Several models, opened; one model under the given name."""
    if not isinstance(models, Mapping):
        return {name: open(models)}
    if not models:
        raise ValueError(f"{name} is empty: similarity needs a model (tensors by name) or models by name")
    one = isinstance(models[next(iter(models))], Tensor)
    return {name: models} if one else {key: open(model) for key, model in models.items()}


def _pairs(a: Source | Mapping[str, Source], b: Source | Mapping[str, Source] | None) -> Iterator[Comparison]:
    left = _named(a, "a")
    if b is None:
        if len(left) < 2:
            raise ValueError("one model has nothing to be compared with: pass a second one, or several by name")
        yield Comparison(left, list(combinations(left, 2)))
        return
    right = _named(b, "b")
    clash = [name for name in right if name in left and right[name] is not left[name]]
    if clash:
        raise ValueError(f"a and b both have a model named {', '.join(clash)}: rename one, rows would be ambiguous")
    yield Comparison(left | right, list(product(left, right)))


def _against_experts(merged: Merged, experts: Mapping[str, Source] | None) -> Iterator[Comparison]:
    """Each task's merged weights beside its expert, one task at a time: only one merged model is in memory."""
    if not experts or not isinstance(experts, Mapping) or isinstance(experts[next(iter(experts))], Tensor):
        raise ValueError("a merged model is compared with its experts: pass them by task name, {task: model}")
    experts = _named(experts, "experts")
    unknown = [task for task in experts if task not in merged.tasks]
    if unknown:
        raise ValueError(f"no task {', '.join(unknown)} in this merge; it has {', '.join(merged.tasks)}")
    only = list(merged.vector) or None
    floating_names(experts, merged.base, only)
    for task, expert in experts.items():
        yield Comparison({"merged": merged.weights(task), task: expert}, [("merged", task)], only)


def _rows(comparison: Comparison, base: Source | None, by: By, of: Of) -> Iterator[tuple]:
    """Sums over tensors add up, so a layer's or a model's row never needs a flat copy of it."""
    sums: dict[tuple[str, str, str], np.ndarray] = {}
    names = floating_names(comparison.sources, base, comparison.only)
    scopes = {
        "model": dict.fromkeys(names, "model"),
        "layer": by_layer(names),
        "tensor": {name: name for name in names},
    }
    for name, scope in scopes[by].items():
        vectors = _vectors(comparison.sources, name, base if of == "task vectors" else None)
        for a, b in comparison.pairs:
            key = (a, b, scope)
            sums[key] = sums.get(key, 0) + _sums(vectors[a], vectors[b])
    by_pair = sorted(sums, key=lambda key: comparison.pairs.index(key[:2]))
    return ((*key, *_scores(sums[key]), of) for key in by_pair)


def _vectors(sources: Mapping[str, Source], name: str, base: Source | None) -> dict[str, np.ndarray]:
    flat = {key: source[name].detach().cpu().double().numpy().ravel() for key, source in sources.items()}
    if base is None:
        return flat
    origin = base[name].detach().cpu().double().numpy().ravel()
    return {key: vector - origin for key, vector in flat.items()}


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x·y, x·x, y·y, conflicts, squared distance, entries. Signs are multiplied, not values: products may underflow."""
    conflicts = np.count_nonzero(np.sign(x) * np.sign(y) < 0)
    gap = x - y
    return np.array([x @ y, x @ x, y @ y, conflicts, gap @ gap, x.size])


def _scores(sums: np.ndarray) -> Iterable[float]:
    """Cosine, sign conflict, L2 distance and the number of entries, from the six sums."""
    dot, xx, yy, conflicts, squared_gap, n = sums
    length = np.sqrt(xx) * np.sqrt(yy)
    cosine = np.clip(dot / length, -1, 1) if length else np.nan
    return cosine, conflicts / n if n else np.nan, np.sqrt(squared_gap), int(n)
