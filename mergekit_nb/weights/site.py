"""Where one tensor lives: its name, its shape, and the layer it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from torch import Tensor

INDEXED = re.compile(r"^(?:(?P<path>.*?)\.)?(?P<index>\d+)(?:\.|$)")
HEAD = re.compile(
    r"(^|\.)(proj|ln_post|ln_final|text_projection|logit_scale|head|classifier|lm_head|score|pooler|fc|norm|ln_f)(\.|$)"
)


@dataclass(frozen=True)
class Block:
    """One of a tower's repeated blocks.

    Attributes:
        tower: what comes before the number in its tensors' names.
        index, count: which of how many, from 0 in the order of the numbers.
    """

    tower: str
    index: int
    count: int


@dataclass(frozen=True)
class Site:
    """One tensor of the model that is merged.

    Attributes:
        name: its name in the state dict.
        shape: its shape, without the task axis.
        tasks: the names of the tasks, in the order of the task axis.
        block: which repeated block of the model it lies in; None outside, and where nobody asked.
        source: the base's weights, for methods that look at weights and not at task vectors alone.
        experts: the experts' weights, where the task vectors are still theirs.
        start: of a piece of the tensor, its first entry's number in the whole, row-major; `shape` is then the piece's.
    """

    name: str
    shape: tuple[int, ...]
    tasks: tuple[str, ...]
    block: Block | None = None
    source: Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)
    experts: Mapping[str, Mapping[str, Tensor]] | None = field(default=None, compare=False, repr=False)
    start: int = 0

    @property
    def size(self) -> int:
        """Number of entries here: of the piece, where it is one."""
        return prod(self.shape)

    def base(self, like: Tensor) -> Tensor:
        """The base's weights `*shape`, with the dtype and on the device of `like`.

        Raises:
            ValueError: there are none here: the task vectors are seen in another basis.
        """
        if self.source is None:
            raise ValueError(f"{self.name}: this method looks at weights, so it cannot work in another method's basis")
        return self.source[self.name].detach().to(like)

    def factors(self, like: Tensor) -> list[tuple[Tensor, Tensor]] | None:
        """Per task the factors `out rank` and `rank in` of its vector, where all experts are adapters that change this matrix."""
        found = [getattr(self.experts[task], "factors", None) for task in self.tasks] if self.experts else [None]
        pairs = [factors(self.name, like) if factors else None for factors in found]
        return None if None in pairs else pairs

    def piece(self, start: int, stop: int) -> Site:
        """Entries start..stop of this tensor, as a flat tensor of their own."""
        return replace(self, shape=(stop - start,), start=start)


def layer_of(name: str) -> str:
    """The layer a tensor belongs to, from its name: "stem", "block 3", "layer2.0", "head".

    The first number in the dotted name counts; a container that is numbered itself (`layer2`) keeps its name.
    """
    found = INDEXED.match(name)
    if not found:
        return "head" if HEAD.search(name) else "stem"
    container = (found["path"] or "").rpartition(".")[2]
    return f"{container}.{found['index']}" if container[-1:].isdigit() else f"block {found['index']}"


def layers(names: Iterable[str]) -> dict[str, list[str]]:
    """The layers of a model and their tensors, in the order a forward pass meets them: stem, blocks, head.

    Two towers (`visual.transformer`, `transformer`) are kept apart by the path of their blocks.
    """
    names = list(names)
    paths = {
        found["path"] or "" for name in names if (found := INDEXED.match(name)) and layer_of(name).startswith("block ")
    }
    groups: dict[str, list[str]] = {}
    for name in names:
        label, found = layer_of(name), INDEXED.match(name)
        if len(paths) > 1 and label.startswith("block "):
            label = f"{found['path'] or ''} {found['index']}".strip()
        groups.setdefault(label, []).append(name)
    return dict(sorted(groups.items(), key=lambda item: _order(item[0])))


def blocks(names: Iterable[str]) -> dict[str, Block]:
    """The block of every tensor that lies in one, by the first number in its name; two towers are counted apart."""
    found = {name: place for name in names if (place := INDEXED.match(name))}
    towers: dict[str, set[int]] = {}
    for place in found.values():
        towers.setdefault(place["path"] or "", set()).add(int(place["index"]))
    order = {tower: sorted(indices) for tower, indices in towers.items()}
    return {
        name: Block(tower := place["path"] or "", order[tower].index(int(place["index"])), len(order[tower]))
        for name, place in found.items()
    }


def _order(label: str) -> tuple:
    place = {"stem": 0, "head": 2}.get(label, 1)
    return place, [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", label)]
