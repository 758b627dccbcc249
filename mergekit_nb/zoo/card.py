"""A zoo's card as a page: what is in it, how good each model is, how it was made."""

from __future__ import annotations

from collections.abc import Mapping

from mergekit_nb.evaluation.interval import mean_interval


def page(card: Mapping) -> str:
    """The card as Markdown; every figure comes out of ``card.json``."""
    return "\n".join([*_head(card), *_tasks(card), *_models(card), *_recipe(card), *_sources(card)]) + "\n"


def _head(card: Mapping) -> list[str]:
    return [
        f"# {card['name']}",
        "",
        "One small CLIP, pre-trained on pictures and texts, and one expert per task: the vision tower fine-tuned against",
        "the task's frozen zero-shot head. For teaching and for testing merges; of no use for recognising anything else.",
        "",
    ]


def _tasks(card: Mapping) -> list[str]:
    rows = [
        f"| {name} | {len(about['classes'])} | {about['prompt']} | "
        + " | ".join(str(about["pictures"][split]) for split in ("pre", "train", "validation", "test"))
        + " |"
        for name, about in card["tasks"].items()
    ]
    return [
        "## Tasks",
        "",
        "| task | classes | prompt | pre | train | validation | test |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "The base saw the *pre* pictures, an expert *pre* and *train*. No two splits share a picture; those of letters,",
        "scripts and kana share no maker of fonts, those of icons no family of icon sets, and of emoji no vendor (test is",
        "Twemoji, validation EmojiOne). Shipped are test, validation, and some unlabelled training pictures (calibration).",
        "Choices were made on validation. One was not blind: a first zoo without the *settle* stage gained too little from",
        "fine-tuning on validation, and when the stage was added that zoo's test figures had been seen too.",
        "",
    ]


def _models(card: Mapping) -> list[str]:
    tasks = list(card["tasks"])
    rows = [
        f"| {model} | " + " | ".join(_share(of[task]) for task in tasks) + f" | {_mean(of)} |"
        for model, of in card["models"].items()
    ]
    return [
        "## Accuracy on the test pictures, %",
        "",
        "| | " + " | ".join(tasks) + " | mean |",
        "|---" * (len(tasks) + 2) + "|",
        *rows,
        "| n | " + " | ".join(str(card["models"]["base"][task]["n"]) for task in tasks) + " | |",
        "",
        "In brackets 95 % intervals (Wilson; for the mean, the tasks' intervals combined). The base is used zero-shot;",
        "*individual* is each task's own expert. One training seed.",
        "",
    ]


def _recipe(card: Mapping) -> list[str]:
    rows = [
        f"- {stage}: " + ", ".join(f"{name} {value:g}" for name, value in recipe.items())
        for stage, recipe in card["recipe"].items()
    ]
    versions = ", ".join(f"{name} {number}" for name, number in card["versions"].items())
    return ["## Recipe", "", *rows, f"- seed {card['seed']}, on {card['device']}, with {versions}", ""]


def _sources(card: Mapping) -> list[str]:
    rows = [f"- `{name}` sha256 `{digest}`" for name, digest in card["sources"].items()]
    return ["## Sources", "", "Authors and licences: `NOTICE`.", "", *rows]


def _share(row: Mapping[str, float]) -> str:
    return f"{100 * row['accuracy']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"


def _mean(of: Mapping[str, Mapping[str, float]]) -> str:
    columns = [[row[name] for row in of.values()] for name in ("accuracy", "low", "high")]
    low, high = mean_interval(*columns)
    return _share({"accuracy": sum(columns[0]) / len(columns[0]), "low": low, "high": high})
