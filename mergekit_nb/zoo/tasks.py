"""The eight tasks of clip8 and the pool of its pre-training, from the drawn and unpacked sources."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mergekit_nb.zoo.drawings import CLOTHES, DIGITS, SKETCHES, frame
from mergekit_nb.zoo.splits import SPLITS, Pictures, by_maker, cut, deal, even, join, pictures, without_copies

MOST = {"test": 1000, "validation": 500, "pre": 6000, "train": 30000}  # pictures a task
SEED = 20240513  # of the splits; never the seed of the training, so that all seeds are judged on the same pictures
CONCEPTS = [
    "bell",
    "book",
    "bookmark",
    "calendar",
    "camera",
    "clock",
    "cloud",
    "eye",
    "flag",
    "folder",
    "gift",
    "heart",
    "home",
    "key",
    "lock",
    "phone",
    "search",
    "shield",
    "star",
    "trash",
]
SCRIPTS = [
    "latin",
    "greek",
    "cyrillic",
    "hebrew",
    "arabic",
    "devanagari",
    "thai",
    "hangul",
    "hiragana",
    "khmer",
    "telugu",
]
KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
ROMAN = [
    "a",
    "i",
    "u",
    "e",
    "o",
    "ka",
    "ki",
    "ku",
    "ke",
    "ko",
    "sa",
    "shi",
    "su",
    "se",
    "so",
    "ta",
    "chi",
    "tsu",
    "te",
    "to",
    "na",
    "ni",
    "nu",
    "ne",
    "no",
    "ha",
    "hi",
    "fu",
    "he",
    "ho",
    "ma",
    "mi",
    "mu",
    "me",
    "mo",
    "ya",
    "yu",
    "yo",
    "ra",
    "ri",
    "ru",
    "re",
    "ro",
    "wa",
    "wo",
    "n",
]
EMOJI = {
    "Smileys & Emotion": "smiley face", "People & Body": "person", "Animals & Nature": "animal or plant",
    "Food & Drink": "food or drink", "Travel & Places": "travel or place", "Activities": "activity or sport",
    "Objects": "object", "Symbols": "symbol",
}  # fmt: skip
VENDORS = {"twemoji": "test", "emojione": "validation", "noto": "pre"}  # family -> split; all others train
NAMES_FROM = "noto"  # the set whose groups say what an emoji is; vendors cut the groups differently


@dataclass(frozen=True)
class Pile:
    """One task's pictures in their splits, its class names and the prompt that turns a name into a text."""

    prompt: str
    classes: tuple[str, ...]
    splits: Mapping[str, Pictures]


@dataclass(frozen=True)
class Pool:
    """Pictures for the pre-training only: ``pictures.labels`` says which of the ``texts`` describes each."""

    pictures: Pictures
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Raw:
    """Everything unpacked and drawn, before any split.

    Attributes:
        mnist, fashion: "train" and "test" -> images uint8 "n 28 28", labels "n".
        sketches: category -> uint8 "n 28 28".
        glyphs: arrays ``image`` uint8 "n 32 32", ``char``, ``script``, ``family``.
        icons: arrays ``image`` uint8 "n 32 32 3", ``name``, ``set``, ``category``, ``emoji`` bool.
    """

    mnist: Mapping[str, tuple[np.ndarray, np.ndarray]]
    fashion: Mapping[str, tuple[np.ndarray, np.ndarray]]
    sketches: Mapping[str, np.ndarray]
    glyphs: Mapping[str, np.ndarray]
    icons: Mapping[str, np.ndarray]


