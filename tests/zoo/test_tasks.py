"""The eight tasks and the pool out of drawn sources: made up here, in the shape of the real ones."""

import itertools

import numpy as np
import pytest

from mergekit_nb.zoo import tasks
from mergekit_nb.zoo.drawings import SKETCHES
from mergekit_nb.zoo.tasks import CONCEPTS, EMOJI, KANA, SCRIPTS, Raw

FAMILIES = [f"Foundry{number} {style}" for number in range(30) for style in ("Sans", "Serif")]
CHARS = {"hiragana": KANA[:3], "greek": "αβγ", "thai": "กขค"}
VENDORS = ["twemoji", "emojione", "noto", "noto-v1", "fxemoji"]


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(0)

    def noise(*shape):
        return rng.integers(0, 256, shape, np.uint8)

    rows = [(char, script, family) for family in FAMILIES for script in SCRIPTS for char in CHARS.get(script, "aB7")]
    chars, scripts, families = map(np.array, zip(*rows, strict=True))
    drawn = [(name, f"set{number}", "", False) for number in range(40) for name in (*CONCEPTS, "anchor")]
    drawn += [(f"emoji-{k}", vendor, group, True) for vendor in VENDORS for k, group in enumerate([*EMOJI, "Flags"])]
    names, sets, categories, emoji = map(np.array, zip(*drawn, strict=True))
    half = {"train": (noise(7000, 28, 28), np.arange(7000) % 10), "test": (noise(100, 28, 28), np.arange(100) % 10)}
    return Raw(
        mnist=half,
        fashion={name: (255 - images, labels) for name, (images, labels) in half.items()},
        sketches={name: noise(20, 28, 28) for name in (*SKETCHES, "zigzag")},
        glyphs={"image": noise(len(rows), 32, 32), "char": chars, "script": scripts, "family": families},
        icons={
            "image": noise(len(drawn), 32, 32, 3), "name": names, "set": sets, "category": categories, "emoji": emoji
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def piles(raw):
    return tasks.tasks(raw)


def test_no_picture_is_in_two_splits_of_a_task(piles):
    for pile in piles.values():
        seen = [{image.tobytes() for image in part.images} for part in pile.splits.values()]
        assert not any(one & other for one, other in itertools.combinations(seen, 2))


def test_makers_keep_to_one_split_over_all_font_tasks(piles):
    for split, other in itertools.permutations(("test", "validation", "pre", "train"), 2):
        mine = {maker for task in ("letters", "scripts", "kana") for maker in piles[task].splits[split].makers}
        theirs = {maker for task in ("letters", "scripts", "kana") for maker in piles[task].splits[other].makers}
        assert mine
        assert not mine & theirs


def test_emoji_are_judged_on_vendors_nothing_else_has_seen(piles):
    makers = {split: set(part.makers) for split, part in piles["emoji"].splits.items()}
    assert makers == {"test": {"twemoji"}, "validation": {"emojione"}, "pre": {"noto"}, "train": {"fxemoji"}}


def test_letters_are_the_same_class_capital_or_small(raw, piles):
    assert set(np.concatenate([part.labels for part in piles["letters"].splits.values()])) == {0, 1}  # a and B, no 7


def test_the_pool_has_no_picture_of_a_task_and_no_maker_of_test_or_validation(raw, piles):
    pool = tasks.pool(raw, piles)
    inside = {image.tobytes() for image in pool.pictures.images}
    for pile in piles.values():
        for part in pile.splits.values():
            assert not inside & {image.tobytes() for image in part.images}
    given = tasks.font_splits(raw.glyphs)
    for image, family in zip(raw.glyphs["image"], raw.glyphs["family"], strict=True):
        if given[family.split()[0]] in ("test", "validation"):
            assert np.repeat(image[..., None], 3, axis=2).tobytes() not in inside
    families = tasks.icon_splits(raw.icons)
    for image, name, is_emoji in zip(raw.icons["image"], raw.icons["set"], raw.icons["emoji"], strict=True):
        split = tasks.VENDORS.get(tasks.family(name)) if is_emoji else families[tasks.family(name)]
        if split in ("test", "validation"):
            assert image.tobytes() not in inside


def test_the_pool_says_what_its_pictures_show(raw, piles):
    pool = tasks.pool(raw, piles)
    assert "a sketch of a zigzag" in pool.texts
    assert "an icon of anchor" in pool.texts
    assert "an emoji of a emoji 3" in pool.texts
    assert "the greek small letter beta" in pool.texts
    assert not any(text.endswith(f" {name}") for text in pool.texts for name in ("bell", "airplane"))
    place = pool.texts.index("a sketch of a zigzag")
    assert (pool.pictures.labels == place).sum() == len(raw.sketches["zigzag"])
