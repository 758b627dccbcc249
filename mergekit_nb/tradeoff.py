"""What a zip is worth and what it costs, as its boundary moves through the networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd
from torch import Tensor, nn

from mergekit_nb.align.zipit import zipit
from mergekit_nb.evaluation.joint import joint
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.models.axes import derive
from mergekit_nb.models.flops import flops
from mergekit_nb.progress import Progress, ticker

METHODS = {"zip": "zip", "permute": "permute", "average": "identity"}  # name in the table -> `matching` of `zipit`


def tradeoff(
    networks: Mapping[str, nn.Module],
    tasks: Mapping[str, Task],
    batches: Sequence[Tensor],
    *,
    alpha: float = 0.3,
    beta: float = 0.125,
    methods: Iterable[str] = tuple(METHODS),
    scale: float = 100.0,
    split: str = "test",
    limit: int | None = None,
    progress: Progress = False,
) -> pd.DataFrame:
    """Accuracy and cost of the ensemble, of every network alone, and of zips up to every boundary.

    Args:
        networks: by name; of one architecture.
        tasks: one for each network, in the same order, such as `Strangers.tasks_of`.
        batches: unlabelled pictures of all tasks, for the matching and for batch norm's statistics.
        alpha, beta: of `mk.zipit`.
        methods: some of `METHODS`.
        scale, split, limit: of `mk.joint`.
        progress: counts models.

    Returns:
        Columns method, boundary ("nothing" is shared, up to which space, or "all"; for a network alone its name), flops
        (operations for one picture), and those of `mk.joint`, a row for "joint" and for each task.

    Raises:
        ValueError: an unknown method; as `mk.zipit` and `mk.joint`.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"no method {', '.join(unknown)}: there are {', '.join(METHODS)}")
    picture, tables = batches[0][:1], []
    boundaries = derive(next(iter(networks.values())), picture).boundaries
    steps = 1 + len(networks) + len(tuple(methods)) * (len(boundaries) + 1)
    with ticker(progress, steps, "tradeoff") as tick:
        for method, boundary, model in _models(networks, batches, boundaries, tuple(methods), alpha, beta):
            table = joint(model, tasks, scale=scale, split=split, limit=limit)
            tables.append(table.assign(method=method, boundary=boundary, flops=_cost(model, picture)))
            tick(1)
    found = pd.concat(tables, ignore_index=True)
    return found[["method", "boundary", "flops", *found.columns[:-3]]]


def _models(
    networks: Mapping[str, nn.Module],
    batches: Sequence[Tensor],
    boundaries: Sequence[str],
    methods: Sequence[str],
    alpha: float,
    beta: float,
) -> Iterator[tuple[str, str, nn.Module | list[nn.Module]]]:
    nets = list(networks.values())
    yield "ensemble", "nothing", nets
    for name, alone in networks.items():
        yield "alone", name, alone
    for method in methods:
        for stop in (*boundaries, None):
            zipped = zipit(nets, batches, alpha, beta, stop_at=stop, matching=METHODS[method])
            yield method, stop or "all", zipped


def _cost(model: nn.Module | list[nn.Module], picture: Tensor) -> int:
    """Operations for one picture; an ensemble runs all of its networks."""
    return sum(flops(net, picture) for net in (model if isinstance(model, list) else [model]))
