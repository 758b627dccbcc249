"""The exact diagonal of the Fisher information of a classifier: per example, per class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

Predict = Callable[[nn.Module, Tensor], Tensor]  # (model, inputs "example ...") -> logits "example class"
GRADIENTS = 1 << 26  # entries of per-example gradients held at once


def diagonal(model: nn.Module, x: Tensor, predict: Predict | None = None) -> dict[str, Tensor]:
    """Sum over examples of sum_c p(c|x) (d log p(c|x) / d theta)^2, for every trainable parameter.

    The expectation over classes is taken, not sampled, and each example's gradient squared by itself: squaring a
    batch's gradient, as some code does, is no Fisher information. It costs one backward pass per example and class.

    Args:
        x: examples, first axis; the model is expected in eval mode.
        predict: the model's logits "example class"; by default its output.

    Raises:
        ValueError: the logits are not "example class".

    Source: Matena and Raffel 2022, arXiv:2111.09832; held to a golden vector of its authors' code.
    """
    logits = Logits(model, predict or (lambda module, inputs: module(inputs)))
    weights = {name: p.detach() for name, p in logits.named_parameters() if p.requires_grad}
    shares = _shares(logits, x)
    score = vmap(grad(_log_probability), in_dims=(None, None, 0, None), chunk_size=_chunk(weights))
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    with sdpa_kernel(SDPBackend.MATH):  # the fused attentions have no batched derivative
        for label, share in enumerate(shares.T):
            for name, gradient in score(weights, logits, x[:, None], label).items():
                total[name] += torch.einsum("e,e...->...", share, gradient.square())
    return {name.removeprefix("model."): fisher for name, fisher in total.items()}


class Logits(nn.Module):
    """A model whose forward pass gives logits."""

    def __init__(self, model: nn.Module, predict: Predict):
        super().__init__()
        self.model, self.predict = model, predict

    def forward(self, x: Tensor) -> Tensor:
        return self.predict(self.model, x)


def _shares(logits: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out = logits(x)
    if out.shape != (len(x), out.shape[-1]):
        raise ValueError(
            f'a Fisher diagonal needs logits "example class"; the model gives {tuple(out.shape)} for {len(x)} examples'
        )
    return out.softmax(-1)


def _log_probability(weights: dict[str, Tensor], logits: nn.Module, example: Tensor, label: int) -> Tensor:
    return functional_call(logits, weights, (example,))[0].log_softmax(-1)[label]


def _chunk(weights: dict[str, Tensor]) -> int:
    return max(1, GRADIENTS // max(1, sum(weight.numel() for weight in weights.values())))
