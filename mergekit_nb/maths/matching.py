"""Which features of several models become one: ZipIt!'s greedy matching, and the baselines it is measured against.

A feature has a number: model 0's are 0 .. c-1, model 1's c .. 2c-1, and so on. All matchings give a `Zip`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths import zipping

Mode = Literal["guarded", "official"]
EPSILON = 1e-5  # what the authors add to the size of a group before they divide by it


@dataclass(frozen=True)
class Zip:
    """Groups of features, and the two maps that go with them.

    Attributes:
        groups: for each merged feature the numbers of those it is made of, ascending.
        merge: M "merged feature", every row the mean over a group.
        unmerge: U "feature merged", 0 or 1: M's features, given back to every member.
        models: how many models the features come from.
        pairs: what was merged, in order; (kept, merged into it). Empty where matching is not greedy.
        lost: features in no group. Only `mode="official"` with three or more models loses any.
        forced: merges within a model beyond its budget, for want of any other pair.
    """

    groups: tuple[tuple[int, ...], ...]
    merge: Float[Tensor, "merged feature"]
    unmerge: Float[Tensor, "feature merged"]
    models: int
    pairs: tuple[tuple[int, int], ...] = ()
    lost: tuple[int, ...] = ()
    forced: int = 0

    def maps(self) -> list[tuple[Tensor, Tensor]]:
        """For every model (M "merged old", U "old merged"): M has the factor `models`, as merged models are averaged."""
        ms = (self.merge * self.models).chunk(self.models, 1)
        return list(zip(ms, self.unmerge.chunk(self.models, 0), strict=True))

    def within(self) -> int:
        """How many features share their group with another of the same model, not counting the first of each."""
        width = len(self.unmerge) // self.models
        return sum(len(group) - len({k // width for k in group}) for group in self.groups)


def zip_features(
    correlation: Float[Tensor, "feature feature"],
    models: int = 2,
    alpha: float = 0.3,
    beta: float = 0.125,
    mode: Mode = "guarded",
) -> Zip:
    """ZipIt!'s matching: the two most similar features become one, until as many are left as one model has.

    A merged feature is as similar to another as the less similar of its two, times `alpha`. Merges of two features of one
    model spend that model's budget, int(beta * features / 2) for two models; when it is spent, no more of them.

    Args:
        correlation: of the features of all models with each other; any finite similarity will do.
        models: how many models the features come from, equally many from each.
        alpha: in (0, 1]; how much a merged feature is held back from being merged again.
        beta: in [0, 1]; how much of the merging may happen within one model.
        mode: "guarded": with `beta` 0 nothing is merged within a model; no feature is lost: where three or more models leave no
            pair that the budgets allow, the most similar of the others is merged (`Zip.forced` counts them); a negative
            similarity is not raised by `alpha`. "official": the groups of the authors' code, to the last tie, with its
            defects (see Source).

    Returns:
        Groups in the order of their first features.

    Raises:
        ValueError: the matrix is not square, not finite, or not divisible by the models; a number out of its range.

    Source: Stoica et al. 2023, ZipIt!, arXiv:2305.03053; code gstoica27/ZipIt, matching_functions.py. The
        authors' code (a) loses features when three or more models leave no finite entry, (b) for alpha <= 0 rules entries out at places
        counted before earlier deletions, (c) takes one merge within each model at `beta` 0, as it asks for the budget
        afterwards, (d) raises negative similarities by multiplying them, too.
    """
    similarity = _checked(correlation, models)
    if not 0 <= beta <= 1:
        raise ValueError(f"beta is the share of merges within a model, in [0, 1]; got {beta}")
    if mode == "official":
        left = zipping.official(similarity, models, alpha, beta)
        return _zip(left.groups(), models, correlation, EPSILON, left.pairs)
    if mode != "guarded":
        raise ValueError(f'mode is "guarded" or "official"; got {mode!r}')
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is in (0, 1]; got {alpha}: 1e-4 all but forbids to merge a merged feature again")
    left, forced = zipping.guarded(similarity, models, alpha, beta)
    return _zip(left.groups(), models, correlation, 0.0, left.pairs, forced)


def permute(correlation: Float[Tensor, "feature feature"], models: int = 2) -> Zip:
    """Every model's features assigned to those of model 0, one to one, with the largest sum of correlations.

    Groups are in the order of model 0's features. The models after the first are not matched with each other.
    """
    from scipy.optimize import linear_sum_assignment  # its import takes longer than most work here

    r = _checked(correlation, models)
    width = len(r) // models
    columns = [
        m * width + linear_sum_assignment(r[:width, m * width :][:, :width], maximize=True)[1] for m in range(models)
    ]
    columns[0] = np.arange(width)
    return _zip([tuple(map(int, group)) for group in np.stack(columns, 1)], models, correlation)


def identity(correlation: Float[Tensor, "feature feature"], models: int = 2) -> Zip:
    """Feature i of every model: what plain weight averaging does."""
    width = len(_checked(correlation, models)) // models
    return _zip([tuple(range(i, models * width, width)) for i in range(width)], models, correlation)


def optimal(correlation: Float[Tensor, "feature feature"], models: int = 2) -> Zip:
    """The pairs, within and across two models, with the largest sum of correlations; every feature in one pair.

    networkx's maximum weight matching: O(features^3) in Python, seconds at 100 features, hours at 2 000.
    """
    import networkx  # only here, and slow to import

    if models != 2:
        raise ValueError(f"an optimal matching pairs the features of two models; got {models}")
    r = _checked(correlation, models)
    upper = np.triu_indices(len(r), 1)
    graph = networkx.Graph()
    graph.add_weighted_edges_from(zip(*upper, (r[upper] - r.min() + 1).tolist(), strict=True))
    pairs = networkx.max_weight_matching(graph, maxcardinality=True)
    return _zip(sorted(tuple(sorted(map(int, pair))) for pair in pairs), models, correlation)


def first(correlation: Float[Tensor, "feature feature"], models: int = 2) -> Zip:
    """Model 0's features alone: the merge is model 0."""
    width = len(_checked(correlation, models)) // models
    return replace(_zip([(i,) for i in range(width)], models, correlation), lost=())


