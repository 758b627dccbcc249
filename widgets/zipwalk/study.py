"""The networks under the walk, how their features correlate, and how they are matched. No widgets in here."""

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.maths.matching import Zip, blocks, identity, permute, spread, zip_features
from mergekit_nb.models.axes import derive
from mergekit_nb.models.moments import joint_moments
from mergekit_nb.models.watch import inputs, several_times
from mergekit_nb.weights.axes import Axes
from mergekit_nb.widgets.models import tests_of
from mergekit_nb.widgets.zipwalk.excite import Excited, excited
from mergekit_nb.widgets.zipwalk.state import ALL, NOTHING

Matching = tuple[str, str, float, float]  # layer, method, alpha, beta


@dataclass(frozen=True)
class Study:
    """Networks of one architecture that may be zipped.

    Attributes:
        networks: by name; the panel's own copies, so that what else the notebook does with them never meets its hooks.
        tests: a task for each network, in the same order.
        batches: pictures of all tasks, for the matching.
        axes: the networks' spaces.
        scale, split, limit: of `mk.joint`.
        busy: held while the networks run.
    """

    networks: Mapping[str, nn.Module]
    tests: Mapping[str, Task]
    batches: Sequence
    axes: Axes
    scale: float
    split: str
    limit: int | None
    busy: threading.Lock = field(default_factory=threading.Lock)
    _matched: dict[Matching, Zip] = field(default_factory=dict)

    @cached_property
    def picture(self) -> Tensor:
        """One picture, as the networks take it."""
        return inputs(next(iter(self.batches)))[:1]

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The spaces whose features a module sees, as far as all before them are seen too: no other can be zipped."""
        names = []
        for space in self.axes.spaces:
            if space.probe is None:
                break
            names.append(space.name)
        return tuple(names)

    @cached_property
    def boundaries(self) -> tuple[str, ...]:
        """What can be zipped: nothing, up to each of the boundaries, and all where all tensors have the same shape."""
        inner = [name for name in self.axes.boundaries if name in self.layers]
        shapes = [{name: w.shape for name, w in net.state_dict().items()} for net in self.networks.values()]
        whole = len(self.layers) == len(self.axes.spaces) and all(other == shapes[0] for other in shapes)
        return (NOTHING, *inner, *([ALL] if whole else []))

    @cached_property
    def correlations(self) -> dict[str, Tensor]:
        """Space -> correlation of all networks' features, float64 "feature feature"."""
        with self.busy:
            found = joint_moments(list(self.networks.values()), self.batches, self.axes, self.layers)
        return {name: moments.correlation() for name, moments in found.items()}

    @cached_property
    def excited(self) -> Excited:
        """Which pictures of the tasks excite every feature most."""
        with self.busy:
            spaces = [self.axes.space(name) for name in self.layers]
            return excited(list(self.networks.values()), self.tests, spaces, self.split)

    def matched(self, layer: str, method: str, alpha: float, beta: float) -> Zip:
        """How the features of a layer are matched: what `mk.zipit` does to it; made once, then remembered."""
        key = (layer, method, alpha, beta)
        if key not in self._matched:
            unit, models = self.axes.space(layer).unit, len(self.networks)
            similarity = blocks(self.correlations[layer], unit)
            if method == "zip":
                found = zip_features(similarity, models, alpha, beta)
            else:
                found = {"permute": permute, "average": identity}[method](similarity, models)
            self._matched[key] = spread(found, unit)
        return self._matched[key]

    def names(self, layer: str) -> list[str]:
        """Every feature of a layer by its network and its number there, network by network."""
        return [f"{name} {k}" for name in self.networks for k in range(self.axes.space(layer).width)]


def study(
    networks: Mapping[str, nn.Module] | None,
    tasks: Mapping[str, Task] | None,
    batches: Sequence | None,
    scale: float | None,
    split: str,
    limit: int | None,
) -> Study:
    """The networks; without any, the first pair of the embedded strangers.

    Raises:
        ValueError: some of networks, tasks and batches were left out; not one task for each network; no batch; a network
            that cannot be followed (see `derive`).
    """
    if networks is None and tasks is None and batches is None:
        from mergekit_nb import zoo as shipped  # only when needed: it brings open_clip, which takes seconds to import

        zoo = shipped.load("strangers")
        pair = next(iter(zoo.pairs))
        networks, tasks, batches = zoo.of(pair), zoo.tasks_of(pair), zoo.batches(pair)
        scale = zoo.scale if scale is None else scale
    if not isinstance(networks, Mapping) or tasks is None or batches is None:
        raise ValueError(
            "pass networks ({name: module}), tasks and batches, or none of them for the embedded strangers"
        )
    if len(networks) < 2:
        raise ValueError(f"zipping takes two networks or more; got {len(networks)}")
    head = next(iter(several_times(batches)), None)
    if head is None:
        raise ValueError("there is nothing to measure on: batches is empty")
    own = {name: copy.deepcopy(net).eval() for name, net in networks.items()}
    axes = derive(next(iter(own.values())), inputs(head)[:1])
    tests = tests_of(tasks, tuple(own))
    return Study(own, tests, batches, axes, 100.0 if scale is None else scale, split, limit)
