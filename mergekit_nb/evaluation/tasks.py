"""A task: images with labels, a frozen text head, and the model that looks at the images."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """One classification task of a CLIP-like model, in the papers' protocol: the head is frozen and never merged.

    Attributes:
        name: as the experts and the merges call it.
        classes: in the order of the labels.
        prompt: the sentence the head was made from, with `{}` for the class.
        head: "class embed", float32, unit rows: the text tower's embedding of each class.
        model: makes a fresh module whose `encode_image` maps "batch channel height width" to "batch embed", and whose
            state dict has the names the sources use.
        split: "test", "validation" or "calibration" to images, uint8 "n channel height width", and labels, int64 "n".
        preprocess: a uint8 batch to the float batch `encode_image` takes.
    """

    name: str
    classes: tuple[str, ...]
    prompt: str
    head: Tensor
    model: Callable[[], nn.Module]
    split: Callable[[str], tuple[Tensor, Tensor]]
    preprocess: Callable[[Tensor], Tensor]


def by_name(tasks: Task | Mapping[str, Task] | Iterable[Task]) -> dict[str, Task]:
    """The tasks under their names, in the order given.

    Raises:
        ValueError: there is none, two share a name, or one is no `Task`.
    """
    if isinstance(tasks, Mapping):
        named = list(tasks.items())
    else:
        named = [(getattr(task, "name", task), task) for task in ([tasks] if isinstance(tasks, Task) else tasks)]
    if not named:
        raise ValueError("no task to evaluate on: pass zoo.tasks, or a list of Task")
    for name, task in named:
        if not isinstance(task, Task):
            raise ValueError(f"{name!r} is no Task: pass zoo.tasks, or a list of its values such as zoo.tasks['mnist']")
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two tasks have the same name: {', '.join(twice)}")
    return dict(named)
