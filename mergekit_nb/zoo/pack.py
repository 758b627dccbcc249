"""Write a zoo: weights in half precision, pictures as sheets, and a card with what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.models.clip import Tokenizer, build, heads
from mergekit_nb.zoo.card import page
from mergekit_nb.zoo.fetch import sha256
from mergekit_nb.zoo.sheets import write_sheet
from mergekit_nb.zoo.splits import Pictures, even
from mergekit_nb.zoo.tasks import Pile

CALIBRATION = 256  # unlabelled pictures a task, from what the experts were trained on


def write(
    out: Path,
    name: str,
    config: Mapping[str, Any],
    tokenizer: Tokenizer,
    base: Mapping[str, Tensor],
    experts: Mapping[str, Mapping[str, Tensor]],
    piles: Mapping[str, Pile],
    made: Mapping[str, Any],
) -> None:
    """Write the folder that `mergekit_nb.zoo.load` opens; what lies there already is replaced file by file.

    Args:
        base: the whole model's state dict. experts: task -> ``visual.*`` tensors.
        made: how it was made, for the card: recipe, seed, versions, sources.
    """
    (out / "experts").mkdir(parents=True, exist_ok=True)
    (out / "data").mkdir(exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save(out / "vocab.json")
    vision = {key: value for key, value in base.items() if key.startswith("visual.")}
    save_half(out / "base.safetensors", vision)
    save_half(out / "text.safetensors", {key: value for key, value in base.items() if key not in vision})
    for task, expert in experts.items():
        save_half(out / "experts" / f"{task}.safetensors", expert)
    save_file(frozen_heads(config, tokenizer, base, piles), out / "heads.safetensors")
    for task, pile in piles.items():
        write_pictures(out / "data", task, pile)
    card = {"name": name, "tasks": {task: described(pile) for task, pile in piles.items()}, **made}
    _write_json(out / "card.json", card)  # enough to open the zoo, so that what is measured is what was packed
    card |= {"models": measured(out), "files": fingerprints(out)}
    _write_json(out / "card.json", card)
    (out / "card.md").write_text(page(card))


def described(pile: Pile) -> dict[str, Any]:
    """A task's entry in the card."""
    counts = {split: len(lot) for split, lot in pile.splits.items()}
    return {"classes": list(pile.classes), "prompt": pile.prompt, "pictures": counts}


def save_half(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write floating tensors as float16; counters stay what they are."""
    half = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    save_file({key: value.contiguous() for key, value in half.items()}, file)


def frozen_heads(
    config: Mapping[str, Any], tokenizer: Tokenizer, base: Mapping[str, Tensor], piles: Mapping[str, Pile]
) -> dict[str, Tensor]:
    """Task -> "class embed" float32, from the text tower before it is rounded."""
    model = build(config).eval()
    model.load_state_dict(base)
    return {task: heads(model, tokenizer, pile.prompt, pile.classes) for task, pile in piles.items()}


def write_pictures(folder: Path, task: str, pile: Pile) -> None:
    """One sheet per split and the labels of all of them; calibration pictures come without labels."""
    lots = {split: pile.splits[split] for split in ("test", "validation")}
    lots["calibration"] = unlabelled(even(pile.splits["train"], CALIBRATION, seed=0))
    for split, lot in lots.items():
        write_sheet(folder / f"{task}-{split}.png", lot.images)
    labels = {split: lot.labels.tolist() for split, lot in lots.items()}
    (folder / f"{task}.json").write_text(json.dumps(labels, separators=(",", ":")) + "\n")


def unlabelled(lot: Pictures) -> Pictures:
    """The same pictures with -1 for every label."""
    return Pictures(lot.images, np.full(len(lot), -1), lot.makers)


def measured(out: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy of the packed models on the test splits: "base" and "individual" -> task -> accuracy, n, low, high."""
    from mergekit_nb.zoo import load

    zoo = load(out)
    found = {"base": zoo.base, "individual": zoo.experts}
    return {
        model: evaluate(subject, zoo.tasks, device="cpu").set_index("task").round(4).to_dict("index")
        for model, subject in found.items()
    }


def fingerprints(out: Path) -> dict[str, str]:
    """File -> sha256 of everything the zoo holds but the cards themselves."""
    files = sorted(
        file for file in out.rglob("*") if file.is_file() and file.suffix in {".safetensors", ".png", ".json"}
    )
    return {file.relative_to(out).as_posix(): sha256(file) for file in files if file.name != "card.json"}


def _write_json(file: Path, content: Mapping) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
