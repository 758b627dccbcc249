"""What is in a saved merge or a checkpoint, as tables: nothing is merged, nothing is written."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pandas as pd
import torch

from mergekit_nb.weights.merged import Merged, load
from mergekit_nb.weights.modulators import Masked
from mergekit_nb.weights.source import Source, dtype_of, shape_of
from mergekit_nb.weights.source import open as open_source


def contents(path: str | Path) -> tuple[dict[str, str], dict[str, pd.DataFrame]]:
    """What lies at a path.

    Returns:
        Facts by name; and tables by title: "tensors" (name, dtype, shape, entries, bytes; in a merge with masks also kept,
        the share of entries a mask lets through, averaged over the tasks) and, in a merge with masks, "tasks".

    Raises:
        FileNotFoundError, ValueError: nothing is there, or nothing that can be read.
    """
    path = Path(path)
    if (path / "recipe.json").exists():
        return _merge(load(path))
    source = open_source(path)
    tensors = _tensors(source)
    return {"kind": "checkpoint", **_totals(tensors)}, {"tensors": tensors}


def _merge(merged: Merged) -> tuple[dict[str, str], dict[str, pd.DataFrame]]:
    tensors = _tensors(merged.base)
    size = merged.nbytes
    facts = {"kind": "merge", "method": merged.method, "tasks": ", ".join(merged.tasks), **_totals(tensors)}
    facts |= _provenance(merged)
    facts["on disk"] = f"{megabytes(size['shared'])} shared, {megabytes(sum(size['patches'].values()))} in patches"
    if not merged.patches:
        return facts, {"tensors": tensors}
    kept = {task: _kept(patch) for task, patch in merged.patches.items()}
    tensors["kept"] = pd.DataFrame(kept).reindex(tensors["name"]).mean(axis=1).to_numpy()
    tasks = [_task(merged, tensors, task, kept[task]) for task in merged.tasks]
    return facts, {"tasks": pd.DataFrame(tasks), "tensors": tensors}


def _tensors(source: Source) -> pd.DataFrame:
    return pd.DataFrame([_tensor(name, shape_of(source, name), dtype_of(source, name)) for name in source])


def _tensor(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, object]:
    said = "×".join(map(str, shape)) or "scalar"
    kind, entries = str(dtype).removeprefix("torch."), prod(shape)
    return {"name": name, "dtype": kind, "shape": said, "entries": entries, "bytes": entries * dtype.itemsize}


def _totals(tensors: pd.DataFrame) -> dict[str, str]:
    dtypes = tensors.groupby("dtype")["entries"].sum()
    by_dtype = ", ".join(f"{entries:,} {dtype}" for dtype, entries in dtypes.items())
    return {"tensors": str(len(tensors)), "entries": by_dtype, "size": megabytes(tensors["bytes"].sum())}


def _provenance(merged: Merged) -> dict[str, str]:
    """Options, versions and input hashes, a line each."""
    said = {}
    for key in ("options", "versions"):
        said[key] = ", ".join(f"{name}={value}" for name, value in merged.provenance.get(key, {}).items()) or "none"
    inputs = merged.provenance.get("inputs", {})
    for name, origin in {"base": inputs.get("base", {}), **inputs.get("experts", {})}.items():
        said[f"from {name}"] = ", ".join(f"{key} {value}" for key, value in origin.items())
    return said


def _kept(patch: Masked) -> pd.Series:
    return pd.Series({name: patch.mask[name].float().mean().item() for name in patch.mask}, dtype=float)


def _task(merged: Merged, tensors: pd.DataFrame, task: str, kept: pd.Series) -> dict[str, object]:
    entries = tensors.set_index("name")["entries"].reindex(kept.index)
    patch = merged.patches[task]
    return {
        "task": task,
        "rescaler": patch.scale,
        "kept": (kept * entries).sum() / entries.sum() if len(kept) else float("nan"),
        "own tensors": len(patch.own),
        "bytes": merged.nbytes["patches"][task],
    }


def megabytes(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e6:.2f} MB" if count >= 10_000 else f"{count} bytes"
