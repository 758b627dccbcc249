"""Which device does the work."""

from __future__ import annotations

import os

import torch


def pick(device: str | torch.device = "auto") -> torch.device:
    """The device to compute on.

    "auto" is the environment variable MERGEKIT_NB_DEVICE where it is set, else CUDA where there is one, else the CPU.
    MPS is taken only by name: it has no float64, in which the evaluation and the similarity tables add up.

    Raises:
        ValueError: the device is not one of torch's, or is not here.
    """
    if str(device) == "auto":
        device = os.environ.get("MERGEKIT_NB_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'device "{device}" cannot be used here ({str(error).splitlines()[0]}); try device="cpu"'
        ) from None
    return chosen
