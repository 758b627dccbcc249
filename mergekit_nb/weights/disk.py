"""How a merge lies on disk. Written beside and renamed, so that nothing is ever half there; nothing is unpickled."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from urllib.parse import quote

from torch import Tensor

from mergekit_nb.weights.modulators import Bits, LowRank, Masked
from mergekit_nb.weights.shards import SHARD, Shard, Slot, file_name, index, portions, stored
from mergekit_nb.weights.source import INDEX, Source, dtype_of, nbytes_of, shape_of
from mergekit_nb.weights.source import open as open_source
from mergekit_nb.weights.view import Pairs, Under

FORMAT = 1
SCALE_BYTES = 4  # a rescaler is one float32
MASK, OWN, LEFT, RIGHT = "mask/", "own/", "left/", "right/"


def save(
    folder: str | Path,
    base: Source,
    vector: Mapping[str, Tensor],
    patches: Mapping[str, Masked | LowRank],
    model: Source | None,
    recipe: dict,
    shard_size: int = SHARD,
) -> Path:
    """Write a merge; see `Merged.save`."""
    folder = free(folder)
    try:
        desk = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {error.strerror or error}") from error
    scales = {task: patch.scale if isinstance(patch, Masked) else None for task, patch in patches.items()}
    try:
        _write(desk / "new", base, vector, patches, model, recipe["aliases"], shard_size)
        finish(desk / "new", recipe, list(vector), scales)
        replace(desk, folder)
    except OSError as error:
        raise unwritten(folder, error) from error
    finally:
        shutil.rmtree(desk, ignore_errors=True)
    return folder


def free(folder: str | Path) -> Path:
    """The folder, where it may be written: it is not there yet, is empty, or holds an earlier merge.

    Raises:
        TypeError: no path.
        FileExistsError: it holds something else.
        OSError: the folder around it cannot be made.
    """
    if not isinstance(folder, str | Path):
        raise TypeError(f"a merge is written to a folder, which is named by its path; got {type(folder).__name__}")
    folder = Path(folder).expanduser()
    folder = folder if folder.name else folder.resolve()
    if folder.exists() and not (folder / "recipe.json").exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already and is no earlier merge; name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def unwritten(folder: Path, error: OSError) -> OSError:
    """What to say of a write that failed."""
    return OSError(f"{folder} could not be written ({error}); nothing was changed there")


def runs_of(whole: Source, aliases: Iterable[str], shard_size: int) -> list[list[str]]:
    """The tensors of every portion of the files; a patch's tensor lies in the portion of its name, else in the last."""
    return portions({name: nbytes_of(whole, name) for name in whole if name not in aliases}, shard_size)


def patch_stem(task: str) -> str:
    """The name of a task's files without their ending; any task name will do."""
    return f"patches/{quote(task, safe=' ')}"


def finish(new: Path, recipe: dict, merged: list[str], scales: Mapping[str, float | None]) -> None:
    """Write indexes and recipe beside the files of a merge that are all there.

    Args:
        merged: the tensors that were merged.
        scales: every task's rescaler, None for one with factors; empty for a plain merge.
    """
    stems = ("base", "vector", *map(patch_stem, scales)) if scales else ("model",)
    for stem in stems:
        index(new, stem)
    said = {"format": FORMAT, **recipe, "merged": merged, "scales": dict(scales)}
    (new / "recipe.json").write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")


def replace(desk: Path, folder: Path) -> None:
    """Put `desk/new` where `folder` is, or back what was there."""
    earlier = folder.exists()
    if earlier:
        folder.rename(desk / "earlier")
    try:
        (desk / "new").rename(folder)
    except OSError:
        if earlier:
            (desk / "earlier").rename(folder)
        raise


