"""PLeaS: merge the features of two networks that agree, keep the others apart, and fit each layer by least squares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from mergekit_nb.align.rebasin import by_correlation
from mergekit_nb.align.repair import reset
from mergekit_nb.maths import squares
from mergekit_nb.maths.matching import spread
from mergekit_nb.maths.moments import Moments
from mergekit_nb.maths.partial import Layer, partial, within_budget
from mergekit_nb.models.axes import derive
from mergekit_nb.models.gram import LAYERS, gram, rows
from mergekit_nb.models.moments import joint_moments
from mergekit_nb.models.resize import resized, widens
from mergekit_nb.models.watch import evaluating, inputs, several_times, to_device_of, watching
from mergekit_nb.weights.axes import Axes, Port, Space, mapped
from mergekit_nb.weights.source import Source

Heads = Literal["mean", "beside"]
HEAD = "head"  # the space of both networks' outputs, where they stay beside each other


@dataclass(frozen=True)
class Plan:
    """How two networks become one: every space's maps, one pair a network.

    Attributes:
        axes: of each network; they differ where the heads have different widths.
        maps: space -> for each network (M "new old" with the factor 2, U "old new").
    """

    axes: tuple[Axes, ...]
    maps: Mapping[str, Sequence[tuple[Tensor, Tensor]]]

    def weights(self, networks: Sequence[Source]) -> dict[str, Tensor]:
        """The merged weights: the mean of the networks seen through their maps."""
        seen = [mapped(w, axes, self.of(t)) for t, (w, axes) in enumerate(zip(networks, self.axes, strict=True))]
        return {name: _mean([weights[name] for weights in seen]) for name in seen[0]}

    def of(self, network: int) -> dict[str, tuple[Tensor, Tensor]]:
        """One network's maps."""
        return {name: pairs[network] for name, pairs in self.maps.items()}

    def lift(self, tensor: str, axis: int, size: int, network: int) -> Tensor:
        """What M does along one axis of a tensor, "new old", so that the networks' add up: features on no space's axis
        are averaged."""
        ports = {s: [p for p in s.ports if (p.tensor, p.axis) == (tensor, axis)] for s in self.axes[network].spaces}
        along = tuple(
            replace(s, ports=tuple(replace(p, axis=1, role="writes") for p in held)) for s, held in ports.items()
        )
        whole = mapped({tensor: torch.eye(size, dtype=torch.float64)}, Axes(along), self.of(network))[tensor]
        return whole.T.contiguous() / len(self.axes)


def pleas(
    networks: Sequence[nn.Module],
    batches: Iterable,
    ratios: float | Mapping[str, float] = 0.0,
    budget: float | None = None,
    heads: Heads = "mean",
    axes: Axes | None = None,
) -> nn.Module:
    """One network of two: features matched by correlation, merged where they agree, every layer fitted to the two.

    Each linear and convolutional layer is fitted in closed form, from Gram matrices, to give what the two networks' layers
    give on their own activations; the others are averaged, and batch norm's statistics re-estimated.

    Args:
        networks: two modules of one architecture.
        batches: tensors, or pairs (inputs, labels); gone through several times.
        ratios: the share of features that stays apart, in [0, 1]; one number, or space -> number (others 0).
        budget: instead of `ratios`, the cost relative to one network, in [1, 2]; ratios are chosen within it. Where the
            features of an attention are part of a space, all of it is merged: it cannot be widened.
        heads: "mean": the output is the mean of the two networks' outputs. "beside": first one network's outputs, then
            the other's, on one axis; their numbers may differ.
        axes: the spaces; by default derived from the first batch.

    Returns:
        A copy of the first network with other weights, wider where features stay apart.

    Raises:
        ValueError: not two networks; a ratio or budget out of its range; a generator for batches.

    Source: Nasery et al. 2024, PLeaS, arXiv:2407.02447; code SewoongLab/PLeaS-Merging, which fits by Adam and chooses
        ratios by a commercial solver. There a layer's fit may not use the zero blocks between the two networks' own
        features, but masks inputs by the places of outputs; here by their own.
    """
    if len(networks) != 2:
        raise ValueError(f"PLeaS merges two networks; got {len(networks)}")
    if heads not in ("mean", "beside"):
        raise ValueError(f'heads is "mean" or "beside"; got {heads!r}')
    first = next(iter(several_times(batches)), None)
    if first is None:
        raise ValueError("there is nothing to match on: batches is empty")
    axes = axes or derive(networks[0], to_device_of(networks[0], inputs(first)[:1]))
    plan = planned(networks, batches, axes, ratios, budget)
    if heads == "beside":
        plan = _beside(plan, networks)
    weights = plan.weights([network.state_dict() for network in networks])
    weights |= fitted(plan, networks, batches, weights)
    return reset(resized(networks[0], weights), batches)


