"""Moments of the features of one or several networks on the same batches, space by space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from mergekit_nb.maths.moments import Moments, moments
from mergekit_nb.models.watch import evaluating, inputs, to_device_of, watching
from mergekit_nb.progress import Progress, ticker
from mergekit_nb.weights.axes import Axes, Space


def joint_moments(
    models: Sequence[nn.Module],
    batches: Iterable,
    axes: Axes,
    spaces: Sequence[str] | None = None,
    progress: Progress = False,
) -> dict[str, Moments]:
    """Moments of every space's features, those of all models stacked: model 0's first.

    The models run in eval mode, all on the same batch; only the sums are kept from one batch to the next, in float64.
    Every image weighs the same. A few hundred images suffice (Stoica et al. 2023, ZipIt!, arXiv:2305.03053, appendix B).

    Args:
        batches: tensors, or pairs (inputs, labels); one pass.
        axes: the spaces of the models' architecture.
        spaces: names of those to measure; by default all that have a probe.

    Returns:
        space -> `Moments` of "model * width" features.

    Raises:
        ValueError: no batch; an unknown space, or one without a probe; axes of another network.
    """
    measured = _measured(axes, spaces)
    total: dict[str, Moments] = {}
    with evaluating(*models), ExitStack() as stack, ticker(progress, len_or_0(batches), "features") as tick:
        places = {space.name: (space.probe.module, space.probe.side) for space in measured}
        caught = [stack.enter_context(watching(model, places)) for model in models]
        for batch in batches:
            x = inputs(batch)
            for model in models:
                model(to_device_of(model, x))
            for space in measured:
                features = torch.cat(
                    [_features(held[space.name], space).to(_home(held[space.name])) for held in caught]
                )
                found = moments(features, len(x))
                total[space.name] = total[space.name] + found if space.name in total else found
            tick(1)
    if measured and not total:
        raise ValueError("there is nothing to measure on: batches is empty")
    return total


def len_or_0(batches: Iterable) -> int:
    """How many batches there are, 0 where nobody knows."""
    return len(batches) if hasattr(batches, "__len__") else 0


def _measured(axes: Axes, names: Sequence[str] | None) -> list[Space]:
    if names is None:
        return [space for space in axes.spaces if space.probe]
    blind = [name for name in names if axes.space(name).probe is None]
    if blind:
        raise ValueError(f"the features of {', '.join(blind)} cannot be measured: no module sees them")
    return [axes.space(name) for name in names]


def _features(x: Tensor, space: Space) -> Tensor:
    """ "feature sample" of one space, out of what its probe saw."""
    if x.ndim <= space.probe.axis or x.shape[space.probe.axis] < space.probe.start + space.width:
        raise ValueError(
            f"the probe of {space.name} saw {tuple(x.shape)}, where {space.width} features were to be on axis "
            f"{space.probe.axis} from {space.probe.start} on: these axes are of another network"
        )
    return x.narrow(space.probe.axis, space.probe.start, space.width).movedim(space.probe.axis, 0).flatten(1)


def _home(x: Tensor) -> torch.device:
    """Where sums in float64 are kept: the features' device, or the CPU where that has no float64."""
    return torch.device("cpu") if x.device.type == "mps" else x.device
