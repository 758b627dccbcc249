"""One pass over batches: Gram matrices, Fisher diagonals and moments of a model, as tensors by name that can be saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from mergekit_nb.maths.moments import Moments
from mergekit_nb.models.axes import derive
from mergekit_nb.models.fisher import Predict, diagonal
from mergekit_nb.models.gram import LAYERS, attention_output, gram, rows
from mergekit_nb.models.moments import joint_moments, len_or_0
from mergekit_nb.models.watch import evaluating, inputs, to_device_of
from mergekit_nb.progress import Progress, ticker
from mergekit_nb.weights.axes import Axes

What = Literal["gram", "fisher", "moments"]


def collect(
    model: nn.Module,
    batches: Iterable,
    what: Set[What] = frozenset({"gram"}),
    axes: Axes | None = None,
    predict: Predict | None = None,
    progress: Progress = False,
) -> dict[str, Tensor]:
    """What data-driven methods need to know of a model on data: a source, to be saved and used again.

    The model runs in eval mode and is left as it was.

    Args:
        batches: tensors, or pairs (inputs, labels) of which the labels are not used; one pass.
        what: "gram": for every weight of a Linear, Conv1d, Conv2d or self-attention `gram/<weight>`, the sum of v v^T over the
            vectors the weight is multiplied with (tokens, patches), "in in" ("group in in" for grouped convolutions), and
            `count/<weight>`, how many there were. "fisher": for every trainable parameter `fisher/<parameter>`, its exact
            diagonal Fisher information, the mean over examples. "moments": for every space `mean/<space>` and
            `variance/<space>`, "feature".
        axes: the spaces, for "moments"; by default derived from the model.
        predict: (model, inputs) -> logits, for "fisher"; by default the model's output.

    Returns:
        name -> tensor on the CPU; float64, Fisher diagonals in the parameter's dtype.

    Raises:
        ValueError: an unknown `what`; no batch; a cross-attention (its three inputs have no one Gram matrix).
    """
    unknown = set(what) - {"gram", "fisher", "moments"}
    if unknown or not what:
        raise ValueError(f'what is some of "gram", "fisher", "moments"; got {", ".join(sorted(unknown)) or "nothing"}')
    sums, seen = _Sums(model, frozenset(what), axes, predict), 0
    with evaluating(model), ticker(progress, len_or_0(batches), "collect") as tick:
        for batch in batches:
            x = to_device_of(model, inputs(batch))
            sums.add(x)
            seen += len(x)
            tick(1)
    if not seen:
        raise ValueError("there is nothing to collect from: batches is empty")
    return {name: tensor.cpu() for name, tensor in sums.found(seen).items()}


class _Sums:
    """What adds up over batches."""

    def __init__(self, model: nn.Module, what: Set[What], axes: Axes | None, predict: Predict | None):
        self.model, self.what, self.axes, self.predict = model, what, axes, predict
        self.grams: dict[str, Tensor] = {}
        self.fishers: dict[str, Tensor] = {}
        self.features: dict[str, Moments] = {}

    def add(self, x: Tensor) -> None:
        """One batch."""
        if "gram" in self.what:
            with _gramming(self.model, self.grams):
                self.model(x) if self.predict is None else self.predict(self.model, x)
        if "fisher" in self.what:
            for name, fisher in diagonal(self.model, x, self.predict).items():
                _add(self.fishers, name, fisher)
        if "moments" in self.what:
            self.axes = self.axes or derive(self.model, x[:1])
            for name, moments in joint_moments([self.model], [x], self.axes).items():
                _add(self.features, name, moments)

    def found(self, examples: int) -> dict[str, Tensor]:
        """The tensors by name, after so many examples."""
        means = {f"mean/{name}": m.mean for name, m in self.features.items()}
        variances = {f"variance/{name}": m.covariance().diagonal().clone() for name, m in self.features.items()}
        fishers = {f"fisher/{name}": fisher / examples for name, fisher in self.fishers.items()}
        return self.grams | fishers | means | variances


def _add(sums: dict, name: str, value: Tensor | Moments) -> None:
    sums[name] = sums[name] + value if name in sums else value


@contextmanager
def _gramming(model: nn.Module, sums: dict[str, Tensor]) -> Iterator[None]:
    """While it is open, every forward pass adds to the Gram matrices."""
    hooks = [
        layer.register_forward_pre_hook(_gram_hook(name, sums), with_kwargs=True)
        for name, layer in model.named_modules()
        if isinstance(layer, (*LAYERS, nn.MultiheadAttention))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gram_hook(name: str, sums: dict[str, Tensor]):
    def add(weight: str, vectors: Tensor) -> None:
        found = gram(vectors)
        _add(sums, f"gram/{name}.{weight}", found[0] if len(found) == 1 else found)
        _add(sums, f"count/{name}.{weight}", torch.tensor(vectors.shape[2], dtype=torch.float64))

    def hook(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        if not isinstance(layer, nn.MultiheadAttention):
            return add("weight", rows(layer, args[0] if args else next(iter(kwargs.values()))))
        query, key = [*args, *(kwargs[k] for k in ("query", "key") if k in kwargs)][:2]
        if layer.in_proj_weight is None or query is not key:
            raise ValueError(
                f"{name} is a cross-attention: queries and keys have no one Gram matrix; only self-attention is supported"
            )
        add("in_proj_weight", query.reshape(-1, query.shape[-1]).T[None])
        mixed = attention_output(layer, args, kwargs)
        return add("out_proj.weight", mixed.reshape(-1, mixed.shape[-1]).T[None])

    return hook
