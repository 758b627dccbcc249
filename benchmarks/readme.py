"""Fills the README's tables from the code and from one measured file, so that no figure in it is typed.

python benchmarks/readme.py            the tree and the tables, from benchmarks/zoo.csv
python benchmarks/readme.py --measure  runs every method on the zoo's test split first, and writes that file
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

import pandas as pd

from mergekit_nb.methods import METHODS

ROOT = Path(__file__).parents[1]
README, MEASURED = ROOT / "README.md", Path(__file__).parent / "zoo.csv"
FOLDERS = ["maths", "weights", "methods", "models", "analysis", "engine", "align", "evaluation", "zoo", "plots", ""]


def tree() -> str:
    """A line per file: the first sentence of its docstring."""
    lines = ["mergekit_nb/"]
    for folder in FOLDERS:
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


def render(text: str) -> str:
    """The README with the part between each pair of markers made anew."""
    parts = {"tree": tree(), "methods": methods(), "scores": scores(pd.read_csv(MEASURED, keep_default_na=False))}
    for name, made in parts.items():
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
