"""What passes through a network's modules, caught by hooks; and what a batch is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from mergekit_nb.models.gram import attention_output

Side = Literal["input", "output", "inside"]


@contextmanager
def watching(model: nn.Module, places: Mapping[str, tuple[str, Side]]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that holds, after each forward pass, what went into or came out of some modules.

    Args:
        places: key -> (module name, side). Of a module that runs more than once, the last pass is held. "inside" an
            attention is what its heads give, before they are projected.
    """
    caught: dict[str, Tensor] = {}
    with unfused(), ExitStack() as hooks:
        for key, (module, side) in places.items():
            hooks.callback(_hook(submodule(model, module), key, side, caught).remove)
        yield caught


@contextmanager
def unfused() -> Iterator[None]:
    """While it lasts, PyTorch runs attention module by module, not in one piece that no hook sees into."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def submodule(model: nn.Module, name: str) -> nn.Module:
    """A module inside another, by its dotted name.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ValueError(
            f"a {type(model).__name__} has no module {name!r}: these axes are of another network"
        ) from None


def _hook(module: nn.Module, key: str, side: Side, caught: dict[str, Tensor]):
    def entering(module, args, kwargs):
        caught[key] = (args[0] if args else next(iter(kwargs.values()))).detach()

    def mixing(module, args, kwargs):
        caught[key] = attention_output(module, args, kwargs).detach()

    def leaving(module, args, output):
        caught[key] = (output[0] if isinstance(output, tuple) else output).detach()

    if side != "output":
        return module.register_forward_pre_hook(entering if side == "input" else mixing, with_kwargs=True)
    return module.register_forward_hook(leaving)


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Models in eval mode, without gradients; each module's own mode is restored."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def inputs(batch: Tensor | Sequence[Tensor]) -> Tensor:
    """What a model is called with: the batch, or the first of (inputs, labels) as a DataLoader gives it.

    Raises:
        TypeError: neither of them.
    """
    x = batch[0] if isinstance(batch, list | tuple) and batch else batch
    if not isinstance(x, Tensor):
        raise TypeError(f"a batch is a tensor, or a pair (inputs, labels) of tensors; got {type(batch).__name__}")
    return x


def check_finite(weights: Mapping[str, Tensor], whose: str) -> None:
    """Refuse weights that are NaN or infinite: no feature could be told from another by them."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} of {whose} has entries that are NaN or infinite: a broken checkpoint")


def to_device_of(model: nn.Module, x: Tensor) -> Tensor:
    """A tensor where the model's parameters are."""
    first = next(model.parameters(), None)
    return x if first is None else x.to(first.device)


def several_times(batches: Iterable) -> Iterable:
    """Batches that can be gone through more than once.

    Raises:
        ValueError: a generator, which is empty after the first time.
        TypeError: one tensor, or nothing that can be gone through.
    """
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise TypeError(f"batches are a list of tensors or a DataLoader; got {type(batches).__name__}")
    if iter(batches) is batches:
        raise ValueError("batches are gone through more than once: pass a list or a DataLoader, not a generator")
    return batches
