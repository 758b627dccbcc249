"""The spaces of features of any network, derived: nobody writes a graph by hand.

A network is run once, and every operation tells which features meet. What must move together is one space; what meets the
input, the output, or something that asks for entries by their place, cannot move at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import replace
from itertools import chain
from math import gcd

from torch import Tensor, nn

from mergekit_nb.models.cuts import cuts
from mergekit_nb.models.features import Features, leaves, resolved
from mergekit_nb.models.reshaping import settled
from mergekit_nb.models.trace import Sight, Trace, Value, watched
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
    attentions = {name for name, part in module.named_modules() if isinstance(part, nn.MultiheadAttention)}
    found = [_Found(features, trace, ports, attentions) for features, ports in _ports(trace).items()]
    found.sort(key=lambda each: each.rank)
    spaces = _named([each.space() for each in found], found)
    return Axes(cuts(trace, spaces, [each.values for each in found]))


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


class _Found:
    """Features that can move, and where they were seen."""

    def __init__(self, features: Features, trace: Trace, ports: list[Port], attentions: Set[str]):
        self.trace, self.attentions = trace, attentions
        self.unit = gcd(*(port.repeat for port in ports))
        self.width = features.blocks * self.unit
        self.ports = tuple(replace(port, repeat=port.repeat // self.unit) for port in ports)
        self.values: dict[int, tuple[Value, int, int, bool]] = {}  # number -> value, axis, start, alone on its axis
        self.rank = (0, 0)
        for value in (made for step in trace.steps for made in step.makes):
            for axis, runs in enumerate(map(resolved, settled(value.dims))):
                self._look(features, value, axis, runs)

    def _look(self, features: Features, value: Value, axis: int, runs: tuple) -> None:
        start = 0
        for run in runs:
            if run.features is features:
                self.rank = max(self.rank, (value.number if value.made else 0, 0))
                if run.length == self.width:
                    self.values[value.number] = (value, axis, start, len(runs) == 1)
            start += run.length

    def space(self) -> Space:
        """All but its name and whether it is a boundary."""
        return Space("", self.width, self.ports, self.unit, self._probe())

    def seen(self) -> tuple[Value, int, int, bool] | None:
        """The latest value that some module sees: rather of these features alone, rather a result of arithmetic."""
        visible = [each for each in self.values.values() if self.trace.sights.get(each[0].number)]
        return max(visible, key=lambda each: (each[3], each[0].made, each[0].number), default=None)

    def _probe(self) -> Probe | None:
        if (best := self.seen()) is None:
            return self._inside()
        value, axis, start, _ = best
        sights = self.trace.sights[value.number]
        inputs = [sight for sight in sights if sight.side == "input" and sight.module]
        sight = inputs[-1] if inputs else sights[-1]
        return Probe(sight.module, sight.side, axis, start)

    def _inside(self) -> Probe | None:
        """Heads of an attention that runs once: it uses its output projection without calling it."""
        once = {sight.module for sights in self.trace.sights.values() for sight in sights}
        for port in self.ports:
            name = port.tensor.removesuffix(".out_proj.weight")
            if port.role == "reads" and name in self.attentions & once:
                return Probe(name, "inside", -1, port.start)
        return None

    def block(self) -> str | None:
        """The outermost module whose output these features are, and in which they are written."""
        best = self.seen()
        sights: Iterable[Sight] = reversed(self.trace.sights[best[0].number]) if best else ()
        for sight in sights:
            inside = f"{sight.module}."
            if sight.side == "output" and sight.module and any(port.tensor.startswith(inside) for port in self.ports):
                return sight.module
        return None

    def writer(self) -> str:
        """The module of the weight that writes them last."""
        writes = [port for port in self.ports if port.role == "writes"] or list(self.ports)
        return writes[-1].tensor.rpartition(".")[0] or writes[-1].tensor


def _named(spaces: list[Space], found: list[_Found]) -> list[Space]:
    """Every space by the block it is the output of, else by its last writer; namesakes are numbered."""
    blocks = [each.block() for each in found]
    shared = Counter(blocks)
    names = [
        block if block and shared[block] == 1 else each.writer() for block, each in zip(blocks, found, strict=True)
    ]
    counts, seen = Counter(names), Counter[str]()
    named = []
    for space, name in zip(spaces, names, strict=True):
        seen[name] += 1
        named.append(replace(space, name=f"{name}#{seen[name]}" if counts[name] > 1 else name))
    return named
