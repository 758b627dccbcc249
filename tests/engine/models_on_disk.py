"""Small models as files, whose larger tensors take several pieces, and what lies in a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

SHAPES = {
    "stem.weight": (7, 300),
    "blocks.0.weight": (260, 300),  # 78 000 entries: more than one piece
    "blocks.0.bias": (260,),
    "blocks.1.weight": (131_077,),  # odd: the last byte of a mask is not full
    "blocks.1.scale": (),
    "head.weight": (10, 300),
}
TIGHT = "80MB"  # a budget in which a piece has 65 536 entries


def write_models(folder: Path, tasks: str = "abc", dtype: torch.dtype = torch.float32) -> tuple[str, dict[str, str]]:
    """A base and an expert for every letter; what `merge` takes."""
    g = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=g) for name, shape in SHAPES.items()}
    models = {"base": base}
    for task in tasks:
        models[task] = {name: w + 0.1 * torch.randn(w.shape, generator=g) for name, w in base.items()}
    for name, weights in models.items():
        stored = {key: w.to(dtype) for key, w in weights.items()} | {"steps": torch.tensor([len(name)])}
        save_file(stored, folder / f"{name}.safetensors")
    return str(folder / "base.safetensors"), {task: str(folder / f"{task}.safetensors") for task in tasks}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
