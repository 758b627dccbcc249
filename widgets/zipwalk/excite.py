"""Which pictures excite a feature most. Torch only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mergekit_nb.evaluation.accuracy import read
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.models.watch import evaluating, to_device_of, watching
from mergekit_nb.weights.axes import Space

TOP = 8  # pictures shown of each feature
BATCH = 256


@dataclass(frozen=True)
class Excited:
    """The pictures that excite every feature most.

    Attributes:
        pictures: of all tasks, uint8 "channel height width".
        classes: what each shows.
        top: space -> int64 "feature rank", which pictures, the strongest first; the networks' features one after the other.
        value: space -> the same shape, the activation there: the largest over the picture.
    """

    pictures: Sequence[Tensor]
    classes: Sequence[str]
    top: Mapping[str, Tensor]
    value: Mapping[str, Tensor]

    def of(self, space: str, feature: int) -> tuple[Tensor, list[str]]:
        """Pictures "rank channel height width" and their classes."""
        places = self.top[space][feature].tolist()
        return torch.stack([self.pictures[k] for k in places]), [self.classes[k] for k in places]

    def silent(self, space: str, feature: int) -> bool:
        """Whether no picture excites it more than another."""
        return bool(self.value[space][feature, 0] <= 0)


def excited(networks: Sequence[nn.Module], tasks: Mapping[str, Task], spaces: Sequence[Space], split: str) -> Excited:
    """Run all networks over all pictures of a split and keep the `TOP` of every feature."""
    images = read(tasks, split, None)
    pictures = [picture for pixels, _ in images.values() for picture in pixels]
    classes = [tasks[name].classes[k] for name, (_, labels) in images.items() for k in labels.tolist()]
    seen: dict[str, list[Tensor]] = {space.name: [] for space in spaces}
    places = {space.name: (space.probe.module, space.probe.side) for space in spaces}
    with evaluating(*networks):
        for net in networks:
            found = [_strengths(net, places, spaces, task, images[name][0]) for name, task in tasks.items()]
            for space in spaces:
                seen[space.name].append(torch.cat([of[space.name] for of in found], 1))
    best = {name: torch.cat(parts).topk(min(TOP, len(pictures)), 1) for name, parts in seen.items()}
    return Excited(pictures, classes, {n: b.indices for n, b in best.items()}, {n: b.values for n, b in best.items()})


def _strengths(
    net: nn.Module, places: Mapping, spaces: Sequence[Space], task: Task, pixels: Tensor
) -> dict[str, Tensor]:
    """Space -> "feature picture", the largest activation anywhere in the picture."""
    parts: dict[str, list[Tensor]] = {space.name: [] for space in spaces}
    with watching(net, places) as caught:
        for batch in pixels.split(BATCH):
            net(to_device_of(net, task.preprocess(batch)))
            for space in spaces:
                parts[space.name].append(_largest(caught[space.name], space))
    return {name: torch.cat(found, 1) for name, found in parts.items()}


def _largest(x: Tensor, space: Space) -> Tensor:
    features = x.narrow(space.probe.axis, space.probe.start, space.width).movedim(space.probe.axis, 1)
    return features.flatten(2).amax(2).T.cpu() if features.ndim > 2 else features.T.cpu()
