"""The models under a panel: a base, its experts, their layers, and what they can be tested on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod
from pathlib import Path

from torch import Tensor, nn

from mergekit_nb.evaluation.tasks import Task, by_name
from mergekit_nb.weights.site import layers as by_layer
from mergekit_nb.weights.task_vectors import TaskVectors

Model = str | Path | Mapping[str, Tensor] | nn.Module  # whatever `mk.open` opens


@dataclass(frozen=True)
class Models:
    """A base and its experts.

    Attributes:
        vectors: the task vectors, read tensor by tensor.
        tests: images and heads by task, or {} where there are none.
    """

    vectors: TaskVectors
    tests: Mapping[str, Task]

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.vectors.tasks

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Entries of every tensor that is merged and holds any."""
        sizes = {name: prod(self.vectors.site(name).shape) for name in self.vectors.names}
        return {name: size for name, size in sizes.items() if size}

    @cached_property
    def layers(self) -> dict[str, list[str]]:
        """Layer name -> names of its tensors, in the order of the network."""
        return by_layer(self.sizes)


def given(
    base: Model | None, experts: Mapping[str, Model] | None, tasks: Mapping[str, Task] | None
) -> tuple[Model, Mapping[str, Model], Mapping[str, Task] | None]:
    """The models a panel was given, or the embedded zoo where there are none.

    Raises:
        ValueError: only one of base and experts was given.
    """
    if base is None and experts is None:
        from mergekit_nb import zoo as shipped  # only when needed: it brings open_clip, which takes seconds to import

        zoo = shipped.load()
        return zoo.base, zoo.experts, zoo.tasks if tasks is None else tasks
    if base is None or experts is None:
        raise ValueError("pass both base and experts ({task: model}), or neither for the embedded zoo")
    return base, experts, tasks


def tests_of(tasks: Mapping[str, Task] | None, experts: tuple[str, ...]) -> dict[str, Task]:
    """What every expert is tested on, its images read from disk the first time only; {} where `tasks` is None.

    Raises:
        ValueError: an expert has no task; all of them are named.
    """
    if tasks is None:
        return {}
    named = by_name(tasks)
    lacking = [name for name in experts if name not in named]
    if lacking:
        raise ValueError(f"tasks has nothing to test {', '.join(lacking)} on; it has {', '.join(named)}")
    return {name: replace(named[name], split=cache(named[name].split)) for name in experts}
