"""The card of the strangers as a page: who knows which classes, how good each network is, how it was made."""

from __future__ import annotations

from collections.abc import Mapping

from mergekit_nb.zoo.drawings import CLOTHES, DIGITS

NAMES = {"mnist": DIGITS, "fashion": CLOTHES}


def page(card: Mapping) -> str:
    """The card as Markdown; every figure comes out of ``card.json``."""
    return "\n".join([*_head(card), *_networks(card), *_models(card), *_recipe(card), *_sources(card)]) + "\n"


def _head(card: Mapping) -> list[str]:
    return [
        f"# {card['name']}",
        "",
        "Small residual networks that never shared a parent: each has its own random initialisation, and the networks of a",
        "pair share out the classes of one task. All map a picture into the space of clip8's text embeddings and were",
        "trained against the frozen embeddings of their own classes, so that they can be zipped to the last layer. The",
        "pictures and embeddings are clip8's. For teaching and for testing merges; of no use for recognising anything else.",
        "",
    ]


def _networks(card: Mapping) -> list[str]:
    rows = [
        f"| {pair} | {name} | {of['task']} | {', '.join(NAMES[of['task']][k] for k in of['classes'])} |"
        for pair, names in card["pairs"].items()
        for name, of in ((name, card["nets"][name]) for name in names)
    ]
    shape = ", ".join(f"{name} {value}" for name, value in card["shape"].items())
    return [
        "## Networks",
        "",
        f"`mergekit_nb.models.resnet.ResNet`: {shape}. The classes were shared out by lot.",
        "",
        "| pair | network | task | classes |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _models(card: Mapping) -> list[str]:
    rows = [
        f"| {pair} | {row['model']} | {row['task']} | {_share(row)} | {row['n']} |"
        for pair, table in card["models"].items()
        for row in table
        if row["task"] in ("joint", row["model"]) or row["model"] == "ensemble"
    ]
    return [
        "## Accuracy on the test pictures, %",
        "",
        "| pair | model | on | accuracy | n |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "In brackets 95 % Wilson intervals. *joint*: all classes of the pair, the network of a picture not told; otherwise only",
        "that network's classes. *ensemble*: all networks run, each speaks of its own classes. One training seed.",
        "",
    ]


def _recipe(card: Mapping) -> list[str]:
    said = ", ".join(f"{name} {value:g}" for name, value in card["recipe"].items())
    versions = ", ".join(f"{name} {number}" for name, number in card["versions"].items())
    return [
        "## Recipe",
        "",
        f"- SGD: {said}; cosine to zero; logits {card['scale']:g} times the cosine",
        "- pictures: clip8's *pre* and *train* splits; nothing was chosen on test pictures",
        f"- seed {card['seed']}, on {card['device']}, with {versions}",
        "",
    ]


def _sources(card: Mapping) -> list[str]:
    rows = [f"- `{name}` sha256 `{digest}`" for name, digest in card["sources"].items()]
    return ["## Sources", "", "Authors and licences: the NOTICE of clip8.", "", *rows]


def _share(row: Mapping[str, float]) -> str:
    return f"{100 * row['accuracy']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"
