"""PEFT adapters: low-rank changes of some of a base's matrices, read from disk and put onto the base tensor by tensor."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.weights.source import Checkpoint, Source, dtype_of, shape_of
from mergekit_nb.weights.view import Lazy

PREFIX = "base_model.model."  # PEFT's wrapper around the model
FACTOR = re.compile(
    r"(?P<module>.+?)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.(?!weight$|bias$)\w+)?(?:\.weight)?"
)
OTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # their initialisation takes something off the base
REFUSED = {
    "use_dora": "is a DoRA adapter, whose magnitudes are no low-rank change",
    "lora_bias": "has biases on its factors (lora_bias)",
    "layer_replication": "repeats layers of its base (layer_replication)",
    "target_parameters": "changes parameters that are no module's weight (target_parameters)",
    "trainable_token_indices": "changes single tokens of an embedding (trainable_token_indices)",
}  # fmt: skip


@dataclass(frozen=True)
class LowRankChange:
    """One matrix's change, scaling * B @ A: `out rank` and `rank in …` as PEFT stores them, and how it lies in the base.

    Attributes:
        b, a: names of the factors in the adapter's file.
        scaling: lora_alpha / rank, or lora_alpha / sqrt(rank) for rsLoRA.
        turned: the base stores the matrix as `in out` (embeddings; GPT-2's Conv1D, `fan_in_fan_out`).
    """

    b: str
    a: str
    scaling: float
    turned: bool


class Adapter:
    """A PEFT LoRA adapter on disk: what it changes, not a model. `onto(base)` gives the weights of the model it makes."""

    def __init__(self, path: Path, tensors: Checkpoint, config: Mapping):
        self.path, self.tensors, self.config = path, tensors, config
        _refuse(path, config)
        self._factors, self._own = _sorted_names(path, tensors)

    def onto(self, base: Source) -> Adapted:
        """The weights of the base with this adapter merged in, lazy.

        Raises:
            ValueError: it changes matrices the base lacks or has in another shape; all of them are listed.
        """
        changes, problems = {}, []
        for module, sides in self._factors.items():
            name = f"{module}.weight"
            said = self._misfit(name, sides, base)
            if said:
                problems.append(f"  {name}: {said}")
            else:
                changes[name] = self._change(module, sides, shape_of(base, name))
        if problems:
            head = f"{self.path} does not fit this base; is it the model the adapter was trained on?"
            raise ValueError("\n".join([head, *problems]))
        return Adapted(self, base, changes, dict(self._own))

    def _misfit(self, name: str, sides: Mapping[str, str], base: Source) -> str | None:
        if name not in base:
            return "the base lacks it"
        (out, inner), shape = self._shape(sides), shape_of(base, name)
        if (out, *inner) != shape and (*inner, out) != shape:
            return f"the adapter changes {[out, *inner]}, the base has {list(shape)}"
        return None

    def _shape(self, sides: Mapping[str, str]) -> tuple[int, tuple[int, ...]]:
        return self.tensors.shape(sides["B"])[0], self.tensors.shape(sides["A"])[1:]

    def _change(self, module: str, sides: Mapping[str, str], shape: tuple[int, ...]) -> LowRankChange:
        out, inner = self._shape(sides)
        turned = (out, *inner) != shape
        if out == inner[0] and len(shape) == 2:  # a square matrix does not show how it lies: the configuration says
            turned = "embedding" in sides["A"] or bool(self.config.get("fan_in_fan_out"))
        return LowRankChange(sides["B"], sides["A"], self._scaling(module, self.tensors.shape(sides["A"])[0]), turned)

    def _scaling(self, module: str, rank: int) -> float:
        said = _for_module(self.config.get("rank_pattern"), module, self.config.get("r", rank))
        if said != rank:
            raise ValueError(f"{self.path}: adapter_config.json says rank {said} for {module}, its factors have {rank}")
        alpha = _for_module(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha", rank))
        return alpha / rank**0.5 if self.config.get("use_rslora") else alpha / rank

    def __iter__(self) -> Iterator[str]:
        raise TypeError(f"{self.path} is an adapter, not a model: mk.open(…).onto(base) gives the model's weights")

    def __repr__(self) -> str:
        return f"Adapter({str(self.path)!r}, {len(self._factors)} matrices)"


class Adapted(Lazy):
    """The weights of a base with an adapter merged in; `adapted[name]` makes one tensor."""

    def __init__(self, adapter: Adapter, base: Source, changes: Mapping[str, LowRankChange], own: Mapping[str, str]):
        self.adapter, self.base, self.changes, self.own = adapter, base, changes, own

    def factors(self, name: str, like: Tensor) -> tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]] | None:
        """The two factors of the change of a matrix as it lies in the base, scaling included; None where there are none."""
        change = self.changes.get(name)
        if change is None:
            return None
        b, a = (self.adapter.tensors[factor].to(like).flatten(1) for factor in (change.b, change.a))
        return (a.T, change.scaling * b.T) if change.turned else (change.scaling * b, a)

    def change(self, name: str, like: Tensor) -> Float[Tensor, "*shape"] | None:
        """The change of one tensor, before it is rounded into the base's dtype; None where the tensor is the adapter's own."""
        if name in self.own:
            return None
        factors = self.factors(name, like)
        return torch.zeros_like(like) if factors is None else (factors[0] @ factors[1]).reshape(like.shape)

    def __getitem__(self, name: str) -> Tensor:
        if name in self.own:
            return self.adapter.tensors[self.own[name]]
        tensor = self.base[name]
        if name not in self.changes:
            return tensor
        wide = tensor.detach().to(torch.float64 if tensor.dtype == torch.float64 else torch.float32)
        return (wide + self.change(name, wide)).to(tensor.dtype)

    @property
    def path(self) -> Path:
        """Where the adapter lies."""
        return self.adapter.path

    def __contains__(self, name: object) -> bool:
        return name in self.base or name in self.own

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.base, *self.own]))

    def __len__(self) -> int:
        return len(set(self.base) | set(self.own))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.adapter.tensors.shape(self.own[name]) if name in self.own else shape_of(self.base, name)

    def dtype(self, name: str) -> torch.dtype:
        return self.adapter.tensors.dtype(self.own[name]) if name in self.own else dtype_of(self.base, name)


def read(path: Path) -> Adapter:
    """The adapter in a folder with `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        ValueError: no such weights, no LoRA, or one that is more than a low-rank change; the sentence names it.
    """
    weights = path / "adapter_model.safetensors"
    if not weights.exists():
        raise ValueError(
            f"{path} has an adapter_config.json but no adapter_model.safetensors; save it with safetensors"
        )
    try:
        config = json.loads((path / "adapter_config.json").read_text())
    except ValueError:
        raise ValueError(f"{path}: adapter_config.json is no JSON; fetch it again") from None
    return Adapter(path, Checkpoint.of(weights), config if isinstance(config, Mapping) else {})


def _refuse(path: Path, config: Mapping) -> None:
    if config.get("peft_type") != "LORA":
        raise ValueError(
            f"{path} is a PEFT adapter of type {config.get('peft_type')!r}; only 'LORA' is a sum of matrices"
        )
    said = [words for key, words in REFUSED.items() if config.get(key)]
    if str(config.get("init_lora_weights")).lower().startswith(OTHER_BASE):
        said.append(f"was initialised by {config['init_lora_weights']!r}, which changes the base too")
    if said:
        raise ValueError(
            f"{path} {said[0]}; merge it into its base first (PEFT's merge_and_unload) and give that model"
        )


def _sorted_names(path: Path, tensors: Checkpoint) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """module -> side -> stored name of its factors; name in the base -> stored name of tensors that are kept whole."""
    factors: dict[str, dict[str, str]] = {}
    own = {}
    for stored in tensors:
        name = stored.removeprefix(PREFIX)
        if found := FACTOR.fullmatch(name):
            factors.setdefault(found["module"], {})[found["side"]] = stored
        elif "lora_" in name:
            raise ValueError(
                f"{path} holds {stored}, which is no low-rank factor; merge the adapter into its base first "
                "(PEFT's merge_and_unload) and give that model"
            )
        else:  # modules_to_save, or biases that were trained: whole tensors
            own[re.sub(r"\.(base_layer|modules_to_save(\.\w+)?(?=\.))", "", name)] = stored
    for module, sides in factors.items():
        if len(sides) < 2:
            raise ValueError(f"{path} has only lora_{next(iter(sides))} of {module}; fetch the rest of the adapter")
    return factors, own


def _for_module(pattern: Mapping | None, module: str, default: float) -> float:
    """What a rank or alpha pattern says of a module: its keys are regular expressions for the end of the dotted name."""
    return next((v for key, v in (pattern or {}).items() if re.fullmatch(rf"(.*\.)?({key})", module)), default)