def planned(
    networks: Sequence[nn.Module],
    batches: Iterable,
    axes: Axes,
    ratios: float | Mapping[str, float] = 0.0,
    budget: float | None = None,
) -> Plan:
    """Which features of two networks are merged and which stay apart."""
    found = joint_moments(networks, batches, axes)
    order = by_correlation(found, *networks, axes).order
    similarities = {name: _similarity(found[name], axes.space(name), order[name]) for name in found}
    if budget is not None:
        free = {
            n: s for n, s in similarities.items() if all(widens(networks[0], p.tensor) for p in axes.space(n).ports)
        }
        ratios = within_budget(free, costs(networks[0], batches, axes), budget)
    zips = {}
    for space in axes.spaces:
        blocks = order[space.name][:: space.unit] // space.unit
        alike = similarities.get(space.name, torch.zeros(len(blocks), dtype=torch.float64))
        ratio = ratios if isinstance(ratios, int | float) else ratios.get(space.name, 0.0)
        zips[space.name] = spread(partial(blocks, alike, ratio if space.name in similarities else 0.0), space.unit)
    return Plan((axes, axes), {name: zipped.maps() for name, zipped in zips.items()})


def costs(network: nn.Module, batches: Iterable, axes: Axes) -> list[Layer]:
    """What every linear and convolutional layer costs, in multiplications for the first batch."""
    with evaluating(network), ExitStack() as stack:
        names = {name: (name, "output") for name, m in network.named_modules() if isinstance(m, LAYERS)}
        seen = stack.enter_context(watching(network, names))
        network(to_device_of(network, inputs(next(iter(batches)))))
    layers = []
    for name, output in seen.items():
        weight = network.get_submodule(name).weight
        each = output.numel() / len(weight) * weight.numel()
        layers.append(
            Layer(each, _filled(axes, f"{name}.weight", weight, 1), _filled(axes, f"{name}.weight", weight, 0))
        )
    return layers


def fitted(plan: Plan, networks: Sequence[nn.Module], batches: Iterable, start: Source) -> dict[str, Tensor]:
    """Weights and biases of all layers, fitted from `start` to what the networks' own layers give.

    A layer is left as it is where its convolution has groups, or where it does not run as a module (in an attention).
    """
    modules = dict(networks[0].named_modules())
    layers = [n for n, m in modules.items() if isinstance(m, LAYERS) and getattr(m, "groups", 1) == 1]
    weights = {}
    for name, data in _joint_grams(networks, layers, batches).items():
        own = [network.get_submodule(name) for network in networks]
        shape, biased = start[f"{name}.weight"].shape, own[0].bias is not None
        lift, target, allowed = _least_squares(plan, name, own, biased)
        begin = start[f"{name}.weight"].double().flatten(1)
        if biased:
            begin = torch.cat([begin, start[f"{name}.bias"].double()[:, None]], 1)
        found = squares.refit(begin.cpu(), target, lift, data.cpu(), allowed).to(start[f"{name}.weight"])
        if biased:
            weights[f"{name}.bias"], found = found[:, -1], found[:, :-1]
        weights[f"{name}.weight"] = found.reshape(shape)
    return weights


