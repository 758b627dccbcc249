"""Hashes of weights: the same for a file, a dict and a module, and had from pieces, while they are read for a merge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod
from typing import Literal, get_args

import numpy as np
import torch
import xxhash
from torch import Tensor

from mergekit_nb.weights.source import Source, dtype_of, entries, shape_of

Digest = Literal["xxh3_128", "sha256"]
DIGESTS: tuple[Digest, ...] = get_args(Digest)
HASHED = 1 << 16  # entries under one hash; the pieces of a merge begin at multiples of it


def digest_of(hashes: bool | str) -> Digest | None:
    """The hash that is meant by True (128 bits of XXH3), "sha256" or False (none).

    XXH3 costs next to nothing and tells any two checkpoints apart that nobody made to deceive; SHA-256 those as well.
    """
    if hashes in (True, False):
        return "xxh3_128" if hashes else None
    if hashes in DIGESTS:
        return hashes
    raise ValueError(f'hashes is True, False or "sha256"; got {hashes!r}')


def digest(kind: Digest, content: bytes | np.ndarray) -> bytes:
    """The hash of some bytes."""
    return hashlib.sha256(content).digest() if kind == "sha256" else xxhash.xxh3_128_digest(content)


def hashes(flat: Tensor, kind: Digest) -> bytes:
    """The hashes of every 65 536 entries that follow each other, joined.

    Pieces of a tensor that begin at multiples of 65 536 give pieces of its hashes, in any order and on any machine.
    """
    return b"".join(digest(kind, part) for part in parts_of(flat))


def parts_of(flat: Tensor) -> list[np.ndarray]:
    """The bytes of every 65 536 entries that follow each other; not copied where they lie on the CPU, one after the other."""
    raw = flat.detach().cpu().contiguous().view(torch.uint8).numpy()
    step = HASHED * flat.element_size()
    return [raw[i : i + step] for i in range(0, len(raw), step)]


def fingerprint(source: Source, kind: Digest = "xxh3_128", known: Mapping[str, str] | None = None) -> str:
    """The hash over names, dtypes, shapes and `hashes` of all tensors, by name.

    Args:
        known: the hash of the `hashes` of tensors that were read already, in hex; the others are read, some at a time.
    """
    said = []
    for name in sorted(source):
        shape = shape_of(source, name)
        found = (known or {}).get(name) or digest(kind, _hashes_of(source, name, prod(shape), kind)).hex()
        said.append(f"{name}\0{dtype_of(source, name)}\0{tuple(shape)}\0{found}\0")
    return digest(kind, "".join(said).encode()).hex()


def _hashes_of(source: Source, name: str, size: int, kind: Digest, step: int = 16 * HASHED) -> bytes:
    return b"".join(hashes(entries(source, name, i, min(i + step, size)), kind) for i in range(0, size, step))