def with_bias(unmerge: Float[Tensor, "feature merged"], models: int = 2) -> Float[Tensor, "feature_bias merged_bias"]:
    """U for features with a constant 1 appended: one more row for every model, one more column for all of them."""
    corner = torch.zeros(1, unmerge.shape[1] + 1, dtype=unmerge.dtype, device=unmerge.device)
    corner[0, -1] = 1
    blocks = [torch.cat([torch.nn.functional.pad(u, (0, 1)), corner]) for u in unmerge.chunk(models)]
    return torch.cat(blocks)


def blocks(correlation: Float[Tensor, "feature feature"], unit: int) -> Float[Tensor, "block block"]:
    """Similarity of blocks of `unit` consecutive features (heads): the mean over features at the same place in both."""
    count = len(correlation) // unit
    return correlation.reshape(count, unit, count, unit).diagonal(dim1=1, dim2=3).mean(-1)


def spread(zipped: Zip, unit: int) -> Zip:
    """A matching of blocks of `unit` features as one of features: those at the same place go together."""
    groups = tuple(tuple(k * unit + i for k in group) for group in zipped.groups for i in range(unit))
    whole = torch.eye(unit, dtype=zipped.merge.dtype, device=zipped.merge.device)
    lost = tuple(k * unit + i for k in zipped.lost for i in range(unit))
    return Zip(
        groups, torch.kron(zipped.merge, whole), torch.kron(zipped.unmerge, whole), zipped.models, lost=lost,
        forced=zipped.forced,
    )  # fmt: skip


def _checked(correlation: Tensor, models: int) -> np.ndarray:
    rows, columns = correlation.shape
    if rows != columns or models < 1 or rows % models or not rows:
        raise ValueError(
            f"a correlation of the features of {models} models is square and divisible by {models}; got {rows} x {columns}"
        )
    if not torch.isfinite(correlation).all():
        raise ValueError(
            "the correlation has entries that are not finite; features that are NaN or infinite count as 0"
        )
    wide = torch.promote_types(correlation.dtype, torch.float32)  # NumPy has no bfloat16
    return correlation.detach().cpu().to(wide).numpy()


def _zip(
    groups: Sequence[tuple[int, ...]],
    models: int,
    correlation: Tensor,
    epsilon: float = 0.0,
    pairs: Sequence[tuple[int, int]] = (),
    forced: int = 0,
) -> Zip:
    unmerge = correlation.new_zeros(len(correlation), len(groups))
    for column, group in enumerate(groups):
        unmerge[list(group), column] = 1
    merge = unmerge.T.contiguous() / (unmerge.sum(0) + epsilon)[:, None]
    lost = set(range(len(correlation))).difference(*groups)
    return Zip(tuple(groups), merge, unmerge, models, tuple(pairs), tuple(sorted(lost)), forced)
