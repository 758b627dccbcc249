"""What a merge leaves: a base, one shared vector, and what each task adds to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor, nn

from mergekit_nb.weights import disk
from mergekit_nb.weights.modulators import LowRank, Masked
from mergekit_nb.weights.shards import SHARD
from mergekit_nb.weights.source import Source, dtype_of, nbytes_of, shape_of
from mergekit_nb.weights.view import Lazy


@dataclass(frozen=True)
class Merged:
    """The result of a merge: `weights(task) = base + patch_task(vector)`.

    Attributes:
        base: the weights all experts started from; tensors that were not merged keep their value here.
        vector: tensor name -> the shared (unified) task vector, in compute dtype; in the base's stored dtype where
            there are masks.
        tasks: the task names, in order.
        patches: task -> `Masked` or `LowRank`; empty for a plain merge, which gives one model for all tasks.
        aliases: tied tensors: other name -> the name it was merged under.
        provenance: method, options, versions and input hashes.
    """

    base: Source
    vector: Mapping[str, Tensor]
    tasks: tuple[str, ...]
    patches: Mapping[str, Masked | LowRank] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The name of the method, "dare | ties" for a composition."""
        return self.provenance.get("method", "")

    def weights(self, task: str | None = None) -> dict[str, Tensor]:
        """The full weights for one task, in the base's dtypes: a state dict.

        Args:
            task: needed where every task has its own weights; a plain merge gives the same model for all.

        Raises:
            ValueError: a task is needed, or there is no such task; the message names the tasks.
        """
        patch = self._patch(task)
        whole = dict(Whole(self, task))
        if patch is not None:
            whole.update(patch.own)
        return whole

    def _at(self, name: str, patch: Masked | LowRank | None) -> Tensor:
        merged = self.aliases.get(name, name)
        base = self.base[merged]
        if merged not in self.vector and (patch is None or merged not in patch.factors):
            return base.detach().clone()
        vector = self.vector[merged].to(base.device) if merged in self.vector else torch.zeros_like(base)
        vector = vector.to(_wide(vector.dtype))
        return added(base, vector if patch is None else patch.apply(merged, vector))

    def _patch(self, task: str | None) -> Masked | LowRank | None:
        listed = ", ".join(self.tasks)
        if task is None:
            if self.patches:
                raise ValueError(f"{self.method} keeps different weights for every task; name one of {listed}")
            return None
        if task not in self.tasks:
            near = get_close_matches(str(task), self.tasks, 1)
            raise ValueError(
                f"no task {task!r} in this merge{f'; did you mean {near[0]!r}?' if near else ''} (it has {listed})"
            )
        return self.patches.get(task)

    @property
    def nbytes(self) -> dict:
        """What it costs to keep, in bytes: {"shared": …, "patches": {task: …}}.

        A plain merge is one model. One with patches is the base and the shared vector, and per task its masks at one
        bit per entry and a float32 rescaler, or its factors, and its own tensors.
        """
        base = sum(nbytes_of(self.base, name) for name in self.base if name not in self.aliases)
        if not self.patches:
            return {"shared": base, "patches": {}}
        patches = {task: disk.patch_bytes(patch, self.vector) for task, patch in self.patches.items()}
        return {"shared": base + sum(nbytes_of(self.vector, name) for name in self.vector), "patches": patches}

    def apply_(self, module: nn.Module, task: str | None = None) -> nn.Module:
        """Switch a live module to a task, in place; `reset_` gives the base back.

        Raises:
            ValueError: the module lacks a tensor or has it in another shape; nothing was changed.
        """
        return _write_(module, self.weights(task))

    def reset_(self, module: nn.Module) -> nn.Module:
        """Give a live module the base's weights, in place."""
        return _write_(module, {name: self.base[name] for name in self.base})

    def save(self, folder: str | Path, shard_size: int = SHARD) -> Path:
        """Write the merge into a folder, all of it or nothing; `mergekit_nb.load` reads it back, bit for bit.

        A plain merge is `model.safetensors`. One with patches is `base.safetensors`, `vector.safetensors` and
        `patches/<task>.safetensors`, masks at one bit per entry. `recipe.json` holds the provenance. What is larger than
        `shard_size` bytes lies in several files with an index, `model-00001-of-00003.safetensors`.

        Raises:
            FileExistsError: the folder holds something else than an earlier merge.
            OSError: it cannot be written (disk full, no right to); what was there before is still there.
        """
        model = None if self.patches else Whole(self)
        return disk.save(folder, self.base, self.vector, self.patches, model, self.recipe(), shard_size)

    def recipe(self) -> dict:
        """All that `load` needs beside the tensors, ready for JSON."""
        return {**self.provenance, "tasks": list(self.tasks), "aliases": dict(self.aliases)}


def added(base: Tensor, vector: Tensor) -> Tensor:
    """Base and vector added in float32 or wider, and rounded once to the base's dtype."""
    compute = _wide(vector.dtype)
    return (base.detach().to(compute) + vector.to(compute)).to(base.dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """float32 or wider; torch promotes no 8-bit float."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Whole(Lazy):
    """The full weights for one task, each tensor computed when asked for; without the task's own tensors."""

    def __init__(self, merged: Merged, task: str | None = None):
        self._merged, self._patch = merged, merged._patch(task)
        self._names = dict.fromkeys([*merged.base, *merged.aliases])

    def __getitem__(self, name: str) -> Tensor:
        return self._merged._at(name, self._patch)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return shape_of(self._merged.base, self._merged.aliases.get(name, name))

    def dtype(self, name: str) -> torch.dtype:
        return dtype_of(self._merged.base, self._merged.aliases.get(name, name))


def load(folder: str | Path, base: Source | None = None) -> Merged:
    """Read a merge that `Merged.save` wrote.

    Args:
        base: for a plain merge, which is stored as one model: the weights it started from, if `vector` and `reset_`
            are wanted. Without it the loaded model is its own base and `vector` is empty.

    Raises:
        FileNotFoundError, ValueError, TypeError: the folder is missing, is no merge, is damaged, or no path.
    """
    if not isinstance(folder, str | Path):
        raise TypeError(f"a merge is read from its folder, which is a path; got {type(folder).__name__}")
    recipe, stored, vector, patches = disk.load(folder)
    if base is not None and not patches:
        vector = {name: stored[name].float() - base[name].float() for name in recipe["merged"] if name in base}
        stored = base
    keys = ("tasks", "aliases")
    provenance = {key: value for key, value in recipe.items() if key not in keys}
    return Merged(stored, vector, tuple(recipe["tasks"]), patches, recipe["aliases"], provenance)


@torch.no_grad()
def _write_(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    own = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    wrong = [f"{n} (missing)" for n in weights if n not in own]
    wrong += [
        f"{n} (shape {list(own[n].shape)}, not {list(w.shape)})"
        for n, w in weights.items()
        if n in own and own[n].shape != w.shape
    ]
    if wrong:
        raise ValueError(
            f"this {type(module).__name__} cannot take these weights: {', '.join(wrong[:5])}"
            f"{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}; is it the model the merge was made from?"
        )
    for name, weight in weights.items():
        own[name].copy_(weight)
    return module