def load(folder: str | Path) -> tuple[dict, Source, Source, dict[str, Masked | LowRank]]:
    """Recipe, base (or the whole model of a plain merge), shared vector and patches of a saved merge."""
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    recipe = _recipe(folder)
    if any((folder / f"model{end}").exists() for end in (".safetensors", INDEX)):
        return recipe, open_source(stored(folder, "model")), {}, {}
    vector = open_source(stored(folder, "vector"))
    patches = {task: _load_patch(folder, task, scale, vector) for task, scale in recipe["scales"].items()}
    return recipe, open_source(stored(folder, "base")), vector, patches


def patch_bytes(patch: Masked | LowRank, vector: Mapping[str, Tensor]) -> int:
    """What one task's patch costs, in bytes: one bit per masked entry and the rescaler, or the factors; its own tensors."""
    masks = sum(-(-prod(shape_of(vector, name)) // 8) for name in patch.mask)
    scale = SCALE_BYTES if isinstance(patch, Masked) else 0
    factors = sum(t.numel() * t.element_size() for pair in patch.factors.values() for t in pair)
    return masks + scale + sum(nbytes_of(patch.own, name) for name in patch.own) + factors


def _recipe(folder: Path) -> dict:
    try:
        recipe = json.loads((folder / "recipe.json").read_text())
        known = recipe["format"] == FORMAT and {"tasks", "aliases", "merged", "scales"} <= set(recipe)
    except FileNotFoundError:
        raise ValueError(f"{folder} is no saved merge: it has no recipe.json") from None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(f"{folder}/recipe.json is damaged, or was written by a newer version of this package")
    return recipe


def _write(
    new: Path,
    base: Source,
    vector: Mapping[str, Tensor],
    patches: Mapping[str, Masked | LowRank],
    model: Source | None,
    aliases: Mapping[str, str],
    shard_size: int,
) -> None:
    new.mkdir()
    whole = base if model is None else model
    runs = runs_of(whole, aliases, shard_size)
    place = {name: i for i, run in enumerate(runs) for name in run}
    shared = {"model": model} if model is not None else {"base": base, "vector": vector}
    for stem, tensors in shared.items():
        _write_stem(new, stem, tensors, {n: place[n] for n in tensors if n not in aliases}, len(runs))
    for task, patch in patches.items():
        tensors = _patch_tensors(patch)
        where = {key: place.get(key.partition("/")[2], len(runs) - 1) for key in tensors}
        _write_stem(new, patch_stem(task), tensors, where, len(runs))


def _write_stem(new: Path, stem: str, tensors: Source, where: Mapping[str, int], count: int) -> None:
    """The files of one stem; `where` is the portion of every tensor. The first file is written even if it is empty."""
    for place in range(count):
        names = [name for name in tensors if where.get(name) == place]
        if names or place == 0:
            slots = [Slot(name, dtype_of(tensors, name), shape_of(tensors, name)) for name in names]
            with Shard(new / file_name(stem, place, count), slots) as shard:
                for name in names:
                    shard.put(name, tensors[name])


def _patch_tensors(patch: Masked | LowRank) -> dict[str, Tensor]:
    masks = {MASK + n: t for n, t in patch.mask.packed.items()} if patch.mask else {}
    left = {LEFT + n: t for n, (t, _) in patch.factors.items()}
    right = {RIGHT + n: t for n, (_, t) in patch.factors.items()}
    return {**masks, **left, **right, **{OWN + n: t for n, t in patch.own.items()}}


def _load_patch(folder: Path, task: str, scale: float | None, vector: Source) -> Masked | LowRank:
    file = stored(folder, patch_stem(task))
    tensors = open_source(file)
    own = Under(tensors, OWN)
    if scale is None:
        return LowRank(Pairs(Under(tensors, LEFT), Under(tensors, RIGHT)), own)
    packed = Under(tensors, MASK)
    shapes = {name: shape_of(vector, name) for name in packed if name in vector}
    for name in packed:
        if name not in shapes or prod(packed.shape(name)) != -(-prod(shapes[name]) // 8):
            raise ValueError(f"{file}: the mask of {name} does not fit the shared vector; the folder is damaged")
    return Masked(Bits(packed, shapes), scale, own)
