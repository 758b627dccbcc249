"""What can be evaluated: a merge, one model, one per task, or a module; and how it becomes a module on a device."""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.weights.merged import Merged
from mergekit_nb.weights.source import Source

Subject = Merged | Source | Mapping[str, Source] | nn.Module


class Modules:
    """A subject's module for each task. The caller's own module is copied, never written to."""

    def __init__(self, subject: Subject, device: torch.device):
        self.device = device
        self.subject = subject
        self.per_task = _per_task(subject)
        self.one = None  # the weights of a subject that is one model, read when first needed
        self.made: dict[tuple, nn.Module] = {}  # by factory and tensor names: what a task does not set must not linger
        self.loaded: dict[tuple, Source] = {}

    def at(self, task: Task) -> nn.Module:
        """The module with this task's weights, on the device, in eval mode; valid until the next call."""
        if isinstance(self.subject, nn.Module):
            return self._own()
        source = self._source(task.name)
        key = (task.model, frozenset(source))
        if key not in self.made:
            self.made[key] = task.model().to(self.device).eval()
        if self.loaded.get(key) is not source:
            _load(self.made[key], source, task)
            self.loaded[key] = source
        return self.made[key]

    def _own(self) -> nn.Module:
        if () not in self.made:
            self.made[()] = copy.deepcopy(self.subject).to(self.device).eval()
        return self.made[()]

    def _source(self, task: str) -> Source:
        if self.per_task:
            return self.subject.weights(task) if isinstance(self.subject, Merged) else self.subject[task]
        if self.one is None:
            self.one = self.subject.weights() if isinstance(self.subject, Merged) else self.subject
        return self.one


def check(subject: Subject, tasks: Iterable[str]) -> None:
    """Raise one ValueError where the subject cannot be evaluated on these tasks, before any work is done."""
    if isinstance(subject, nn.Module):
        if not hasattr(subject, "encode_image"):
            raise ValueError(f"a {type(subject).__name__} has no encode_image: pass the whole CLIP, as zoo.model() is")
        return
    if not isinstance(subject, Merged | Mapping):
        raise ValueError(
            f"cannot evaluate a {type(subject).__name__}: pass a merge, a model (tensors by name), "
            "one model per task ({task: model}) or a module with encode_image"
        )
    if not isinstance(subject, Merged) and not subject:
        raise ValueError("cannot evaluate an empty mapping: it holds neither tensors nor models")
    if _per_task(subject):
        known = subject.tasks if isinstance(subject, Merged) else tuple(subject)
        unknown = [task for task in tasks if task not in known]
        if unknown:
            raise ValueError(f"no model for task {', '.join(unknown)}: there is one for {', '.join(known)}")


def _per_task(subject: Subject) -> bool:
    if isinstance(subject, Merged):
        return bool(subject.patches)
    return isinstance(subject, Mapping) and bool(subject) and not isinstance(next(iter(subject.values())), Tensor)


def _load(module: nn.Module, source: Source, task: Task) -> None:
    """Copy the source into the module; what the source lacks (a text tower, say) stays as the factory made it."""
    held = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    weights = {name: source[name] for name in source}
    slips = [f"  the model has no {name}" for name in weights if name not in held]
    slips += [
        f"  {name} is {tuple(tensor.shape)}, in the model {held[name]}"
        for name, tensor in weights.items()
        if name in held and tuple(tensor.shape) != held[name]
    ]
    if slips:
        raise ValueError(f"these weights do not fit the model of task {task.name}:\n" + "\n".join(slips))
    module.load_state_dict(weights, strict=False)
