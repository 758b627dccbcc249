"""Fills the README's tables from the code and from one measured file, so that no figure in it is typed.

python benchmarks/readme.py            the tree and the tables, from benchmarks/zoo.csv and, where it is there, bench.json
python benchmarks/readme.py --measure  runs every method on the zoo's test split first, and writes that file
"""

from __future__ import annotations

import argparse
import ast
import json
import runpy
from pathlib import Path

import pandas as pd

from mergekit_nb.methods import METHODS

ROOT = Path(__file__).parents[1]
README, MEASURED, BENCH = ROOT / "README.md", Path(__file__).parent / "zoo.csv", Path(__file__).parent / "bench.json"
STRANGERS = Path(__file__).parent / "strangers.csv"
FIGURE = "\n\n![The same as a figure](benchmarks/bench.png)"
FOLDERS = [
    "maths", "kernels", "weights", "methods", "models", "analysis", "align", "engine", "evaluation", "zoo", "plots",
]  # fmt: skip


def tree() -> str:
    """A line per file: the first sentence of its docstring."""
    lines = ["mergekit_nb/"]
    for folder in (*FOLDERS, ""):
        home = ROOT / "mergekit_nb" / folder
        depth = "    " if folder else "  "
        if folder:
            lines.append(f"  {folder}/".ljust(26) + sentence(home / "__init__.py"))
        lines += [f"{depth}{f.name}".ljust(26) + sentence(f) for f in sorted(home.glob("*.py")) if f.stem[:2] != "__"]
    lines.append("widgets/".ljust(26) + "imported as mergekit_nb.widgets: panels of ipywidgets, plotly and anywidget")
    return "\n".join(["```", *(line.rstrip() for line in lines), "```"])


def sentence(file: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0].rstrip(".")


def methods() -> str:
    """The methods, from their classes."""
    rows = ["| method | class | hyper-parameters | leaves | source |", "|---|---|---|---|---|"]
    for name, cls in METHODS.items():
        knobs = ", ".join(f"`{field}`" for field in cls().options()) or "–"
        rows.append(f"| `{name}` | `{cls.__name__}` | {knobs} | {cls.leaves} | {cls.paper} |")
    return "\n".join(rows)


def scores(frame: pd.DataFrame) -> str:
    """Mean test accuracy with its interval, and what each costs."""
    from mergekit_nb.compare import table

    wide = table(frame.assign(seconds=0.0))  # how long a merge took is not a fact about the zoo
    rows = ["| | " + " | ".join(frame["task"].unique()) + " | **mean** | 95 % interval | options | MB |"]
    rows.append("|---|" + "---|" * (frame["task"].nunique() + 4))
    for method, row in wide.iterrows():
        tasks = " | ".join(f"{100 * row[task]:.1f}" for task in frame["task"].unique())
        interval = f"{100 * row['low']:.1f} – {100 * row['high']:.1f}"
        rows.append(
            f"| {method} | {tasks} | **{100 * row['mean']:.1f}** | {interval} | {row['options']} | {row['bytes'] / 1e6:.1f} |"
        )
    return "\n".join(rows)


def strangers(frame: pd.DataFrame) -> str:
    """Joint accuracy of zips, boundary by boundary, and of what they are held against."""
    found = runpy.run_path(str(STRANGERS.with_suffix(".py")))["summary"](frame)
    boundaries = list(found.loc["zip"].index)
    rows = ["| up to | " + " | ".join(boundaries) + " |", "|---|" + "---|" * len(boundaries)]
    for method in ("zip", "permute", "average"):
        rows.append(f"| {method} | " + " | ".join(_spread(found.loc[method, b]) for b in boundaries) + " |")
    ends = {"ensemble of both networks": "ensemble", "one network alone": "alone"}
    brackets = "; ".join(f"{words} {_spread(found.loc[name].iloc[0])}" for words, name in ends.items())
    count = int(found.loc["zip"]["count"].iloc[0])
    return "\n".join(
        [*rows, "", f"Joint accuracy on test pictures, %: mean ± standard deviation over {count} pairs. {brackets}."]
    )


def _spread(row: pd.Series) -> str:
    return f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}"


def speed(found: dict) -> str:
    """What a merge takes, beside its peers and the limit: tables, targets, the figure where it was drawn."""
    told = runpy.run_path(str(BENCH.with_name("speed.py")))["speed"](found)
    return told + FIGURE if BENCH.with_suffix(".png").exists() else told


def render(text: str) -> str:
    """The README with the part between each pair of markers made anew."""
    parts = {"tree": tree(), "methods": methods(), "scores": scores(pd.read_csv(MEASURED, keep_default_na=False))}
    parts["strangers"] = strangers(pd.read_csv(STRANGERS))
    if BENCH.exists():
        parts["speed"] = speed(json.loads(BENCH.read_text()))
    for name, made in parts.items():
        if f"<!-- {name} -->" not in text:
            raise ValueError(
                f"README.md has no <!-- {name} --> for what was measured; write the pair of markers where it belongs"
            )
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        head, _, rest = text.partition(start)
        text = f"{head}{start}\n{made}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    """Measure where asked to, then write the README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true")
    if parser.parse_args().measure:
        import mergekit_nb as mk

        zoo = mk.zoo.load()
        frame = mk.compare(mk.methods.taking(len(zoo.experts)), zoo, progress=True)
        frame.drop(columns="seconds").to_csv(MEASURED, index=False)
    README.write_text(render(README.read_text()))


if __name__ == "__main__":
    main()
