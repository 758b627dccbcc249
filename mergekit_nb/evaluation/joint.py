"""How often several networks, or their zip, are right among all classes of all tasks, and on each task by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergekit_nb.device import pick
from mergekit_nb.evaluation.accuracy import COLUMNS, read
from mergekit_nb.evaluation.interval import wilson
from mergekit_nb.evaluation.tasks import Task, by_name

Rule = Literal["max", "sum"]
Net = nn.Module | Callable[[Tensor], Tensor | Sequence[Tensor]]


def joint(
    model: Net | Sequence[Net],
    tasks: Mapping[str, Task] | Iterable[Task],
    *,
    rule: Rule = "max",
    scale: float = 100.0,
    split: str = "test",
    batch_size: int = 256,
    limit: int | None = None,
    device: str | torch.device = "auto",
) -> pd.DataFrame:
    """Joint accuracy, where the task of a picture is not told, and per-task accuracy, where it is.

    Args:
        model: maps pictures to one embedding "b embed" (a whole network, a full zip), or to a list of them, one per task
            in the tasks' order (a partial zip). Several models together are the ensemble: the n-th sees for task n.
        tasks: no class in two of them.
        rule: of several outputs, see `shares`. With one output there is nothing to choose.
        scale: logits are ``scale`` times the cosine of embedding and class.
        limit: at most so many pictures of each task.

    Returns:
        Columns task, accuracy, n, low, high (95 % Wilson) and loss (mean cross-entropy in nats); the row "joint" first,
        then a row per task. The joint row pools all pictures.

    Raises:
        ValueError: an unknown rule or split; a number of outputs that is neither 1 nor the number of tasks.

    Source: Stoica et al. 2023, "ZipIt!", arXiv:2305.03053; the rules are those of the authors' evaluation code.
    """
    if rule not in get_args(Rule):
        raise ValueError(f"rule is one of {', '.join(get_args(Rule))}; got {rule!r}")
    tasks, device = by_name(tasks), pick(device)
    nets = [_ready(net, device) for net in (model if isinstance(model, Sequence) else [model])]
    heads = torch.cat([task.head for task in tasks.values()]).to(device, torch.float32)
    owner = torch.cat([torch.full((len(task.classes),), place) for place, task in enumerate(tasks.values())]).to(device)
    rows = []
    for place, (name, (pixels, labels)) in enumerate(read(tasks, split, limit).items()):
        first = int((owner < place).sum())
        for batch, label in zip(pixels.split(batch_size), (labels + first).split(batch_size), strict=True):
            logits = _logits(nets, tasks[name].preprocess(batch.to(device)), heads, scale, len(tasks))
            rows.append(_counted(name, logits, label.to(device), owner, place, rule))
    return _table(pd.DataFrame(rows), list(tasks))


def shares(logits: Sequence[Tensor], owner: Tensor, rule: Rule = "max") -> Tensor:
    """How likely each class of all tasks is, from one output or from one output per task.

    Args:
        logits: each "b class" over all classes of all tasks; one, or one per task.
        owner: which task a class belongs to, int64 "class".
        rule: "max" lets head n speak of task n's classes only: a softmax in each head, foreign classes at -inf, and the
            maximum over heads. "sum" adds the heads' softmaxes over all classes (the authors' ImageNet script).

    Returns:
        "b class", rows that sum to 1. One output is a plain softmax over all classes.
    """
    if len(logits) == 1:
        return logits[0].softmax(dim=-1)
    if rule == "sum":
        return torch.stack([of.softmax(dim=-1) for of in logits]).mean(dim=0)
    masked = [of.masked_fill(owner != place, -torch.inf) for place, of in enumerate(logits)]
    return torch.stack([of.softmax(dim=-1) for of in masked]).amax(dim=0) / len(logits)


def _ready(net: Net, device: torch.device) -> Net:
    module = copy.deepcopy(net).to(device).eval() if isinstance(net, nn.Module) else net
    return getattr(module, "encode_image", module)


@torch.inference_mode()
def _logits(nets: Sequence[Net], images: Tensor, heads: Tensor, scale: float, tasks: int) -> list[Tensor]:
    """One "b class" over all classes, or one per task."""
    found = [net(images) for net in nets]
    outputs = [out for of in found for out in ([of] if isinstance(of, Tensor) else of)]
    if len(outputs) not in (1, tasks):
        raise ValueError(f"{len(outputs)} outputs for {tasks} tasks: give one output for all tasks, or one for each")
    return [scale * F.normalize(out.float(), dim=-1) @ heads.T for out in outputs]


def _counted(
    task: str, logits: Sequence[Tensor], labels: Tensor, owner: Tensor, place: int, rule: Rule
) -> dict[str, float]:
    everywhere = shares(logits, owner, rule)
    own = logits[place if len(logits) > 1 else 0].masked_fill(owner != place, -torch.inf)
    return {
        "task": task,
        "n": len(labels),
        "correct": int((own.argmax(dim=-1) == labels).sum()),
        "correct_jointly": int((everywhere.argmax(dim=-1) == labels).sum()),
        "nats": float(F.cross_entropy(own, labels, reduction="sum")),
        "nats_jointly": float(F.nll_loss(everywhere.clamp(min=1e-30).log(), labels, reduction="sum")),
    }


def _table(rows: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    sums = rows.groupby("task").sum().loc[list(tasks)]
    whole = sums.sum()
    correct = [int(whole["correct_jointly"]), *sums["correct"]]
    n = [int(whole["n"]), *sums["n"]]
    found = pd.DataFrame({"task": ["joint", *tasks], "correct": correct, "n": n})
    low, high = wilson(found["correct"], found["n"])
    found = found.assign(accuracy=found["correct"] / found["n"], low=low, high=high)[COLUMNS]
    return found.assign(loss=[whole["nats_jointly"], *sums["nats"]] / found["n"])


def joints(
    models: Mapping[str, Net | Sequence[Net]], tasks: Mapping[str, Task] | Iterable[Task], **how
) -> pd.DataFrame:
    """`joint` of several models by name, one below the other, with a first column method; ``how`` as there."""
    tables = [joint(model, tasks, **how).assign(method=name) for name, model in models.items()]
    return pd.concat(tables, ignore_index=True)[["method", *tables[0].columns[:-1]]]