def tasks(raw: Raw) -> dict[str, Pile]:
    """The eight tasks, their splits free of copies."""
    fonts = font_splits(raw.glyphs)
    found = {
        "mnist": Pile("a handwritten digit {}", tuple(DIGITS), official(raw.mnist)),
        "fashion": Pile("a photo of a {}, fashion product", tuple(CLOTHES), official(raw.fashion)),
        "kana": Pile("the hiragana letter {}", tuple(ROMAN), kana(raw.glyphs, fonts)),
        "quickdraw": Pile("a sketch of a {}", tuple(SKETCHES), quickdraw(raw.sketches)),
        "letters": Pile("the printed letter {}", tuple("abcdefghijklmnopqrstuvwxyz"), letters(raw.glyphs, fonts)),
        "scripts": Pile("a glyph of the {} script", tuple(SCRIPTS), scripts(raw.glyphs, fonts)),
        "icons": Pile("an icon of {}", tuple(CONCEPTS), icons(raw.icons)),
        "emoji": Pile("an emoji of a {}", tuple(EMOJI.values()), emoji(raw.icons)),
    }
    return {name: Pile(pile.prompt, pile.classes, tidy(pile.splits)) for name, pile in found.items()}


def tidy(splits: Mapping[str, Pictures]) -> dict[str, Pictures]:
    """Each split without copies and, class by class as evenly as may be, no larger than `MOST`."""
    clean = without_copies({split: splits[split] for split in SPLITS})
    return {split: even(pile, MOST[split], SEED) for split, pile in clean.items()}


def official(halves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Pictures]:
    """Keep the published test half; validation, pre and train come out of the published training half."""
    test, rest = (pictures(frame(images), labels, "") for images, labels in (halves["test"], halves["train"]))
    order = np.random.default_rng(SEED).permutation(len(rest))
    ends = np.cumsum([MOST["validation"], MOST["pre"]])
    parts = [rest[part] for part in np.split(order, ends)]
    return dict(zip(SPLITS, [test, *parts], strict=True))


def quickdraw(sketches: Mapping[str, np.ndarray]) -> dict[str, Pictures]:
    """The thirty categories of the task."""
    images = np.concatenate([sketches[name] for name in SKETCHES])
    labels = np.repeat(np.arange(len(SKETCHES)), [len(sketches[name]) for name in SKETCHES])
    return cut(pictures(frame(images), labels, ""), SEED)


