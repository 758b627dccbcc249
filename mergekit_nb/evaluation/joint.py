"""How often several networks, or their zip, are right among all classes of all tasks, and on each task by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
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
Gives = Literal["embeddings", "logits"]
Net = nn.Module | Callable[[Tensor], Tensor | Sequence[Tensor]]


def joint(
    model: Net | Sequence[Net],
    tasks: Mapping[str, Task] | Iterable[Task],
    *,
    rule: Rule = "max",
    gives: Gives = "embeddings",
    scale: float = 100.0,
    split: str = "test",
    batch_size: int = 256,
    limit: int | None = None,
    device: str | torch.device = "auto",
) -> pd.DataFrame:
    """Joint accuracy, where the task of a picture is not told, and per-task accuracy, where it is.

    Args:
        model: maps pictures to one output (a whole network, a full zip), or to a list of them, one per task in the tasks'
            order (a partial zip). Several models together are the ensemble: the n-th sees for task n.
        tasks: no class in two of them.
        rule: of several outputs, see `shares`. With one output there is nothing to choose.
        gives: "embeddings": outputs "b embed", compared with the tasks' heads. "logits": of all classes of all tasks in
            order, or, where there is one output per task, of that task's classes; the heads are not used.
        scale: logits are ``scale`` times the cosine of embedding and class.
        limit: at most so many pictures of each task.

    Returns:
        Columns task, accuracy, n, low, high (95 % Wilson) and loss (mean cross-entropy in nats); the row "joint" first,
        then a row per task. The joint row pools all pictures.

    Raises:
        ValueError: an unknown rule, split or kind of output; a number of outputs that is neither 1 nor the number of tasks;
            logits of other classes than the tasks'.

    Source: Stoica et al. 2023, "ZipIt!", arXiv:2305.03053; the rules are those of the authors' evaluation code.
    """
    if rule not in get_args(Rule):
        raise ValueError(f"rule is one of {', '.join(get_args(Rule))}; got {rule!r}")
    if gives not in get_args(Gives):
        raise ValueError(f"gives is one of {', '.join(get_args(Gives))}; got {gives!r}")
    tasks, device = by_name(tasks), pick(device)
    nets = [_ready(net, device) for net in (model if isinstance(model, Sequence) else [model])]
    owner = torch.cat([torch.full((len(task.classes),), place) for place, task in enumerate(tasks.values())]).to(device)
    if gives == "embeddings":
        logits_of = partial(
            _cosines, torch.cat([task.head for task in tasks.values()]).to(device, torch.float32), scale
        )
    else:
        logits_of = partial(_own_logits, owner)
    rows = []
    for place, (name, (pixels, labels)) in enumerate(read(tasks, split, limit).items()):
        first = int((owner < place).sum())
        for batch, label in zip(pixels.split(batch_size), (labels + first).split(batch_size), strict=True):
            outputs = _outputs(nets, tasks[name].preprocess(batch.to(device)), len(tasks))
            logits = [logits_of(out.float(), number) for number, out in enumerate(outputs)]
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
def _outputs(nets: Sequence[Net], images: Tensor, tasks: int) -> list[Tensor]:
    """One output, or one per task."""
    found = [net(images) for net in nets]
    outputs = [out for of in found for out in ([of] if isinstance(of, Tensor) else of)]
    if len(outputs) not in (1, tasks):
        raise ValueError(f"{len(outputs)} outputs for {tasks} tasks: give one output for all tasks, or one for each")
    return outputs


def _cosines(heads: Tensor, scale: float, output: Tensor, number: int) -> Tensor:
    """Logits "b class" over all classes, from embeddings."""
    return scale * F.normalize(output, dim=-1) @ heads.T


def _own_logits(owner: Tensor, output: Tensor, number: int) -> Tensor:
    """Logits "b class" over all classes, from those of all or of the classes of task ``number``; -inf elsewhere."""
    mine = owner == number
    if output.shape[1] == len(owner):
        return output
    if output.shape[1] != mine.sum():
        raise ValueError(
            f"output {number + 1} has {output.shape[1]} logits; its task has {mine.sum()} classes, all tasks {len(owner)}"
        )
    return output.new_full((len(output), len(owner)), -torch.inf).masked_scatter(mine.expand(len(output), -1), output)


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
