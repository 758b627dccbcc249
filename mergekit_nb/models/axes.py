"""The spaces of features of any network, derived: nobody writes a graph by hand.

A network is run once, and every operation tells which features meet. What must move together is one space; what meets the
input, the output, or something that asks for entries by their place, cannot move at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import gcd

from torch import Tensor, nn

from mergekit_nb.models.cuts import cuts
from mergekit_nb.models.features import Features, leaves, resolved
from mergekit_nb.models.reshaping import settled
from mergekit_nb.models.trace import Trace, Value, watched
from mergekit_nb.weights.axes import Axes, Port, Probe, Space


def derive(module: nn.Module, example: Tensor | tuple) -> Axes:
    """The spaces of features that share one axis map, by running the module once.

    Through convolutions (dense, grouped, depthwise, transposed), linear layers, batch, layer and group norm, sums,
    concatenation, pooling, flattening, attention (heads move as blocks), embeddings and tied weights.

    Args:
        example: an input, or a tuple of all positional ones; small is fine, and one sample is the surest.

    Returns:
        Spaces in the order in which they are complete. A permutation of any of them leaves the outputs unchanged.

    Raises:
        ValueError: an operation of which it is not known how it hands features on, or one that depends on the input's
            values; the message names it and its module, and says how to pass spaces by hand.
    """
    trace = watched(module, example if isinstance(example, tuple) else (example,))
    attentions = [name for name, part in module.named_modules() if isinstance(part, nn.MultiheadAttention)]
    seen = _seen(trace)
    found = [_Found(trace, ports, features.blocks, seen.get(features, [])) for features, ports in _ports(trace).items()]
    found.sort(key=lambda each: each.complete)
    probes = [each.probe() or each.inside(attentions) for each in found]
    spaces = [
        Space(name, each.width, each.moving, each.unit, probe)
        for name, each, probe in zip(_names(found), found, probes, strict=True)
    ]
    return Axes(cuts(trace, spaces, [{sight.value.number for sight in each.whole} for each in found]))


@dataclass(frozen=True)
class _Carried:
    """Features on an axis of a value: where they begin, how many entries they fill, and whether they have it to themselves."""

    value: Value
    axis: int
    start: int
    length: int
    alone: bool


def _seen(trace: Trace) -> dict[Features, list[_Carried]]:
    """Features -> where they appear in the values of a run, in its order."""
    seen: dict[Features, list[_Carried]] = {}
    for value in chain.from_iterable(step.makes for step in trace.steps):
        for axis, runs in enumerate(map(resolved, settled(value.dims))):
            start = 0
            for run in runs:
                if run.features is not None:
                    seen.setdefault(run.features, []).append(_Carried(value, axis, start, run.length, len(runs) == 1))
                start += run.length
    return seen


def _ports(trace: Trace) -> dict[Features, list[Port]]:
    """Features -> the axes that carry them; `repeat` is here the entries that a block fills."""
    ports: dict[Features, list[Port]] = {}
    for name, value in trace.parameters.items():
        for axis, whole in enumerate(settled(value.dims)):
            start = 0
            for run, role in chain.from_iterable(map(leaves, whole)):
                if run.features is not None:
                    ports.setdefault(run.features, []).append(Port(name, axis, role or "writes", start, run.block))
                start += run.length
    return ports


@dataclass(frozen=True)
class _Found:
    """Features that can move: the tensors that carry them, and the values."""

    trace: Trace
    ports: Sequence[Port]
    blocks: int
    seen: Sequence[_Carried]

    @property
    def unit(self) -> int:
        """Features in a block: as many as every tensor can be cut into."""
        return gcd(*(port.repeat for port in self.ports))

    @property
    def width(self) -> int:
        """Number of features."""
        return self.blocks * self.unit

    @property
    def moving(self) -> tuple[Port, ...]:
        """The ports, `repeat` being entries for a feature."""
        return tuple(replace(port, repeat=port.repeat // self.unit) for port in self.ports)

    @property
    def complete(self) -> int:
        """The last value that arithmetic made of them."""
        return max((each.value.number for each in self.seen if each.value.made), default=0)

    @property
    def whole(self) -> list[_Carried]:
        """Where they appear with one entry for each."""
        return [each for each in self.seen if each.length == self.width]

    @property
    def best(self) -> _Carried | None:
        """The latest value that some module sees: rather of these features alone, rather a result of arithmetic."""
        visible = [each for each in self.whole if self.trace.sights.get(each.value.number)]
        return max(visible, key=lambda each: (each.alone, each.value.made, each.value.number), default=None)

    def probe(self) -> Probe | None:
        """Where that value is seen: rather as an input, of the innermost module."""
        if (best := self.best) is None:
            return None
        sights = self.trace.sights[best.value.number]
        inputs = [sight for sight in sights if sight.side == "input" and sight.module]
        sight = inputs[-1] if inputs else sights[-1]
        return Probe(sight.module, sight.side, best.axis, best.start)

    def inside(self, attentions: Sequence[str]) -> Probe | None:
        """Heads of an attention that runs once: it uses its output projection without calling it."""
        once = {sight.module for sights in self.trace.sights.values() for sight in sights}
        for port in self.ports:
            name = port.tensor.removesuffix(".out_proj.weight")
            if port.role == "reads" and name in attentions and name in once:
                return Probe(name, "inside", -1, port.start)
        return None

    def block(self) -> str | None:
        """The outermost module whose output the best value is, and in which the features are written."""
        best = self.best
        for sight in reversed(self.trace.sights[best.value.number]) if best else ():
            written = any(port.tensor.startswith(f"{sight.module}.") for port in self.ports)
            if sight.side == "output" and sight.module and written:
                return sight.module
        return None

    def writer(self) -> str:
        """The module of the weight that writes them last."""
        last = [port for port in self.ports if port.role == "writes"] or self.ports
        return last[-1].tensor.rpartition(".")[0] or last[-1].tensor


def _names(found: Sequence[_Found]) -> list[str]:
    """Every space by the block it is the output of, else by its last writer; namesakes are numbered."""
    blocks = [each.block() for each in found]
    shared = Counter(blocks)
    plain = [
        block if block and shared[block] == 1 else each.writer() for block, each in zip(blocks, found, strict=True)
    ]
    counts, used, names = Counter(plain), Counter[str](), []
    for name in plain:
        used[name] += 1
        names.append(f"{name}#{used[name]}" if counts[name] > 1 else name)
    return names