def font_splits(glyphs: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Maker of fonts -> split, one for all the font tasks; a maker counts for the rarest script it draws."""
    makers, scripts = maker(glyphs["family"]), glyphs["script"]
    spread = {script: len(set(makers[scripts == script])) for script in set(scripts)}
    drawn = {name: set(scripts[makers == name]) for name in set(makers)}
    return deal({str(name): str(min(of, key=lambda s: (spread[s], s))) for name, of in drawn.items()}, SEED)


def maker(families: np.ndarray) -> np.ndarray:
    """Families that share their first word are often one design (Noto Sans, Noto Serif): they stay together."""
    return np.array([family.split()[0] for family in families])


def letters(glyphs: Mapping[str, np.ndarray], fonts: Mapping[str, str]) -> dict[str, Pictures]:
    """Latin letters, capital and small alike."""
    latin = (glyphs["script"] == "latin") & np.char.isalpha(glyphs["char"])
    labels = [ord(char) - ord("a") for char in np.char.lower(glyphs["char"][latin])]
    return by_maker(pictures(glyphs["image"][latin], labels, maker(glyphs["family"][latin])), fonts)


def kana(glyphs: Mapping[str, np.ndarray], fonts: Mapping[str, str]) -> dict[str, Pictures]:
    """The forty-six hiragana."""
    mine = glyphs["script"] == "hiragana"
    labels = [KANA.index(char) for char in glyphs["char"][mine]]
    return by_maker(pictures(glyphs["image"][mine], labels, maker(glyphs["family"][mine])), fonts)


def scripts(glyphs: Mapping[str, np.ndarray], fonts: Mapping[str, str]) -> dict[str, Pictures]:
    """Which script a glyph is of."""
    mine = np.isin(glyphs["script"], SCRIPTS) & ~np.char.isdigit(glyphs["char"])
    labels = [SCRIPTS.index(script) for script in glyphs["script"][mine]]
    return by_maker(pictures(glyphs["image"][mine], labels, maker(glyphs["family"][mine])), fonts)


def family(icon_set: str) -> str:
    """Who drew an icon set: sets whose names begin alike (``mdi``, ``mdi-light``) share drawings and stay together."""
    return icon_set.split("-")[0]


def icon_families(drawn: Mapping[str, np.ndarray]) -> np.ndarray:
    """Who drew each icon."""
    return np.array([family(name) for name in drawn["set"]])


def icon_splits(drawn: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Family of icon sets -> split."""
    return deal(dict.fromkeys(map(str, icon_families(drawn)), "icons"), SEED)


def icons(drawn: Mapping[str, np.ndarray]) -> dict[str, Pictures]:
    """Twenty concepts, in grey: colour would give some sets away."""
    mine = np.isin(drawn["name"], CONCEPTS) & ~drawn["emoji"]
    grey = drawn["image"][mine].mean(axis=3).astype(np.uint8)
    labels = [CONCEPTS.index(name) for name in drawn["name"][mine]]
    return by_maker(pictures(grey, labels, icon_families(drawn)[mine]), icon_splits(drawn))


def emoji(drawn: Mapping[str, np.ndarray]) -> dict[str, Pictures]:
    """Which of eight groups an emoji is in; test and validation are two vendors that nothing else sees."""
    known = {
        name: group
        for name, group, of in zip(drawn["name"], drawn["category"], drawn["set"], strict=True)
        if of == NAMES_FROM and group in EMOJI
    }
    mine = drawn["emoji"] & np.isin(drawn["name"], list(known))
    labels = [list(EMOJI).index(known[name]) for name in drawn["name"][mine]]
    vendors = icon_families(drawn)[mine]
    return by_maker(pictures(drawn["image"][mine], labels, vendors), {v: VENDORS.get(v, "train") for v in set(vendors)})


def pool(raw: Raw, piles: Mapping[str, Pile]) -> Pool:
    """Everything else there is a text for; no picture and no maker of any test or validation split."""
    parts = [*icon_texts(raw.icons), *sketch_texts(raw.sketches), *glyph_texts(raw.glyphs)]
    texts = tuple(sorted({text for text, _ in parts}))
    number = {text: place for place, text in enumerate(texts)}
    lots = [pictures(images, np.full(len(images), number[text]), "") for text, images in parts]
    seen = {image.tobytes() for pile in piles.values() for part in pile.splits.values() for image in part.images}
    return Pool(without_copies({"pool": join(lots)}, seen)["pool"], texts)


def icon_texts(drawn: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Icons of other concepts, and emoji by their names."""
    families, given = icon_families(drawn), icon_splits(drawn)
    split_of = np.array(
        [VENDORS.get(f, "train") if e else given[f] for f, e in zip(families, drawn["emoji"], strict=True)]
    )
    ours = np.where(drawn["emoji"], split_of == "pre", np.isin(split_of, ("pre", "train")))
    ours &= drawn["emoji"] | ~np.isin(drawn["name"], CONCEPTS)
    texts = np.where(drawn["emoji"], "an emoji of a ", "an icon of ").astype(object) + np.char.replace(
        drawn["name"], "-", " "
    )
    return grouped(texts[ours].astype(str), drawn["image"][ours])


def sketch_texts(sketches: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The sketches of all other categories."""
    return [(f"a sketch of a {name}", frame3(of)) for name, of in sketches.items() if name not in SKETCHES]


def glyph_texts(glyphs: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Glyphs of the pre-training fonts by their Unicode names, the task's own characters among them only by script."""
    given = font_splits(glyphs)
    ours = np.array([given[name] == "pre" for name in maker(glyphs["family"])])
    ours &= (glyphs["script"] != "hiragana") & ~((glyphs["script"] == "latin") & np.char.isalpha(glyphs["char"]))
    texts = np.array(["the " + unicodedata.name(char).lower() for char in glyphs["char"][ours]])
    return grouped(texts, np.repeat(glyphs["image"][ours][..., None], 3, axis=3))


def frame3(images: np.ndarray) -> np.ndarray:
    """Framed, in three equal channels: uint8 "n 32 32 3"."""
    return np.repeat(frame(images)[..., None], 3, axis=3)


def grouped(texts: Sequence[str], images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The pictures of each distinct text."""
    order = np.argsort(texts, kind="stable")
    names, starts = np.unique(np.asarray(texts)[order], return_index=True)
    return list(zip(map(str, names), np.split(images[order], starts[1:]), strict=True))
