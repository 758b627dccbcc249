"""Pre-training of the base on pictures and texts, and fine-tuning of one expert per task with frozen heads.

Every draw is keyed by (seed, step): a run that was interrupted and resumed gives the same weights as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergekit_nb.models.clip import Tokenizer, build, heads, preprocess
from mergekit_nb.zoo.splits import Pictures, join
from mergekit_nb.zoo.tasks import Pile, Pool

MIRRORED = {"fashion", "quickdraw", "emoji"}  # tasks whose pictures mean the same seen in a mirror
TEMPERATURE = 100.0  # largest logit scale (Radford et al. 2021)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        steps: optimiser steps; ``batch`` pictures in each.
        rate: peak learning rate of AdamW, after ``warmup`` steps, then a cosine to zero.
        decay: decoupled weight decay of matrices.
        pull: decoupled decay towards the starting weights per step at the peak rate (L2-SP, Li et al. 2018).
        smoothing: label smoothing of the cross-entropy.
        share: of a pre-training batch, the part drawn from the tasks' "pre" pictures; the rest comes from the pool.
    """

    steps: int
    batch: int
    rate: float
    warmup: int
    decay: float = 0.05
    pull: float = 0.0
    smoothing: float = 0.0
    share: float = 0.5

    def at(self, step: int) -> float:
        """Share of the peak rate at a step, in (0, 1]."""
        return min(1.0, (step + 1) / self.warmup) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


def pretrain(
    config: Mapping[str, Any],
    tokenizer: Tokenizer,
    piles: Mapping[str, Pile],
    pool: Pool,
    recipe: Recipe,
    *,
    start: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    keep_every: int = 500,
    log: Callable[[str], None] = print,
) -> dict[str, Tensor]:
    """Train the base contrastively on the pool and the tasks' "pre" pictures.

    Args:
        start: a state dict to go on from; fresh weights by default.
        checkpoint: a file to resume from and to save to, every ``keep_every`` steps.

    Returns:
        The state dict, float32 on the CPU.
    """
    torch.manual_seed(seed)
    model = build(config).to(device).train()
    if start is not None:
        model.load_state_dict(start)
    optimiser = _adamw(model.parameters(), recipe)
    done = _resume(checkpoint, model, optimiser)
    sample = Sampler(piles, pool, recipe.batch, recipe.share)
    tokens = tokenizer(sample.texts).to(device)
    for step in range(done, recipe.steps):
        images, which = sample(seed, step)
        images = augment(preprocess(images.to(device)), _generator(seed, step))
        loss = contrastive(model, images, which.to(device), tokens)
        _update(model, optimiser, loss, recipe, step)
        if (step + 1) % 100 == 0:
            log(f"pretrain {step + 1}/{recipe.steps} loss {loss.item():.3f}")
        if checkpoint is not None and ((step + 1) % keep_every == 0 or step + 1 == recipe.steps):
            _keep(checkpoint, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1})
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


