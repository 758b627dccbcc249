"""The figures of the benchmarks.

python benchmarks/figures.py      draws benchmarks/bench.png and growth.png again, of the files that are kept there
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mergekit_nb.plots.theme import COLOURS, SYMBOLS, TEXT

HERE = Path(__file__).parent
# of the merge alone, and of the whole process: imports, making ready, the merge
COLUMNS = {
    "wall time, s": ("wall", "process_wall"),
    "CPU time, s": ("cpu", "process_cpu"),
    "memory, MB": ("above_import_mb", "peak_mb"),
}
KINDS = {"limit": TEXT, "ours": COLOURS[0], "others": COLOURS[3]}
PARTS = {"the merge (memory: above import)": "circle", "its whole process": "circle-open", "not done by then": "x"}
ROW, HEAD, TOP = 24, 90, 130  # pixels of a job, of a family's title and axis, of what is above all
GROWTH = {"wall": "wall time, s", "above_import_mb": "memory above import, MB"}


def bars(found: dict) -> go.Figure:
    """Every job of every work, a row each: what the merge takes, and what its whole process does."""
    work = list(found["work"].values())
    heights = [ROW * (len(part["jobs"]) + 1) for part in work]
    total = sum(heights) + HEAD * len(work)
    made = make_subplots(
        len(work), len(COLUMNS), shared_yaxes=True, row_heights=heights, horizontal_spacing=0.02,
        vertical_spacing=HEAD / total,
        subplot_titles=[title for name in found["work"] for title in (f"<b>{name}</b>", "", "")],
    )  # fmt: skip
    for row, part in enumerate(work, 1):
        rows = dots(part["jobs"])
        for column, title in enumerate(COLUMNS, 1):
            _fill(made, rows[rows["column"] == title], row, column)
            made.update_xaxes(title=title, type="log", dtick=1, row=row, col=column)
        made.add_vline(part["jobs"]["limit"]["wall"], line={"dash": "dot", "color": TEXT, "width": 1}, row=row, col=1)
        made.update_yaxes(categoryorder="array", categoryarray=list(part["jobs"])[::-1], row=row)
    _explain(made)
    told = "What merging takes; the dotted line is the limit, reading all inputs and writing one model"
    return _dressed(made, f"{told}<br><sup>{found['machine']}</sup>", total + TOP)


def dots(jobs: dict[str, dict]) -> pd.DataFrame:
    """A row for every figure of every job."""
    rows = []
    for job, took in jobs.items():
        kind = job.rpartition(", ")[2]
        look = {"job": job, "kind": kind if kind in KINDS else "others"}
        for column, keys in COLUMNS.items():
            for part, key in zip(PARTS, keys, strict=False):
                part = "not done by then" if "failed" in took else part
                text = _times(took, jobs["limit"]) if key == "wall" and job != "limit" else ""
                rows.append({**look, "column": column, "part": part, "value": took.get(key), "text": text})
    frame = pd.DataFrame(rows).dropna(subset="value")
    return frame[frame["value"] > 0]  # what is too small to be seen has no place on a logarithmic axis


def _times(took: dict, limit: dict) -> str:
    ratio = took.get("wall", 0) / limit["wall"]
    return f"{ratio:.{0 if ratio >= 10 else 1}f} × "


def _fill(made: go.Figure, rows: pd.DataFrame, row: int, column: int) -> None:
    for (kind, part), group in rows.groupby(["kind", "part"], sort=False):
        marker = {"color": KINDS[kind], "symbol": PARTS[part], "size": 9, "line": {"width": 2, "color": KINDS[kind]}}
        made.add_scatter(
            x=group["value"], y=group["job"], mode="markers+text", text=group["text"], textposition="middle left",
            marker=marker, textfont={"size": 11}, showlegend=False, row=row, col=column,
        )  # fmt: skip


def _explain(made: go.Figure) -> None:
    marks = [(kind, {"color": colour, "symbol": "square"}) for kind, colour in KINDS.items()]
    line = {"width": 2, "color": TEXT}
    marks += [(part, {"color": TEXT, "symbol": symbol, "line": line}) for part, symbol in PARTS.items()]
    for name, marker in marks:
        made.add_scatter(x=[None], y=[None], mode="markers", name=name, marker={**marker, "size": 9})
    made.update_annotations(x=0, xanchor="left")


def growth(found: dict) -> go.Figure:
    """Seconds and memory against the bytes of all inputs; the lines go through the origin, fitted by least squares."""
    frame = pd.DataFrame([row for row in found["rows"] if "failed" not in row])
    names, jobs = list(frame["grows"].unique()), list(frame["job"].unique())
    titles = [f"<b>{name}</b>" for name in names]
    made = make_subplots(len(GROWTH), len(names), subplot_titles=titles, vertical_spacing=0.16)
    for (name, job), group in frame.groupby(["grows", "job"], sort=False):
        column, place = names.index(name) + 1, jobs.index(job)
        look = {"color": [TEXT, *COLOURS][place], "symbol": SYMBOLS[place], "size": 9}
        slope = (group["gb"] * group["wall"]).sum() / (group["gb"] ** 2).sum()
        ends = [0, group["gb"].max()]
        line = {"x": ends, "y": [slope * end for end in ends], "mode": "lines", "hoverinfo": "skip"}
        made.add_scatter(**line, line={"color": look["color"], "width": 1}, showlegend=False, row=1, col=column)
        for row, key in enumerate(GROWTH, 1):
            points = {"x": group["gb"], "y": group[key], "mode": "markers", "name": job, "marker": look}
            made.add_scatter(**points, showlegend=row == column == 1, row=row, col=column)
    for row, title in enumerate(GROWTH.values(), 1):
        made.update_yaxes(title=title, rangemode="tozero", row=row)
        made.update_xaxes(title="GB of base and experts", rangemode="tozero", row=row)
    told = "How merging grows; each line goes through the origin"
    return _dressed(made, f"{told}<br><sup>{found['machine']}</sup>", 800)


def _dressed(made: go.Figure, title: str, height: int) -> go.Figure:
    legend = {"orientation": "h", "x": 0, "y": 1 - 80 / height, "yanchor": "top", "yref": "container"}
    made.update_annotations(font={"size": 14})
    return made.update_layout(
        template="mk", title=title, width=1200, height=height, margin={"t": TOP}, legend=legend, showlegend=True,
        paper_bgcolor="white", plot_bgcolor="white",
    )  # fmt: skip


if __name__ == "__main__":
    for kept, draw in (("bench", bars), ("growth", growth)):
        if (HERE / f"{kept}.json").exists():
            draw(json.loads((HERE / f"{kept}.json").read_text())).write_image(HERE / f"{kept}.png", scale=2)
