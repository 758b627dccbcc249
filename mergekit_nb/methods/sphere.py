"""What the spherical methods share: whether points on the sphere are weights or task vectors."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.weights.site import Site

On = Literal["weights", "task vectors"]


def origin(site: Site, taus: Float[Tensor, "task *shape"], on: On) -> Float[Tensor, "*shape"]:
    """What is added to a task vector to give the point that is merged, in float64: the base's weights, or zeros."""
    wide = taus[0].double()
    return site.base(wide) if on == "weights" else torch.zeros_like(wide)


def agreed(taus: Float[Tensor, "task *shape"]) -> bool:
    """Whether all tasks are the same to the bit: any mean of them is that one, and rounding should not say otherwise."""
    return bool((taus == taus[:1]).all())


def shares(weights: tuple[float, ...] | None, taus: Float[Tensor, "task *shape"]) -> Float[Tensor, " task"]:
    """The weights divided by their sum, float64; None is the same for all."""
    given = torch.tensor(weights or [1.0] * len(taus), dtype=torch.float64, device=taus.device)
    return given / given.sum()


def check_sum(label: str, weights: tuple[float, ...] | None) -> None:
    """Refuse weights that cannot be divided by their sum."""
    if weights is not None and abs(sum(weights)) < 1e-6:
        raise ValueError(
            f"{label}.weights add up to {sum(weights):g}; they are divided by their sum, which cannot be 0"
        )
