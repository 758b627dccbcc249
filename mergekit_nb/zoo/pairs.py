"""Strangers: networks that never shared a parent, in pairs and a triple that share out the classes of one task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.models.resnet import ResNet


@dataclass(frozen=True, eq=False)
class Strangers:
    """Small networks from different initialisations, each trained on some classes of a task of clip8.

    All of them map a picture to a vector in the space of clip8's text embeddings, trained against the frozen embeddings
    of their own classes (the protocol of ZipIt!'s CIFAR networks). So all outputs can be compared with all classes,
    and networks can be zipped to the end.

    Attributes:
        path: the folder the networks lie in; the pictures and the embeddings are those of clip8.
        pairs: name -> its networks, in order; one of them has three. No class is in two networks of a pair.
        nets: network -> module in eval mode, float32, pictures "b 3 32 32" -> embeddings "b 128".
        tasks: network -> what it was trained for: its classes, their embeddings, the pictures of these classes.
        scale: logits are ``scale`` times the cosine of embedding and class, as in training.
        card: how the networks were made and how good each is.
    """

    name: str
    path: Path
    pairs: Mapping[str, tuple[str, ...]]
    nets: Mapping[str, ResNet]
    tasks: Mapping[str, Task]
    scale: float
    card: Mapping

    def __repr__(self) -> str:
        return f"Strangers({self.name!r}, pairs: {', '.join(self.pairs)})"

    def of(self, pair: str) -> dict[str, ResNet]:
        """Network -> module, for the networks of one pair."""
        return {name: self.nets[name] for name in self._names(pair)}

    def tasks_of(self, pair: str) -> dict[str, Task]:
        """Network -> task, for the networks of one pair."""
        return {name: self.tasks[name] for name in self._names(pair)}

    def batches(self, pair: str, size: int = 64) -> list[Tensor]:
        """Unlabelled pictures of all classes of a pair, ready for the networks: float32 "b 3 32 32".

        They come from what clip8's experts were trained on, never from the test or validation pictures.
        """
        task = self.tasks[self._names(pair)[0]]
        return list(task.preprocess(task.split("calibration")[0]).split(size))

    def _names(self, pair: str) -> tuple[str, ...]:
        if pair not in self.pairs:
            raise ValueError(f'no pair "{pair}": there are {", ".join(self.pairs)}')
        return self.pairs[pair]


def strangers(path: Path, card: Mapping, pictures: Mapping[str, Task]) -> Strangers:
    """Open the networks of a folder; ``pictures`` are the tasks of clip8."""
    fresh = partial(net, card["shape"])
    nets = {name: _loaded(fresh, path / "nets" / f"{name}.safetensors") for name in card["nets"]}
    tasks = {name: part(name, pictures[about["task"]], about["classes"], fresh) for name, about in card["nets"].items()}
    pairs = {pair: tuple(names) for pair, names in card["pairs"].items()}
    return Strangers(card["name"], path, pairs, nets, tasks, card["scale"], card)


def net(shape: Mapping) -> ResNet:
    """A fresh network; ``shape`` is `ResNet`'s keyword arguments."""
    return ResNet(**shape).eval()


def part(name: str, task: Task, classes: list[int], model: Callable[[], ResNet]) -> Task:
    """A task of some classes of another, in the order given."""
    names = tuple(task.classes[k] for k in classes)
    return Task(name, names, task.prompt, task.head[classes], model, partial(_split, task, classes), task.preprocess)


def _split(task: Task, classes: list[int], split: str) -> tuple[Tensor, Tensor]:
    """The pictures of these classes with their new labels; of an unlabelled split all pictures."""
    images, labels = task.split(split)
    if (labels == -1).all():
        return images, labels
    number = torch.full((len(task.classes),), -1)
    number[classes] = torch.arange(len(classes))
    mine = number[labels] >= 0
    return images[mine], number[labels[mine]]


def _loaded(fresh: Callable[[], ResNet], file: Path) -> ResNet:
    model = fresh()
    model.load_state_dict(load_file(file))  # copied into float32
    return model
