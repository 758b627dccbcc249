"""One pass over batches: Gram matrices, Fisher diagonals and moments of a model, as tensors by name that can be saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

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
    sums: dict[str, Tensor] = {}
    seen, features = 0, {}
    with evaluating(model), ticker(progress, len_or_0(batches), "collect") as tick:
        for batch in batches:
            x = to_device_of(model, inputs(batch))
            seen += len(x)
            if "gram" in what:
                with _gramming(model, sums):
                    model(x) if predict is None else predict(model, x)
            if "fisher" in what:
                for name, fisher in diagonal(model, x, predict).items():
                    _add(sums, f"fisher/{name}", fisher)
            if "moments" in what:
                axes = axes or derive(model, x[:1])
                for name, found in joint_moments([model], [x], axes).items():
                    features[name] = features[name] + found if name in features else found
            tick(1)
    if not seen:
        raise ValueError("there is nothing to collect from: batches is empty")
    for name, found in features.items():
        sums |= {f"mean/{name}": found.mean, f"variance/{name}": found.covariance().diagonal().clone()}
    return {name: (t / seen if name.startswith("fisher/") else t).cpu() for name, t in sums.items()}


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
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
