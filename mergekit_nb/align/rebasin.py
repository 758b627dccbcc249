"""Git Re-Basin: the order of one network's features in which it is most like another, from weights or from activations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mergekit_nb.maths.matching import blocks
from mergekit_nb.maths.moments import Moments
from mergekit_nb.models.axes import derive
from mergekit_nb.models.example import example
from mergekit_nb.models.moments import joint_moments
from mergekit_nb.models.watch import check_finite, inputs, several_times
from mergekit_nb.weights.axes import Axes, Port, Space, permuted
from mergekit_nb.weights.source import Source

SWEEPS = 100
GAIN = 1e-12  # of the two networks' norms: less is rounding
STATISTICS = ("running_mean", "running_var")  # measured, not learned: they say nothing about which weights are alike


@dataclass(frozen=True)
class Alignment:
    """How one network's features have to be reordered.

    Attributes:
        order: space -> int64 "feature": where the feature at each place was before; what `permuted` takes.
        objective: inner product of the two networks' weights, before and after every sweep; it never falls.
    """

    order: Mapping[str, Tensor]
    objective: tuple[float, ...]


def align(
    network: nn.Module | Source,
    *,
    to: nn.Module | Source,
    batches: Iterable | None = None,
    axes: Axes | None = None,
    seed: int = 0,
) -> nn.Module | dict[str, Tensor]:
    """The same function as `network`, its features in the order in which they are most like those of `to`.

    Afterwards the two can be averaged, or walked between. Without batches the weights are matched, with them the
    activations.

    Args:
        network, to: two modules of one architecture, or the weights of two. Heads for other classes may differ.
        batches: tensors, or pairs (inputs, labels).
        axes: which axes move together; by default derived from `to`.
        seed: of the order in which the spaces are visited, where weights are matched.

    Returns:
        A module, where `network` is one (a copy), else weights.

    Raises:
        ValueError: weights without `axes`; batches for weights; two different architectures.

    Source: Ainsworth et al. 2023, Git Re-Basin, arXiv:2209.04836.
    """
    if not isinstance(network, nn.Module) or not isinstance(to, nn.Module):
        if axes is None:
            raise ValueError(
                "weights alone do not say which axes move together: pass axes=derive(module, example), or two modules"
            )
        if batches is not None:
            raise ValueError("activations are matched between modules; these are weights: leave batches out")
        a, b = (x.state_dict() if isinstance(x, nn.Module) else x for x in (to, network))
        return permuted(b, axes, weight_matching(a, b, axes, seed).order)
    if batches is not None and next(iter(several_times(batches)), None) is None:
        raise ValueError("there is nothing to measure on: batches is empty")
    axes = axes or derive(to, example(to) if batches is None else inputs(next(iter(batches)))[:1])
    if batches is None:
        found = weight_matching(to.state_dict(), network.state_dict(), axes, seed)
    else:
        found = activation_matching(to, network, batches, axes, seed)
    aligned = copy.deepcopy(network)
    aligned.load_state_dict(permuted(network.state_dict(), axes, found.order))
    return aligned


def weight_matching(
    a: Source,
    b: Source,
    axes: Axes,
    seed: int = 0,
    start: Mapping[str, Tensor] | None = None,
    spaces: Iterable[str] | None = None,
) -> Alignment:
    """Coordinate descent: space after space, in a random order per sweep, the best assignment given all the others.

    What is compared is every tensor that carries a space, but for running statistics, and for tensors of which the two
    have different shapes (heads for other classes). Another seed can end in another local optimum: compare objectives.

    Args:
        a, b: two networks' weights; b's features are reordered.
        seed: of the visiting order.
        start: orders to begin with; features stay where they are in spaces left out.
        spaces: names of those to match; by default all.

    Raises:
        ValueError: a tensor of the axes is in only one of the networks; an unknown space.

    Source: Ainsworth et al. 2023, arXiv:2209.04836, algorithm 1; code samuela/git-re-basin,
        weight_matching.py. There a step is taken where its own assignment gains; here where the objective does, which
        differs for a weight that both reads and writes a space.
    """
    check_finite(a, "the network to align to")
    check_finite(b, "the network to be aligned")
    visited = [axes.space(name) for name in (axes.names if spaces is None else spaces)]
    descent, noise = _Descent(a, b, axes, start or {}), torch.Generator().manual_seed(seed)
    objective = [descent.objective()]
    for _ in range(SWEEPS):
        gained = [descent.step(visited[i]) for i in torch.randperm(len(visited), generator=noise).tolist()]
        objective.append(descent.objective())
        if not any(gained):
            break
    return Alignment(descent.order, tuple(objective))


class _Descent:
    """Two networks' comparable weights, in float64; the second's as they are after all steps so far."""

    def __init__(self, a: Source, b: Source, axes: Axes, start: Mapping[str, Tensor]):
        self.order = {space.name: torch.arange(space.width) for space in axes.spaces} | dict(start)
        self.ports = {space.name: _compared(space, a, b) for space in axes.spaces}
        self.axes = Axes(tuple(replace(space, ports=tuple(self.ports[space.name])) for space in axes.spaces))
        names = sorted({port.tensor for ports in self.ports.values() for port in ports})
        self.fixed = {name: a[name].detach().cpu().double() for name in names}
        self.moved = permuted({name: b[name].detach().cpu().double() for name in names}, self.axes, self.order)
        self.least = GAIN * _norm(self.fixed) * _norm(self.moved)

    def objective(self) -> float:
        """The inner product of both networks' weights."""
        return _inner(self.fixed, self.moved)

    def step(self, space: Space) -> bool:
        """Reorder one space as is best while all others stay; False where that gains nothing."""
        ports = self.ports[space.name]
        best = {space.name: _assigned(self._likeness(space, ports), space.unit)}
        before = {port.tensor: self.moved[port.tensor] for port in ports}
        after = permuted(before, Axes((self.axes.space(space.name),)), best)
        if _inner(self.fixed, after) - _inner(self.fixed, before) <= self.least:
            return False
        self.moved |= after
        self.order[space.name] = self.order[space.name][best[space.name]]
        return True

    def _likeness(self, space: Space, ports: list[Port]) -> Tensor:
        """Inner products of the weights of every feature of the first network with those of every one of the second."""
        likeness = torch.zeros(space.width, space.width, dtype=torch.float64)
        for port in ports:
            likeness += (
                _unfolded(self.fixed[port.tensor], port, space) @ _unfolded(self.moved[port.tensor], port, space).T
            )
        return likeness


