"""Which axes of which tensors move together, and the weights after they have moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mergekit_nb.weights.source import Source

Role = Literal["writes", "reads", "scales"]


@dataclass(frozen=True)
class Port:
    """One axis of one tensor that carries a space's features.

    Attributes:
        tensor, axis: its name in the state dict, and which of its axes, from 0.
        role: "writes": the output axis of a weight matrix, its bias, what is added (an embedding); "reads": the input
            axis of a weight matrix; "scales": one entry per feature (norms, running statistics, depthwise kernels).
        start: where the features begin on that axis (concatenations, fused q, k and v).
        repeat: consecutive entries that one feature fills (h * w after a flatten of "c h w").
    """

    tensor: str
    axis: int
    role: Role
    start: int = 0
    repeat: int = 1


@dataclass(frozen=True)
class Probe:
    """Where a space's features are measured.

    Attributes:
        module: a submodule by name, as in `named_modules`; it is called once per forward pass.
        side: whether its first input or its output is looked at, or what the heads of an attention give "inside" it.
        axis: the axis of that tensor that holds the features; -1 is the last.
        start: where they begin on that axis.
    """

    module: str
    side: Literal["input", "output", "inside"]
    axis: int = 1
    start: int = 0


@dataclass(frozen=True)
class Space:
    """Features that share one axis map.

    Attributes:
        name: the block whose output it is, or the weight that writes it last.
        width: number of features.
        ports: every axis of every tensor that carries it.
        unit: features move in blocks of this many (attention heads, groups).
        probe: where to measure; None where no module sees the features.
        boundary: the network can be cut here: all that comes later depends on these features only.
    """

    name: str
    width: int
    ports: tuple[Port, ...]
    unit: int = 1
    probe: Probe | None = None
    boundary: bool = False


@dataclass(frozen=True)
class Axes:
    """The spaces of one architecture, in the order in which they are complete in a forward pass."""

    spaces: tuple[Space, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all spaces."""
        return tuple(space.name for space in self.spaces)

    @property
    def boundaries(self) -> tuple[str, ...]:
        """The names of the spaces at which the network can be cut."""
        return tuple(space.name for space in self.spaces if space.boundary)

    def space(self, name: str) -> Space:
        """One space by its name.

        Raises:
            ValueError: there is none of that name; the message lists them.
        """
        for space in self.spaces:
            if space.name == name:
                return space
        raise ValueError(f"there is no space {name!r}; the spaces are {', '.join(self.names)}")


def permuted(weights: Source, axes: Axes, order: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same network with its features in another order: the function does not change.

    Args:
        order: space -> int64 "feature", where the feature at each new place was before; spaces left out stay.

    Raises:
        ValueError: an unknown space; no permutation of its features; one that tears its blocks apart.
    """
    pieces: dict[str, Callable] = {}
    for name, places in order.items():
        places = torch.as_tensor(places)
        _check_order(axes.space(name), places)
        pieces[name] = lambda piece, role, places=places: piece.index_select(1, places.to(piece.device))
    return _moved(weights, axes, pieces)


def mapped(weights: Source, axes: Axes, maps: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The network seen through a pair of matrices per space: W <- M W where it is written, W <- W U where it is read.

    Source: Stoica et al. 2023, ZipIt!, arXiv:2305.03053; what scales a feature is mapped as what writes it,
    running variances too, as in the authors' code.

    Args:
        maps: space -> (M "new old", U "old new"); spaces left out stay.

    Raises:
        ValueError: an unknown space; matrices that do not fit its width.
    """
    pieces: dict[str, Callable] = {}
    for name, (merge, unmerge) in maps.items():
        _check_maps(axes.space(name), merge, unmerge)
        pieces[name] = lambda piece, role, m=merge, u=unmerge: _through(u.mT if role == "reads" else m, piece)
    return _moved(weights, axes, pieces)


def _through(matrix: Tensor, piece: Tensor) -> Tensor:
    wide = torch.promote_types(torch.promote_types(piece.dtype, matrix.dtype), torch.float32)
    made = torch.einsum("nf,aftb->antb", matrix.to(piece.device, wide), piece.to(wide))
    return made.to(piece.dtype)


def _moved(weights: Source, axes: Axes, pieces: Mapping[str, Callable]) -> dict[str, Tensor]:
    """`pieces[space]` takes "before feature repeat after" and the role, and gives the like."""
    at: dict[tuple[str, int], list[tuple[Port, Space]]] = {}
    for space in axes.spaces:
        for port in space.ports:
            if space.name in pieces:
                at.setdefault((port.tensor, port.axis), []).append((port, space))
    moved = {name: weights[name].detach() for name in weights}
    for (name, axis), ports in at.items():
        if name not in moved:
            raise ValueError(f"the space {ports[0][1].name} has a port on {name}, which these weights lack")
        moved[name] = _along(moved[name], axis, sorted(ports, key=lambda pair: pair[0].start), pieces)
    return moved


def _along(tensor: Tensor, axis: int, ports: list[tuple[Port, Space]], pieces: Mapping[str, Callable]) -> Tensor:
    parts, done = [], 0
    for port, space in ports:
        length = space.width * port.repeat
        if port.start + length > tensor.shape[axis]:
            raise ValueError(
                f"{port.tensor} {tuple(tensor.shape)} is too short for the space {space.name} on axis {axis}: "
                f"it needs {port.start + length} entries there"
            )
        piece = tensor.narrow(axis, port.start, length).movedim(axis, 0)
        rest = piece.shape[1:]
        made = pieces[space.name](piece.reshape(1, space.width, port.repeat, -1), port.role)
        parts += [tensor.narrow(axis, done, port.start - done), made.reshape(-1, *rest).movedim(0, axis)]
        done = port.start + length
    return torch.cat([*parts, tensor.narrow(axis, done, tensor.shape[axis] - done)], axis).contiguous()


def _check_order(space: Space, places: Tensor) -> None:
    if places.shape != (space.width,) or not torch.equal(places.sort().values.cpu(), torch.arange(space.width)):
        raise ValueError(f"the order of {space.name} is no permutation of its {space.width} features")
    blocks = places.reshape(-1, space.unit).cpu()
    if not torch.equal(blocks, blocks[:, :1] + torch.arange(space.unit)) or (blocks[:, 0] % space.unit).any():
        raise ValueError(f"the order of {space.name} tears blocks apart: its features move {space.unit} at a time")


def _check_maps(space: Space, merge: Tensor, unmerge: Tensor) -> None:
    if merge.ndim != 2 or unmerge.shape != (space.width, merge.shape[0]) or merge.shape[1] != space.width:
        raise ValueError(
            f"the maps of {space.name} are M (new, {space.width}) and U ({space.width}, new); "
            f"got {tuple(merge.shape)} and {tuple(unmerge.shape)}"
        )
