"""ZipIt!: networks that never shared a parent become one, in whole or up to a boundary."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mergekit_nb.align.repair import reset as reset_statistics
from mergekit_nb.align.zipped import Zipped
from mergekit_nb.maths.constant import paired
from mergekit_nb.maths.matching import Mode, Zip, blocks, first, identity, optimal, permute, spread, zip_features
from mergekit_nb.models.axes import derive
from mergekit_nb.models.halves import halves
from mergekit_nb.models.moments import joint_moments
from mergekit_nb.models.watch import check_finite, inputs, several_times
from mergekit_nb.progress import Progress
from mergekit_nb.weights.axes import Axes, Space, mapped

Matching = Literal["zip", "permute", "optimal", "identity", "first"]


def zipit(
    networks: Sequence[nn.Module],
    batches: Iterable,
    alpha: float = 0.3,
    beta: float = 0.125,
    stop_at: str | None = None,
    mode: Mode = "guarded",
    axes: Axes | None = None,
    reset: bool = True,
    matching: Matching = "zip",
    progress: Progress = False,
) -> Zipped:
    """Merge networks of one architecture and different initialisations: features that are alike become one.

    Of every space up to `stop_at` the features of all networks are matched by their correlation, also within a network;
    each network is mapped into the merged features and back out of them; the mapped networks are averaged.

    Args:
        networks: two or more; they are not touched. After the boundary they may differ (other classes).
        batches: tensors, or pairs (inputs, labels), of all networks' tasks mixed; a few hundred images are enough.
        alpha, beta, mode: see `maths.matching.zip_features`. "guarded" also pairs features that never vary with such of
            the other networks.
        stop_at: the boundary up to which the networks are zipped, one of `derive(network, example).boundaries`; None
            zips all of them. What is read only (a classifier) is then averaged, which needs one output space.
        axes: the spaces; by default derived from the first network.
        reset: re-estimate batch norm's statistics on the batches.
        matching: "zip", or a baseline: "permute", "optimal" (two networks), "identity" (plain averaging), "first".

    Returns:
        A module. Its output is one tensor, or, of a partial zip, a list of one per network.

    Raises:
        ValueError: an unknown boundary (the message lists the valid ones); networks that do not fit together; a space
            that no module sees; no batch.

    Source: Stoica et al. 2023, ZipIt!, arXiv:2305.03053; code gstoica27/ZipIt, model_merger.py. As in the authors' code
        batch norm's variances are mapped like its means, not with the squared matrix; they are re-estimated afterwards.
        A tied tensor that writes and reads (an embedding) is mapped as what it does first: exact where all groups are
        as large as there are networks.
    """
    if not isinstance(networks, Sequence | nn.ModuleList) or not all(
        isinstance(network, nn.Module) for network in networks
    ):
        raise TypeError("networks are two torch modules or more, in a list")
    if len(networks) < 2:
        raise ValueError(f"zipping takes two networks or more; got {len(networks)}")
    if matching not in get_args(Matching):
        raise ValueError(f"matching is one of {', '.join(get_args(Matching))}; got {matching!r}")
    if mode not in get_args(Mode):
        raise ValueError(f"mode is one of {', '.join(get_args(Mode))}; got {mode!r}")
    match = _matcher(matching, len(networks), float(alpha), float(beta), mode)
    match(torch.eye(len(networks)))  # refuses numbers out of range before any network runs
    head = next(iter(several_times(batches)), None)
    if head is None:
        raise ValueError("there is nothing to measure on: batches is empty")
    example = inputs(head)[:1]
    if not len(example):
        raise ValueError("there is nothing to measure on: the first batch holds no inputs")
    axes = axes or derive(networks[0], example)
    spaces = _up_to(axes, stop_at)
    _check(networks, axes, spaces, stop_at)
    found = joint_moments(networks, batches, axes, [space.name for space in spaces], progress)
    zips = {}
    for space in spaces:
        r = found[space.name].correlation()
        zips[space.name] = _matched(match, r if mode == "official" else paired(r, len(networks)), space)
    zipped = assemble(networks, axes, zips, stop_at, example)
    return reset_statistics(zipped, batches) if reset else zipped


def assemble(
    networks: Sequence[nn.Module], axes: Axes, zips: Mapping[str, Zip], stop_at: str | None, example: Tensor
) -> Zipped:
    """The zip that given matchings make.

    Args:
        zips: space -> matching, for every space up to `stop_at`.
        example: an input, for networks that torch.fx cannot cut.
    """
    mapped_networks = [copy.deepcopy(network).eval() for network in networks]
    for number, network in enumerate(mapped_networks):
        maps = {name: found.maps()[number] for name, found in zips.items()}
        network.load_state_dict(mapped(network.state_dict(), axes, maps))
    early = {p.tensor for name in zips for p in axes.space(name).ports if p.role != "reads"}
    shared = None if stop_at is None else early
    trunk = _averaged(mapped_networks, shared)
    if stop_at is None:
        return Zipped(trunk, (), axes.boundaries, None, zips)
    merged, *cut = halves([trunk, *mapped_networks], early, example)
    return Zipped(merged[0], [late for _, late in cut], axes.boundaries, stop_at, zips)


def _up_to(axes: Axes, stop_at: str | None) -> tuple[Space, ...]:
    if stop_at is None:
        return axes.spaces
    if stop_at not in axes.boundaries:
        raise ValueError(
            f"these networks cannot be cut at {stop_at!r}; the boundaries are {', '.join(axes.boundaries) or 'none'}"
        )
    return axes.spaces[: axes.names.index(stop_at) + 1]


def _check(networks: Sequence[nn.Module], axes: Axes, spaces: Sequence[Space], stop_at: str | None) -> None:
    blind = [space.name for space in spaces if space.probe is None]
    if blind:
        raise ValueError(f"no module sees the features of {', '.join(blind)}, so they cannot be matched")
    weights = [network.state_dict() for network in networks]
    ports = [port for space in spaces for port in space.ports if port.tensor in weights[0]]
    made = {port.tensor for port in ports if port.role != "reads"}
    names = list(weights[0]) if stop_at is None else [name for name in weights[0] if name in made]
    for number, other in enumerate(weights[1:], 2):
        for name in names:
            if name not in other or weights[0][name].shape != other[name].shape:
                _refuse(name, weights[0][name], other.get(name), number, axes, name not in made)
        for port in ports:  # what only reads may give another number of classes
            one, two = weights[0][port.tensor], other.get(port.tensor)
            if two is None or two.ndim != one.ndim or two.shape[port.axis] != one.shape[port.axis]:
                _refuse(port.tensor, one, two, number, axes, False)
    for number, found in enumerate(weights, 1):
        check_finite(found, f"number {number}")


def _refuse(name: str, one: Tensor, other: Tensor | None, number: int, axes: Axes, head: bool) -> None:
    has = "is not in" if other is None else f"is {tuple(other.shape)} in"
    hint = f"zip up to a boundary ({', '.join(axes.boundaries)}): each keeps its own head"
    hint = hint if head else "are they one architecture?"
    raise ValueError(f"{name} is {tuple(one.shape)} in the first network and {has} number {number}; {hint}")


def _matcher(matching: Matching, models: int, alpha: float, beta: float, mode: Mode) -> Callable[[Tensor], Zip]:
    if matching == "zip":
        return lambda correlation: zip_features(correlation, models, alpha, beta, mode)
    baseline = {"permute": permute, "optimal": optimal, "identity": identity, "first": first}[matching]
    return lambda correlation: baseline(correlation, models)


def _matched(match: Callable[[Tensor], Zip], correlation: Tensor, space: Space) -> Zip:
    if space.unit == 1:
        return match(correlation)
    return spread(match(blocks(correlation, space.unit)), space.unit)


def _averaged(networks: Sequence[nn.Module], only: set[str] | None) -> nn.Module:
    """A copy of the first network with the mean of all tensors, or of those named; whole numbers stay the first's."""
    merged = copy.deepcopy(networks[0])
    weights = [network.state_dict() for network in networks]
    mean = {}
    for name, tensor in weights[0].items():
        if tensor.is_floating_point() and (only is None or name in only):
            wide = torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype
            total = sum((other[name].to(tensor.device, wide) for other in weights[1:]), tensor.to(wide))
            mean[name] = (total / len(networks)).to(tensor.dtype)
    merged.load_state_dict({**weights[0], **mean})
    return merged
