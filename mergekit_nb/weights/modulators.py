"""What one task adds to a shared vector: a mask at one bit per entry and one scale, or a matrix of low rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

BITS = torch.arange(
    8, dtype=torch.uint8
)  # entry i of a byte is bit i: little-endian, as numpy.packbits(bitorder="little")


def pack(mask: Bool[Tensor, "*shape"]) -> UInt8[Tensor, " byte"]:
    """Eight entries to a byte, row-major, the first entry in the lowest bit; the last byte is filled with zeros."""
    flat = mask.flatten().to(torch.uint8)
    filled = torch.cat([flat, flat.new_zeros(-len(flat) % 8)]).reshape(-1, 8)
    return (filled << BITS.to(flat.device)).sum(1, dtype=torch.uint8)


def unpack(packed: UInt8[Tensor, " byte"], shape: tuple[int, ...]) -> Bool[Tensor, "*shape"]:
    """The mask that `pack` packed."""
    flat = ((packed[:, None] >> BITS.to(packed.device)) & 1).flatten()
    return flat[: prod(shape)].reshape(shape).bool()


@dataclass(frozen=True)
class Bits(Mapping[str, Tensor]):
    """Masks by tensor name, kept at one bit per entry and unpacked when asked for.

    Attributes:
        packed: name -> bytes.
        shapes: name -> shape of the mask.
    """

    packed: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]

    def __getitem__(self, name: str) -> Tensor:
        return unpack(self.packed[name], tuple(self.shapes[name]))

    def __contains__(self, name: object) -> bool:
        return name in self.packed

    def __iter__(self) -> Iterator[str]:
        return iter(self.packed)

    def __len__(self) -> int:
        return len(self.packed)


@dataclass(frozen=True)
class Masked:
    """One task's share of a shared vector: scale * mask * vector.

    Attributes:
        mask: tensor name -> bool tensor.
        scale: the task's rescaler.
        own: tensors this task brings itself (a head of its own, say).
        factors: none.
    """

    mask: Mapping[str, Tensor]
    scale: float
    own: Mapping[str, Tensor]
    factors: ClassVar[Mapping[str, tuple[Tensor, Tensor]]] = MappingProxyType({})

    def apply(self, name: str, vector: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The task's own vector at one tensor."""
        if name in self.mask:
            vector = torch.where(self.mask[name].to(vector.device), vector, torch.zeros_like(vector))
        return vector * self.scale


@dataclass(frozen=True)
class LowRank:
    """One task's own vector beside the shared one, in factors: vector + left @ right.

    Attributes:
        factors: tensor name -> left `out rank` and right `rank in`.
        own: tensors this task brings itself.
        mask, scale: no masks, and 1.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    own: Mapping[str, Tensor]
    mask: ClassVar[Mapping[str, Tensor]] = MappingProxyType({})
    scale: ClassVar[float] = 1.0

    def apply(self, name: str, vector: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The task's own vector at one tensor."""
        if name not in self.factors:
            return vector
        left, right = (factor.to(vector) for factor in self.factors[name])
        return vector + left @ right
