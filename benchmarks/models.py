"""Synthetic checkpoints for the benchmarks: the shapes of real models, random weights, experts a little off their base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = list[tuple[str, tuple[int, ...]]]
SPREAD, CHANGE = 0.02, 0.001  # standard deviation of the weights, and of what fine-tuning changed
SHARD = 400_000_000  # bytes of a shard


@dataclass(frozen=True)
class Family:
    """A base and its experts on disk.

    Attributes:
        folder: `base`, `t1`, `t2`, … lie in it.
        experts: how many.
        entries: of one model.
        nbytes: of one model.
    """

    folder: Path
    experts: int
    entries: int
    nbytes: int

    def paths(self) -> dict[str, str]:
        """ "base" and task -> folder."""
        return {name: str(self.folder / name) for name in ("base", *self.tasks())}

    def tasks(self) -> list[str]:
        """t1, t2, …"""
        return [f"t{t}" for t in range(1, self.experts + 1)]


def vision(width: int = 768, layers: int = 12, patch: int = 32) -> Shapes:
    """CLIP's image tower: by default ViT-B/32, 87.8 million entries."""
    shapes = [("visual.conv1.weight", (width, 3, patch, patch)), ("visual.positional_embedding", (50, width))]
    for i in range(layers):
        block = f"visual.transformer.resblocks.{i}."
        shapes += [(f"{block}ln_{k}.{part}", (width,)) for k in (1, 2) for part in ("weight", "bias")]
        for name, out, into in (
            ("attn.in_proj_", 3 * width, width),
            ("attn.out_proj.", width, width),
            ("mlp.c_fc.", 4 * width, width),
            ("mlp.c_proj.", width, 4 * width),
        ):
            shapes += [(f"{block}{name}weight", (out, into)), (f"{block}{name}bias", (out,))]
    return [*shapes, ("visual.proj", (width, 512))]


def language(width: int = 896, layers: int = 24, words: int = 151_936, inner: int = 4864) -> Shapes:
    """A decoder with tied embeddings: by default the shapes of Qwen2-0.5B, 494 million entries."""
    shapes = [("model.embed_tokens.weight", (words, width)), ("model.norm.weight", (width,))]
    for i in range(layers):
        block = f"model.layers.{i}."
        shapes += [(f"{block}{name}layernorm.weight", (width,)) for name in ("input_", "post_attention_")]
        for name, out, into in (
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", width // 7, width),
            ("self_attn.v_proj", width // 7, width),
            ("self_attn.o_proj", width, width),
            ("mlp.gate_proj", inner, width),
            ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner),
        ):
            shapes.append((f"{block}{name}.weight", (out, into)))
    return shapes


def write(folder: Path, shapes: Shapes, experts: int, dtype: torch.dtype, seed: int = 0, shard: int = SHARD) -> Family:
    """Write base and experts, in shards with an index where they are large; what is there already is kept."""
    entries = sum(torch.Size(shape).numel() for _, shape in shapes)
    family = Family(folder, experts, entries, entries * dtype.itemsize)
    for place, name in enumerate(family.paths()):
        if not (folder / name / "done").exists():
            (folder / name).mkdir(parents=True, exist_ok=True)
            _write_model(folder / name, _weights(shapes, dtype, seed, place), shard)
            (folder / name / "done").touch()
    return family


def _weights(shapes: Shapes, dtype: torch.dtype, seed: int, place: int) -> Iterator[tuple[str, torch.Tensor]]:
    for number, (name, shape) in enumerate(shapes):
        common, own = (torch.Generator().manual_seed(seed + 1000 * number + p) for p in (0, place))
        weight = SPREAD * torch.randn(shape, generator=common)
        if place:
            weight += CHANGE * torch.randn(shape, generator=own)
        yield name, weight.to(dtype)


def _write_model(folder: Path, weights: Iterator[tuple[str, torch.Tensor]], size: int) -> None:
    shards: list[dict[str, torch.Tensor]] = [{}]
    where, held = {}, 0
    for name, weight in weights:
        if held and held + weight.nbytes > size:
            save_file(shards[-1], folder / _file(len(shards)), metadata={"format": "pt"})
            shards[-1] = {}
            shards.append({})
            held = 0
        shards[-1][name] = weight
        where[name] = len(shards)
        held += weight.nbytes
    alone = len(shards) == 1
    save_file(shards[-1], folder / ("model.safetensors" if alone else _file(len(shards))), metadata={"format": "pt"})
    if not alone:
        index = {"metadata": {}, "weight_map": {name: _file(shard) for name, shard in where.items()}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _file(number: int) -> str:
    return f"model-{number:05d}.safetensors"
