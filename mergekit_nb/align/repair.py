"""REPAIR: give an averaged network's features back the mean and spread they had; and batch norm's statistics, re-estimated."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from mergekit_nb.maths import repair as maths
from mergekit_nb.maths.moments import Moments, moments
from mergekit_nb.models.axes import derive
from mergekit_nb.models.gram import LAYERS
from mergekit_nb.models.watch import evaluating, inputs, several_times, to_device_of, watching
from mergekit_nb.weights.axes import Axes

How = Literal["measured", "closed form"]


def reset(model: nn.Module, batches: Iterable) -> nn.Module:
    """Re-estimate the statistics of every batch norm, in place: the plain mean over batches. Hands the model back.

    The model runs once over the batches in train mode (dropout too) and without gradients; its mode is restored.

    Args:
        batches: tensors, or pairs (inputs, labels), of more than one example each.

    Raises:
        ValueError: no batch.

    Source: what ZipIt!'s and REPAIR's code do after merging; done here by torch.optim.swa_utils.update_bn.
    """
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return model
    if next(iter(several_times(batches)), None) is None:
        raise ValueError("batch norm's statistics cannot be re-estimated: batches is empty")
    update_bn((to_device_of(model, inputs(batch)) for batch in batches), model)
    return model


def repair(
    merged: nn.Module,
    ends: Sequence[nn.Module],
    batches: Iterable,
    alpha: float = 0.5,
    how: How = "measured",
    axes: Axes | None = None,
) -> nn.Module:
    """A copy of an averaged network whose hidden features have the mean and spread of those it was averaged from.

    A network with batch norm gets its statistics re-estimated, which is the same correction. In any other, every linear
    and convolutional layer that writes hidden features is scaled and shifted.

    Args:
        merged: (1 - alpha) of the first of `ends`, alpha of the second, after they were aligned.
        batches: tensors, or pairs (inputs, labels), of more than one example each.
        how: "measured": the merged network runs, each layer seeing what the repaired ones before it give. "closed form":
            only `ends` run; the spread follows from theirs and from how correlated they are, which is exact in the
            first layer only.
        axes: the spaces; by default derived from the first batch.

    Raises:
        ValueError: not two ends; no batch.

    Source: Jordan et al. 2023, REPAIR, arXiv:2211.08403.
    """
    if len(ends) != 2:
        raise ValueError(f"REPAIR looks between two networks; got {len(ends)}")
    if how not in ("measured", "closed form"):
        raise ValueError(f'how is "measured" or "closed form"; got {how!r}')
    mended = copy.deepcopy(merged)
    if any(isinstance(module, _BatchNorm) for module in mended.modules()):
        return reset(mended, batches)
    head = next(iter(several_times(batches)), None)
    if head is None:
        raise ValueError("there is nothing to measure on: batches is empty")
    layers = hidden(mended, axes or derive(mended, to_device_of(mended, inputs(head)[:1])))
    if how == "closed form":
        _closed_form(mended, layers, ends, batches, alpha)
    else:
        _measured(mended, layers, ends, batches, alpha)
    return mended


def hidden(model: nn.Module, axes: Axes) -> list[str]:
    """The linear and convolutional layers that write a space, in the order of the model's modules."""
    written = {port.tensor for space in axes.spaces for port in space.ports if port.role == "writes"}
    inside = {f"{name}.out_proj" for name, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)}
    return [
        name for name, m in model.named_modules()
        if isinstance(m, LAYERS) and f"{name}.weight" in written and name not in inside
    ]  # fmt: skip


def _measured(merged: nn.Module, layers: list[str], ends: Sequence[nn.Module], batches: Iterable, alpha: float) -> None:
    tracked = [_tracked(end, layers, batches) for end in ends]
    goals = {}
    for name in layers:
        mean, std = (torch.stack([getattr(t[name], s) for t in tracked]) for s in ("running_mean", "running_var"))
        goals[name] = maths.between(mean, alpha), maths.between(std.sqrt(), alpha)
    norms = _tracked(merged, layers, batches, goals)
    for name in layers:
        _fuse(
            merged.get_submodule(name), *maths.affine(norms[name].running_mean, norms[name].running_var, *goals[name])
        )


def _closed_form(
    merged: nn.Module, layers: list[str], ends: Sequence[nn.Module], batches: Iterable, alpha: float
) -> None:
    for name, found in _joint(ends, layers, batches).items():
        layer = merged.get_submodule(name)
        covariance, c = found.covariance(), len(found.mean) // 2
        std = covariance.diagonal().sqrt().reshape(2, c)
        correlation = covariance[:c, c:].diagonal() / (std[0] * std[1]).clamp(min=1e-7)
        mean = maths.between(found.mean.reshape(2, c), alpha)
        variance = maths.averaged_variance(std, correlation, alpha)
        _fuse(layer, *maths.affine(mean, variance, mean, maths.between(std, alpha)))


def _fuse(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    weight, bias = maths.fused(layer.weight.detach(), layer.bias, scale.to(layer.weight), shift.to(layer.weight))
    layer.weight.data = weight
    layer.bias = nn.Parameter(bias.detach())


def _tracked(
    model: nn.Module, layers: list[str], batches: Iterable, goals: dict | None = None
) -> dict[str, nn.BatchNorm1d]:
    """A batch norm per layer that has seen its outputs; given goals (mean, std), what follows sees outputs of these."""
    norms = {name: _norm(model.get_submodule(name)) for name in layers}
    with evaluating(model), ExitStack() as stack:
        for name, norm in norms.items():
            hook = model.get_submodule(name).register_forward_hook(_corrected(norm, goals and goals[name]))
            stack.callback(hook.remove)
        for batch in batches:
            model(to_device_of(model, inputs(batch)))
    return norms


def _norm(layer: nn.Module) -> nn.BatchNorm1d:
    """It normalises by the batch, and keeps the plain mean of what it saw."""
    return nn.BatchNorm1d(len(layer.weight), maths.EPSILON, momentum=None, affine=False).to(layer.weight)


def _corrected(norm: nn.BatchNorm1d, goal: tuple[Tensor, Tensor] | None):
    def hook(layer: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        axis = 1 if isinstance(layer, nn.Conv1d | nn.Conv2d) else -1
        samples = output.movedim(axis, -1)
        normed = norm(samples.reshape(-1, samples.shape[-1]))
        if goal is None:
            return None
        mean, std = goal
        return (normed * std + mean).reshape(samples.shape).movedim(-1, axis)

    return hook


def _joint(ends: Sequence[nn.Module], layers: list[str], batches: Iterable) -> dict[str, Moments]:
    """Moments of every layer's outputs, the second network's after the first's."""
    total: dict[str, Moments] = {}
    with evaluating(*ends), ExitStack() as stack:
        caught = [stack.enter_context(watching(end, {name: (name, "output") for name in layers})) for end in ends]
        for batch in batches:
            x = inputs(batch)
            for end in ends:
                end(to_device_of(end, x))
            for name in layers:
                axis = 1 if isinstance(ends[0].get_submodule(name), nn.Conv1d | nn.Conv2d) else -1
                found = moments(torch.cat([held[name].movedim(axis, 0).flatten(1) for held in caught]), len(x))
                total[name] = total[name] + found if name in total else found
    return total
