"""Top-1 accuracy of a model, or of a merge, on each task, with 95 % intervals."""

from collections.abc import Iterable, Iterator, Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergekit_nb.device import pick
from mergekit_nb.evaluation.interval import wilson
from mergekit_nb.evaluation.subject import Modules, Subject, check
from mergekit_nb.evaluation.tasks import Task, by_name
from mergekit_nb.progress import CancelFlag, Cancelled, Progress, ticker

COLUMNS = ["task", "accuracy", "n", "low", "high"]
SPLITS = ("test", "validation")  # calibration images have no labels
Images = tuple[Tensor, Tensor]  # uint8 "n channel height width", int64 labels "n"


def evaluate(
    subject: Subject,
    tasks: Mapping[str, Task] | Iterable[Task],
    *,
    split: str = "test",
    batch_size: int = 256,
    limit: int | None = None,
    device: str | torch.device = "auto",
    progress: Progress = False,
    cancel: CancelFlag | None = None,
) -> pd.DataFrame:
    """How often the subject is right on each task.

    Args:
        subject: a merge; one model (tensors by name); one model per task ({task: model}); or a module with
            `encode_image`, which is copied, not touched.
        tasks: by name, or in any order, such as `zoo.tasks`.
        split: "test", or "validation" for every choice that is made.
        batch_size: images at a time; it may move an image that lies within rounding of two classes, nothing else.
        limit: at most so many images of each task, the same ones every time, drawn evenly from the split.
        device: "auto" is MERGEKIT_NB_DEVICE where that is set, else the accelerator there is, else "cpu".
        progress: True for a bar, or a function of (images done, images in all, text).
        cancel: set it from another thread to stop within a batch.

    Returns:
        Columns task, accuracy in [0, 1], n (images), low and high (95 % Wilson interval); a row for each task.

    Raises:
        ValueError: an unknown task or split, an empty split, weights that do not fit the model, logits not finite.
        mergekit_nb.progress.Cancelled: `cancel` was set.
    """
    tasks = by_name(tasks)
    check(subject, tasks)
    images = read(tasks, split, limit)
    correct, seen = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 0)
    with ticker(progress, sum(len(labels) for _, labels in images.values()), "evaluate", cancel) as tick:
        for task, right, total in _count(subject, tasks, images, batch_size, device):
            tick(total - seen[task])
            correct[task], seen[task] = right, total
    return _table(correct, seen)


def counts(
    subject: Subject,
    tasks: Mapping[str, Task] | Iterable[Task],
    *,
    split: str = "test",
    batch_size: int = 256,
    limit: int | None = None,
    device: str | torch.device = "auto",
    cancel: CancelFlag | None = None,
) -> Iterator[tuple[str, int, int]]:
    """As `evaluate`, batch by batch: (task, correct so far, images seen so far), tasks one after the other.

    A task is done when its last triple has come; partial shares are honest ones of a prefix of the split.
    """
    tasks = by_name(tasks)
    check(subject, tasks)
    for triple in _count(subject, tasks, read(tasks, split, limit), batch_size, device):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"the evaluation was cancelled at task {triple[0]}")
        yield triple


def read(tasks: Mapping[str, Task], split: str, limit: int | None) -> dict[str, Images]:
    """Task -> labelled images of a split, at most `limit` of each; ValueError where there are none."""
    if split not in SPLITS:
        raise ValueError(f"no split {split!r} with labels: there are {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is a number of images per task, at least 1, or None for all; got {limit}")
    images = {name: task.split(split) for name, task in tasks.items()}
    empty = [name for name, (_, labels) in images.items() if len(labels) == 0]
    if empty:
        raise ValueError(f"the {split} split is empty for task {', '.join(empty)}")
    return {name: _some(pair, limit) for name, pair in images.items()}


def _some(images: Images, limit: int | None) -> Images:
    """At most `limit` images: a fixed random subset, since a split may be sorted by class, or cycle through them."""
    pixels, labels = images
    if limit is None or limit >= len(labels):
        return images
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:limit].sort().values
    return pixels[chosen], labels[chosen]


def _count(
    subject: Subject,
    tasks: Mapping[str, Task],
    images: Mapping[str, Images],
    batch_size: int,
    device: str | torch.device,
) -> Iterator[tuple[str, int, int]]:
    if batch_size < 1:
        raise ValueError(f"batch_size is a number of images, at least 1; got {batch_size}")
    modules = Modules(subject, pick(device))
    for name, task in tasks.items():
        module = modules.at(task)
        head = task.head.to(modules.device, torch.float32)
        correct = total = 0
        for pixels, labels in zip(*(part.split(batch_size) for part in images[name]), strict=True):
            correct += _right(module, head, task, pixels.to(modules.device), labels.to(modules.device))
            total += len(labels)
            yield name, correct, total


@torch.inference_mode()
def _right(module: nn.Module, head: Tensor, task: Task, pixels: Tensor, labels: Tensor) -> int:
    """How many of a batch are classified as labelled: the class whose embedding points most nearly the image's way."""
    features = F.normalize(module.encode_image(task.preprocess(pixels)).float(), dim=-1)
    logits = features @ head.T
    if not logits.isfinite().all():
        raise ValueError(f"the model's logits on task {task.name} are not finite: its weights hold NaN or overflow")
    return int((logits.argmax(dim=-1) == labels).sum())


def _table(correct: Mapping[str, int], n: Mapping[str, int]) -> pd.DataFrame:
    rows = pd.DataFrame({"task": list(n), "correct": [correct[task] for task in n], "n": list(n.values())})
    low, high = wilson(rows["correct"], rows["n"])
    return rows.assign(accuracy=rows["correct"] / rows["n"], low=low, high=high)[COLUMNS]