def _least_squares(plan: Plan, name: str, layers: Sequence[nn.Module], biased: bool) -> tuple[Tensor, Tensor, Tensor]:
    """For a layer what of the data "data" (all networks' inputs one after the other, then 1) its inputs are, what its
    outputs should be, and which weights may be other than 0."""
    reads, writes, targets = [], [], []
    for t, layer in enumerate(layers):
        weight = layer.weight.detach().cpu().double()
        each = weight[0, 0].numel()  # entries of a patch per feature
        into = torch.kron(plan.lift(f"{name}.weight", 1, weight.shape[1], t), torch.eye(each, dtype=torch.float64))
        out = plan.lift(f"{name}.weight", 0, weight.shape[0], t)
        reads.append(into)
        writes.append(out)
        targets.append(out @ weight.flatten(1))
    lift, target = torch.cat(reads, 1), torch.cat(targets, 1)
    allowed = sum((w != 0).any(1)[:, None] & (r != 0).any(1) for w, r in zip(writes, reads, strict=True)) > 0
    if biased:
        lift = torch.block_diag(lift, torch.ones(1, 1, dtype=torch.float64))
        wanted = sum(w @ layer.bias.detach().cpu().double() for w, layer in zip(writes, layers, strict=True))
        target = torch.cat([target, wanted[:, None]], 1)
        allowed = torch.cat([allowed, torch.ones(len(allowed), 1, dtype=torch.bool)], 1)
    return lift, target, allowed


def _joint_grams(networks: Sequence[nn.Module], layers: Sequence[str], batches: Iterable) -> dict[str, Tensor]:
    """Layer -> sum of z z^T, z being all networks' inputs to it one after the other, and 1 where it has a bias."""
    total: dict[str, Tensor] = {}
    with evaluating(*networks), ExitStack() as stack:
        places = {name: (name, "input") for name in layers}
        caught = [stack.enter_context(watching(network, places)) for network in networks]
        for batch in batches:
            for network in networks:
                network(to_device_of(network, inputs(batch)))
            for name in caught[0]:
                own = [network.get_submodule(name) for network in networks]
                z = torch.cat([rows(layer, held[name])[0] for layer, held in zip(own, caught, strict=True)])
                if own[0].bias is not None:
                    z = torch.cat([z, torch.ones_like(z[:1])])
                found = gram(z[None])[0]
                total[name] = total[name] + found if name in total else found
    return total


def _similarity(found: Moments, space: Space, order: Tensor) -> Tensor:
    """Correlation of every matched pair, the mean over a block: "block"."""
    across = found.correlation()[: space.width, space.width :].cpu()
    return across[torch.arange(space.width), order].reshape(-1, space.unit).mean(1)


def _filled(axes: Axes, tensor: str, weight: Tensor, axis: int) -> dict[str, float]:
    """Which share of a weight's axis every space fills."""
    return {
        space.name: sum(space.width * p.repeat for p in space.ports if (p.tensor, p.axis) == (tensor, axis)) / weight.shape[axis]
        for space in axes.spaces
        if any((p.tensor, p.axis) == (tensor, axis) for p in space.ports)
    }  # fmt: skip


def _beside(plan: Plan, networks: Sequence[nn.Module]) -> Plan:
    """The plan with a space more, that of the outputs: none of one network's is merged with one of the other's."""
    tensors = _head(networks, plan.axes[0])
    widths = [len(network.state_dict()[tensors[0]]) for network in networks]
    axes = tuple(
        Axes((*own.spaces, Space(HEAD, width, tuple(Port(name, 0, "writes") for name in tensors))))
        for own, width in zip(plan.axes, widths, strict=True)
    )
    places = torch.eye(sum(widths)).split(widths, 1)
    return Plan(axes, {**plan.maps, HEAD: [(len(widths) * own, own.T) for own in places]})


def _head(networks: Sequence[nn.Module], axes: Axes) -> list[str]:
    """Weight and bias of the one layer whose outputs are on no space's axis."""
    written = {p.tensor for space in axes.spaces for p in space.ports if p.axis == 0}
    state = networks[0].state_dict()
    free = [n for n, m in networks[0].named_modules() if isinstance(m, LAYERS) and f"{n}.weight" not in written]
    if len(free) != 1:
        raise ValueError(
            f"heads can be put beside each other where one layer gives the outputs; here {', '.join(free) or 'none'} might"
        )
    return [name for name in (f"{free[0]}.weight", f"{free[0]}.bias") if name in state]


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    return sum(tensor.double() for tensor in tensors).div(len(tensors)).to(tensors[0].dtype)
