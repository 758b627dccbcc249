"""A model's task vectors as one long row each, and back."""

from __future__ import annotations

import numpy as np


def flat(taus: dict[str, np.ndarray]) -> np.ndarray:
    """All tensors of all tasks: task, entry."""
    return np.concatenate([tau.reshape(len(tau), -1) for tau in taus.values()], axis=1)


def unflat(vector: np.ndarray, taus: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A flat vector cut back into tensors."""
    out, at = {}, 0
    for name, tau in taus.items():
        size = int(np.prod(tau.shape[1:]))
        out[name] = vector[at : at + size].reshape(tau.shape[1:])
        at += size
    return out
