"""The models and pictures that come with the package: a base, its experts, their tasks; nothing is ever downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file
from torch import Tensor

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.models import clip
from mergekit_nb.weights.source import Source
from mergekit_nb.weights.source import open as open_weights
from mergekit_nb.zoo.pairs import Strangers, strangers
from mergekit_nb.zoo.sheets import read_sheet

NAMES = ("clip8", "strangers")
SPLITS = ("test", "validation", "calibration")
HOME = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class Zoo:
    """A base model, one expert per task, and the tasks.

    Attributes:
        path: the folder all of it lies in.
        base: the vision tower of the pre-trained model, float16, names ``visual.*`` as in open_clip; read when asked for.
        experts: task -> the same tensors after fine-tuning on that task.
        tasks: task -> its pictures, classes and frozen zero-shot head.
        model: makes the whole open_clip model, float32, with the base's weights, in eval mode.
        card: how all this was made and how good each model is, as written by the build.
    """

    name: str
    path: Path
    base: Source
    experts: Mapping[str, Source]
    tasks: Mapping[str, Task]
    model: Callable[[], CLIP]
    card: Mapping

    def __repr__(self) -> str:
        return f"Zoo({self.name!r}, tasks: {', '.join(self.tasks)})"


def load(name: str | Path = "clip8") -> Zoo | Strangers:
    """Open a zoo: one that comes with the package, by name, or a folder that `mergekit-nb zoo build` wrote.

    Returns:
        A `Zoo`, one base with its experts; for "strangers" the networks that have no base, see `pairs.Strangers`.

    Raises:
        ValueError: no zoo of that name.
        FileNotFoundError: the folder holds no zoo.
    """
    path = _folder(name)
    card = json.loads((path / "card.json").read_text())
    if "pairs" in card:
        return strangers(path, card, load("clip8").tasks)
    heads = load_file(path / "heads.safetensors")
    model = partial(_model, path)
    return Zoo(
        name=card["name"],
        path=path,
        base=open_weights(path / "base.safetensors"),
        experts={task: open_weights(path / "experts" / f"{task}.safetensors") for task in card["tasks"]},
        tasks={task: _task(path, task, about, heads[task], model) for task, about in card["tasks"].items()},
        model=model,
        card=card,
    )


def _folder(name: str | Path) -> Path:
    path = HOME / name if name in NAMES else Path(name)
    if isinstance(name, str) and name not in NAMES and not path.is_dir():
        raise ValueError(f'no zoo "{name}": there is {", ".join(NAMES)}, or give a folder that zoo build wrote')
    if not (path / "card.json").is_file():
        raise FileNotFoundError(f"{path} holds no zoo (no card.json): write one with mergekit-nb zoo build")
    return path


def _task(path: Path, name: str, about: Mapping, head: Tensor, model: Callable[[], CLIP]) -> Task:
    return Task(
        name, tuple(about["classes"]), about["prompt"], head, model, partial(_split, path, name), clip.preprocess
    )


def _split(path: Path, task: str, split: str) -> tuple[Tensor, Tensor]:
    """Images uint8 "n 3 32 32" and labels int64 "n"; the calibration split is unlabelled: its labels are all -1."""
    if split not in SPLITS:
        raise ValueError(f'task {task} has no split "{split}": there are {", ".join(SPLITS)}')
    labels = json.loads((path / "data" / f"{task}.json").read_text())[split]
    return read_sheet(path / "data" / f"{task}-{split}.png", len(labels)), torch.tensor(labels)


def _model(path: Path) -> CLIP:
    model = clip.build(json.loads((path / "config.json").read_text()))
    model.load_state_dict({**load_file(path / "text.safetensors"), **load_file(path / "base.safetensors")}, strict=True)
    return model.eval()