class Sampler:
    """Draws pre-training batches: a share of pictures from four tasks, drawn anew each time, the rest from the pool."""

    def __init__(self, piles: Mapping[str, Pile], pool: Pool, batch: int, share: float = 0.5, at_once: int = 4):
        self.batch, self.of_tasks, self.at_once = batch, int(batch * share), min(at_once, len(piles))
        self.texts, self.lots = list(pool.texts), []
        self.pool = pool.pictures
        for pile in piles.values():
            self.lots.append((pile.splits["pre"], len(self.texts)))
            self.texts += [pile.prompt.format(name) for name in pile.classes]

    def __call__(self, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Images uint8 "n 3 32 32" and, for each, which text is its own, int64 "n"."""
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(len(self.lots), self.at_once, replace=False)
        draws = [(self.pool, 0, self.batch - self.of_tasks)]
        draws += [
            (*self.lots[lot], len(part))
            for lot, part in zip(chosen, np.array_split(range(self.of_tasks), self.at_once), strict=True)
        ]
        images, which = [], []
        for lot, offset, count in draws:
            places = rng.integers(0, len(lot), count)
            images.append(lot.images[places])
            which.append(lot.labels[places] + offset)
        return channels_first(np.concatenate(images)), torch.from_numpy(np.concatenate(which))


def contrastive(model: nn.Module, images: Tensor, which: Tensor, tokens: Tensor) -> Tensor:
    """CLIP's symmetric loss where several images of a batch may share a text: each text's target is spread over them.

    Args:
        images: float "n 3 h w". which: the text of each image, int64 "n". tokens: int64 "text context".
    """
    distinct, own = which.unique(return_inverse=True)
    scale = model.logit_scale.exp().clamp(max=TEMPERATURE)
    shown = F.normalize(model.encode_image(images), dim=-1)
    said = F.normalize(model.encode_text(tokens[distinct]), dim=-1)
    logits = scale * shown @ said.T
    shared = F.one_hot(own, len(distinct)).float().T
    spread = shared / shared.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, spread)) / 2


def finetune(
    config: Mapping[str, Any],
    base: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    name: str,
    pile: Pile,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> dict[str, Tensor]:
    """Fine-tune the vision tower on one task's "pre" and "train" pictures; the zero-shot head stays as it is.

    Returns:
        The tensors of the vision tower, names ``visual.*``, float32 on the CPU.
    """
    model = build(config).to(device)
    model.load_state_dict(base)
    head = heads(model.eval(), tokenizer, pile.prompt, pile.classes)
    scale = model.logit_scale.exp().item()
    optimiser = _adamw(model.visual.parameters(), recipe)
    origin = [weight.detach().clone() for weight in model.visual.parameters()]
    lot = join([pile.splits["pre"], pile.splits["train"]])
    for step in range(recipe.steps):
        places = np.random.default_rng([seed, step]).integers(0, len(lot), recipe.batch)
        images = preprocess(channels_first(lot.images[places]).to(device))
        images = augment(images, _generator(seed, step), mirror=name in MIRRORED)
        logits = scale * F.normalize(model.train().encode_image(images), dim=-1) @ head.T
        labels = torch.from_numpy(lot.labels[places]).to(device)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
        _update(model.visual, optimiser, loss, recipe, step)
        _pull(model.visual, origin, recipe.pull * recipe.at(step))
        if (step + 1) % 100 == 0:
            log(f"finetune {name} {step + 1}/{recipe.steps} loss {loss.item():.3f}")
    tower = {key: value for key, value in model.state_dict().items() if key.startswith("visual.")}
    return {key: value.detach().cpu().clone() for key, value in tower.items()}


@torch.no_grad()
def accuracy(model: nn.Module, head: Tensor, lot: Pictures, batch: int = 500) -> float:
    """Share of pictures whose nearest class text is their own, in [0, 1]."""
    device, right = head.device, 0
    for start in range(0, len(lot), batch):
        images = preprocess(channels_first(lot.images[start : start + batch]).to(device))
        guess = (model.eval().encode_image(images) @ head.T).argmax(dim=1).cpu().numpy()
        right += int((guess == lot.labels[start : start + batch]).sum())
    return right / len(lot)


def augment(images: Tensor, generator: torch.Generator, *, mirror: bool = False) -> Tensor:
    """Turn by up to 8 degrees, scale by up to a tenth, shift by up to a sixteenth; drawn on the CPU for every device."""
    n = len(images)
    turn, grow, *shift = (torch.rand(4, n, generator=generator) * 2 - 1) * torch.tensor([[0.14], [0.1], [0.12], [0.12]])
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0) if mirror else torch.ones(n)
    rows = [
        torch.stack([turn.cos() * (1 + grow) * flip, -turn.sin() * (1 + grow), shift[0]], dim=1),
        torch.stack([turn.sin() * (1 + grow) * flip, turn.cos() * (1 + grow), shift[1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1).to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@contextmanager
def without_denormals() -> Iterator[None]:
    """Optimiser states fade into denormals, which are slow: they count as 0 in here, and nowhere else."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def channels_first(images: np.ndarray) -> Tensor:
    """uint8 "n h w c" -> uint8 "n c h w"."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def _adamw(weights: Iterator[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    weights = list(weights)
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)


def _update(model: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor, recipe: Recipe, step: int) -> None:
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate * recipe.at(step)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


@torch.no_grad()
def _pull(model: nn.Module, origin: list[Tensor], strength: float) -> None:
    if strength:
        for weight, home in zip(model.parameters(), origin, strict=True):
            weight.lerp_(home, strength)


def _resume(checkpoint: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if checkpoint is None or not checkpoint.exists():
        return 0
    stored = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(stored["model"])
    optimiser.load_state_dict(stored["optimiser"])
    return stored["step"]


def _keep(checkpoint: Path, content: dict) -> None:
    part = checkpoint.with_suffix(".part")
    torch.save(content, part)
    part.replace(checkpoint)