def activation_matching(a: nn.Module, b: nn.Module, batches: Iterable, axes: Axes, seed: int = 0) -> Alignment:
    """Every space by itself: the assignment with the largest sum of correlations of features on the same inputs.

    Spaces that no module sees (heads inside an attention) are matched by weights, given all the others.

    Source: Ainsworth et al. 2023, arXiv:2209.04836, activation matching, there with inner products; correlations do not depend on
        the features' scale, as in Li et al. 2016, arXiv:1511.07543, and in ZipIt!'s baseline.
    """
    return by_correlation(joint_moments([a, b], batches, axes), a, b, axes, seed)


def by_correlation(found: Mapping[str, Moments], a: nn.Module, b: nn.Module, axes: Axes, seed: int = 0) -> Alignment:
    """`activation_matching`, where the moments of both networks' features are known."""
    order = {}
    for name, moments in found.items():
        space = axes.space(name)
        order[name] = _assigned(moments.correlation()[: space.width, space.width :].cpu(), space.unit)
    blind = [space.name for space in axes.spaces if space.name not in order]
    return weight_matching(a.state_dict(), b.state_dict(), axes, seed, order, blind)


def _assigned(likeness: Tensor, unit: int) -> Tensor:
    """For "feature of a, feature of b": which feature of b goes to the place of each of a; blocks of `unit` together."""
    from scipy.optimize import linear_sum_assignment  # its import takes longer than most work here

    _, columns = linear_sum_assignment((blocks(likeness, unit) if unit > 1 else likeness).numpy(), maximize=True)
    return (torch.as_tensor(columns)[:, None] * unit + torch.arange(unit)).flatten()


def _unfolded(tensor: Tensor, port: Port, space: Space) -> Tensor:
    """The part of a tensor that carries a space, "feature rest"."""
    part = tensor.narrow(port.axis, port.start, space.width * port.repeat).movedim(port.axis, 0)
    return part.reshape(space.width, -1)


def _compared(space: Space, a: Source, b: Source) -> list[Port]:
    """The ports on tensors that can be compared."""
    lacking = [port.tensor for port in space.ports if port.tensor not in a or port.tensor not in b]
    if lacking:
        raise ValueError(f"{lacking[0]} carries the space {space.name}, but one of the two networks lacks it")
    for port in space.ports:
        one, other = a[port.tensor].shape, b[port.tensor].shape
        if len(one) != len(other) or one[port.axis] != other[port.axis]:
            raise ValueError(
                f"{port.tensor} is {tuple(other)}, and {tuple(one)} in the network to align to, which has {space.width} "
                f"features in the space {space.name}: are they one architecture?"
            )
    return [
        port for port in space.ports
        if not port.tensor.endswith(STATISTICS) and a[port.tensor].shape == b[port.tensor].shape
    ]  # fmt: skip


def _inner(a: Source, b: Source) -> float:
    return sum(torch.vdot(a[name].flatten(), b[name].flatten()).item() for name in b)


def _norm(weights: Source) -> float:
    return _inner(weights, weights) ** 0.5
