"""Random numbers keyed by (seed, task, tensor name): the same whatever the order, the device or the slicing."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 4  # 64-bit words a Philox counter step gives


def uniform(seed: int, task: str, name: str, start: int, stop: int) -> Float[Tensor, " n"]:
    """Entries start..stop of the endless uniform sequence of this (seed, task, name), in [0, 1), float64.

    Counter-based (Philox, Salmon et al. 2011), so any stretch is drawn without the ones before it. On the CPU.
    """
    digest = hashlib.sha256(f"{seed}\0{task}\0{name}".encode()).digest()
    source = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    source.advance(start // BLOCK)
    words = source.random_raw(start % BLOCK + stop - start)[start % BLOCK :]
    return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)
