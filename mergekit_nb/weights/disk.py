"""How a merge lies on disk. Written beside and renamed, so that nothing is ever half there; nothing is unpickled."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mergekit_nb.weights.modulators import Bits, LowRank, Masked
from mergekit_nb.weights.source import Source
from mergekit_nb.weights.source import open as open_source

FORMAT = 1
SCALE_BYTES = 4  # a rescaler is one float32
MASK, OWN, LEFT, RIGHT = "mask/", "own/", "left/", "right/"


def save(
    folder: str | Path,
    base: Source,
    vector: Mapping[str, Tensor],
    patches: Mapping[str, Masked | LowRank],
    model: Mapping[str, Tensor] | None,
    recipe: dict,
) -> Path:
    """Write a merge; see `Merged.save`."""
    folder = Path(folder).expanduser()
    if folder.exists() and not (folder / "recipe.json").exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already and is no earlier merge; name a new folder")
    scales = {t: p.scale if isinstance(p, Masked) else None for t, p in patches.items()}
    recipe = {"format": FORMAT, **recipe, "merged": list(vector), "scales": scales}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        desk = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        _write(desk / "new", base, vector, patches, model, recipe)
        _replace(desk, folder)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
        raise OSError(f"{folder} could not be written ({error}); nothing was changed there") from error
    finally:
        shutil.rmtree(desk, ignore_errors=True)
    return folder


def load(folder: str | Path) -> tuple[dict, Source, Source, dict[str, Masked | LowRank]]:
    """Recipe, base (or the whole model of a plain merge), shared vector and patches of a saved merge."""
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    recipe = _recipe(folder)
    if (folder / "model.safetensors").exists():
        return recipe, open_source(folder / "model.safetensors"), {}, {}
    vector = open_source(folder / "vector.safetensors")
    patches = {task: _load_patch(folder, task, scale, vector) for task, scale in recipe["scales"].items()}
    return recipe, open_source(folder / "base.safetensors"), vector, patches


def patch_bytes(patch: Masked | LowRank, vector: Mapping[str, Tensor]) -> int:
    """What one task's patch costs, in bytes: one bit per masked entry and the rescaler, or the factors; its own tensors."""
    masks = sum(-(-vector[name].numel() // 8) for name in patch.mask)
    scale = SCALE_BYTES if isinstance(patch, Masked) else 0
    tensors = [*patch.own.values(), *(factor for pair in patch.factors.values() for factor in pair)]
    return masks + scale + sum(t.numel() * t.element_size() for t in tensors)


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
    part: Path,
    base: Source,
    vector: Mapping[str, Tensor],
    patches: Mapping[str, Masked | LowRank],
    model: Mapping[str, Tensor] | None,
    recipe: dict,
) -> None:
    aliases = recipe["aliases"]
    part.mkdir()
    if model is not None:
        _save({n: t for n, t in model.items() if n not in aliases}, part / "model.safetensors")
    else:
        _save({n: base[n] for n in base if n not in aliases}, part / "base.safetensors")
        _save(vector, part / "vector.safetensors")
        (part / "patches").mkdir()
        for task, patch in patches.items():
            masks = {MASK + n: t for n, t in patch.mask.packed.items()} if patch.mask else {}
            left = {LEFT + n: t for n, (t, _) in patch.factors.items()}
            right = {RIGHT + n: t for n, (_, t) in patch.factors.items()}
            own = {OWN + n: t for n, t in patch.own.items()}
            _save({**masks, **left, **right, **own}, _patch_file(part, task))
    (part / "recipe.json").write_text(json.dumps(recipe, indent=1, ensure_ascii=False) + "\n")
    for file in part.rglob("*.safetensors"):  # safetensors leaves them readable by their owner alone
        shutil.copymode(part / "recipe.json", file)


def _replace(desk: Path, folder: Path) -> None:
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


def _load_patch(folder: Path, task: str, scale: float | None, vector: Source) -> Masked | LowRank:
    stored = open_source(_patch_file(folder, task))
    own = {n.removeprefix(OWN): stored[n] for n in stored if n.startswith(OWN)}
    left = {n.removeprefix(LEFT): stored[n] for n in stored if n.startswith(LEFT)}
    if scale is None:
        return LowRank({n: (factor, stored[RIGHT + n]) for n, factor in left.items()}, own)
    packed = {n.removeprefix(MASK): stored[n] for n in stored if n.startswith(MASK)}
    shapes = {n: tuple(vector[n].shape) for n in packed if n in vector}
    for name, bits in packed.items():
        if name not in shapes or bits.numel() != -(-vector[name].numel() // 8):
            raise ValueError(
                f"{_patch_file(folder, task)}: the mask of {name} does not fit the shared vector; the folder is damaged"
            )
    return Masked(Bits(packed, shapes), scale, own)


def _patch_file(folder: Path, task: str) -> Path:
    return folder / "patches" / f"{quote(task, safe=' ')}.safetensors"


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    # clones: safetensors refuses tensors that share memory, as views of one buffer do
    save_file(
        {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, file, metadata={"format": "pt"}
    )
