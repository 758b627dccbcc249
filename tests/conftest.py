"""What all tests share: no network, few threads, and tiny models."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(min(2, torch.get_num_threads()))
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("default")


@pytest.fixture(scope="session")
def device() -> str:
    """The device under test: the environment variable MERGEKIT_NB_DEVICE, else the CPU."""
    return os.environ.get("MERGEKIT_NB_DEVICE") or "cpu"


@pytest.fixture
def base() -> dict[str, torch.Tensor]:
    """A small model's weights: a matrix, a bias, a scalar and an integer buffer."""
    g = torch.Generator().manual_seed(1)
    return {
        "stem.weight": torch.randn(5, 7, generator=g),
        "blocks.0.bias": torch.randn(6, generator=g),
        "blocks.1.scale": torch.randn((), generator=g),
        "blocks.1.steps": torch.tensor(4),
    }


@pytest.fixture
def experts(base) -> dict[str, dict[str, torch.Tensor]]:
    """Three experts fine-tuned from `base` by noise."""
    g = torch.Generator().manual_seed(2)

    def tuned() -> dict[str, torch.Tensor]:
        return {
            n: w + 0.1 * torch.randn(w.shape, generator=g) if w.is_floating_point() else w + 1 for n, w in base.items()
        }

    return {task: tuned() for task in ("mnist", "svhn", "cars")}
