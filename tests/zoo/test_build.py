"""The whole build after the drawing: a few steps of training on pictures made here, packed and opened again."""

import json

import numpy as np
import pytest
import torch

from mergekit_nb import zoo
from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.zoo import pack
from mergekit_nb.zoo.build import build, config, made, train
from mergekit_nb.zoo.splits import SPLITS, pictures
from mergekit_nb.zoo.tasks import Pile, Pool
from mergekit_nb.zoo.train import Recipe, Sampler, augment


def bars(count, classes, seed):
    """Pictures of a bright row, noise around it; the row's place is the class."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (count, 32, 32), np.uint8)
    labels = np.arange(count) % classes
    for image, label in zip(images, labels, strict=True):
        image[label * 8 : label * 8 + 6] = 255
    return pictures(images, labels, "")


@pytest.fixture(scope="module")
def world():
    piles = {
        task: Pile(f"a {task} {{}}", ("one", "two", "three"), {s: bars(24, 3, seed + k) for k, s in enumerate(SPLITS)})
        for task, seed in {"rows": 0, "bars": 10}.items()
    }
    return piles, Pool(bars(40, 2, 20), ("a line", "an edge"))


@pytest.fixture(scope="module")
def built(world, tmp_path_factory):
    piles, pool = world
    work = tmp_path_factory.mktemp("work")
    trained = train(piles, pool, work, steps=3, device="cpu", log=lambda _: None)
    out = tmp_path_factory.mktemp("out")
    pack.write(out, "tiny", *trained, piles, made(0, "cpu", 3, {"somewhere@1.0": "abc"}))
    return out, work, trained


def test_a_built_zoo_opens_and_its_card_says_what_it_scores(built):
    out, _, (_, _, base, experts) = built
    opened = zoo.load(out)
    assert (opened.name, list(opened.tasks)) == ("tiny", ["rows", "bars"])
    assert set(opened.base) == {name for name in base if name.startswith("visual.")}
    for task, expert in experts.items():
        for name in expert:
            assert torch.equal(opened.experts[task][name], expert[name].half())
    card = json.loads((out / "card.json").read_text())
    scored = evaluate(opened.experts, opened.tasks, device="cpu").set_index("task")
    assert {task: row["accuracy"] for task, row in card["models"]["individual"].items()} == dict(
        scored["accuracy"].round(4)
    )
    assert "| individual |" in (out / "card.md").read_text()


def test_only_the_vision_tower_is_fine_tuned_and_it_moves(built):
    _, _, (_, _, base, experts) = built
    for expert in experts.values():
        assert set(expert) == {name for name in base if name.startswith("visual.")}
        assert any(not torch.equal(expert[name], base[name]) for name in expert)


def test_a_second_run_takes_what_is_there(built, world):
    _, work, (_, _, base, _) = built
    times = {file: file.stat().st_mtime_ns for file in work.iterdir()}
    again = train(*world, work, steps=3, device="cpu", log=pytest.fail)
    assert times == {file: file.stat().st_mtime_ns for file in work.iterdir()}
    assert all(torch.equal(again[2][name], base[name]) for name in base)


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(world, built, tmp_path):
    from mergekit_nb.zoo.train import pretrain

    class Interrupted(Exception):
        pass

    def interrupt(_):
        raise Interrupted

    piles, pool = world
    settings, tokenizer, *_ = built[2]
    recipe = Recipe(steps=101, batch=4, rate=1e-3, warmup=2)
    kept = tmp_path / "base.ckpt"
    with pytest.raises(Interrupted):  # the log is first written to at step 100
        pretrain(settings, tokenizer, piles, pool, recipe, checkpoint=kept, keep_every=60, log=interrupt)
    assert kept.exists()
    quiet = {"log": lambda _: None}
    resumed = pretrain(settings, tokenizer, piles, pool, recipe, checkpoint=kept, **quiet)
    straight = pretrain(settings, tokenizer, piles, pool, recipe, **quiet)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_half_of_a_batch_is_tasks_and_every_picture_has_its_own_text(world):
    piles, pool = world
    sample = Sampler(piles, pool, batch=20)
    images, which = sample(seed=0, step=5)
    assert images.shape == (20, 3, 32, 32)
    assert (which[:10] < len(pool.texts)).all()
    assert (which[10:] >= len(pool.texts)).all()
    for image, text in zip(images[10:, 0], which[10:], strict=True):
        row = int((image == 255).all(dim=1).nonzero()[0]) // 8
        assert sample.texts[text].endswith(("one", "two", "three")[row])


def test_augmentation_is_repeatable_gentle_and_keeps_the_shape():
    images = torch.zeros(5, 3, 32, 32)
    images[:, :, 12:20, 12:20] = 1
    moved = [augment(images, torch.Generator().manual_seed(0), mirror=True) for _ in range(2)]
    assert torch.equal(*moved)
    assert moved[0].shape == images.shape
    assert not torch.equal(moved[0], images)
    assert (moved[0][:, :, 15:17, 15:17] > 0.9).all()


def test_the_rate_rises_then_falls_to_nothing():
    recipe = Recipe(steps=100, batch=1, rate=1.0, warmup=10)
    rates = [recipe.at(step) for step in range(100)]
    assert rates.index(max(rates)) == 9
    assert min(rates) > 0
    assert rates[-1] < 0.001


def test_the_shipped_configuration_is_the_one_the_build_makes(world):
    from mergekit_nb.models.clip import Tokenizer

    path = zoo.load().path
    assert json.loads((path / "config.json").read_text()) == config(Tokenizer.load(path / "vocab.json"))


def test_an_unknown_zoo_is_not_built(tmp_path):
    with pytest.raises(ValueError, match='no recipe for a zoo "clip9": there is clip8'):
        build("clip9", tmp_path)


def test_training_leaves_denormals_to_everybody_else(built):
    assert torch.tensor(2.0**-1074, dtype=torch.float64) * 1 > 0
