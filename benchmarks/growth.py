"""How time and memory grow: with the number of experts, and with the number of weights.

    python benchmarks/growth.py [--disk 20e9] [--runs 3]

Synthetic bfloat16 checkpoints are written, merged into a folder by EMR and task arithmetic, and deleted, one size after the
other; sizes that need more disk than allowed are left out. Writes benchmarks/growth.json and growth.png.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd
import torch
from bench import BUILD, machine, measure
from models import language, write

HERE = Path(__file__).parent
JOBS = ["limit", "task arithmetic, ours", "EMR, ours", "TIES, ours"]
EXPERTS = (1, 2, 4, 8)
# billions of weights -> shapes: layers of a decoder, wider and deeper
SIZES = {
    0.08: language(512, 12, 64_000, 2048),
    0.5: language(),
    1.5: language(2048, 28, 128_000, 5632),
    7.0: language(4096, 30, 128_000, 14_336),
}
WIDTH = torch.bfloat16.itemsize
PLAN = [(0.08, experts) for experts in EXPERTS] + [(size, 2) for size in SIZES if size != 0.08]


def disk(size: float, experts: int) -> int:
    """Bytes that base, experts, and a result of base, vector and masks take."""
    entries = sum(torch.Size(shape).numel() for _, shape in SIZES[size])
    return int(entries * (WIDTH * (experts + 3) + experts / 8))


def figure(frame: pd.DataFrame, told: str):
    """Seconds and memory against experts, and against weights."""
    import plotly.express as px

    import mergekit_nb.plots  # noqa: F401  the template

    long = frame.melt(["job", "grows", "by"], ["wall s", "MB above import"], "what", "taken")
    made = px.line(
        long,
        x="by",
        y="taken",
        color="job",
        facet_col="grows",
        facet_row="what",
        markers=True,
        template="mk",
        title=told,
    )
    made.for_each_annotation(lambda a: a.update(text=a.text.partition("=")[2]))
    made.update_xaxes(matches=None, showticklabels=True, title="")
    return made.update_yaxes(matches=None, rangemode="tozero", title="")


def main() -> None:
    """Write, measure, delete, size by size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--disk", type=float, default=20e9, help="bytes that may lie on the disk at once")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    rows, left_out = [], []
    for size, experts in PLAN:
        if disk(size, experts) > asked.disk:
            left_out.append(f"{size:g} B with {experts} experts takes {disk(size, experts) / 1e9:.0f} GB of disk")
            continue
        folder = BUILD / f"growth-{size:g}-{experts}"
        try:
            family = write(folder, SIZES[size], experts, torch.bfloat16)
            for job, took in measure(family, JOBS, asked.runs).items():
                rows.append({"billions": family.entries / 1e9, "experts": experts, "job": job, **took})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    found = {"machine": machine(), "runs": asked.runs, "left out": left_out, "rows": rows}
    (HERE / "growth.json").write_text(json.dumps(found, indent=1) + "\n")
    figure(_grown(rows), f"EMR, TIES and task arithmetic as they grow<br><sup>{found['machine']}</sup>").write_image(
        HERE / "growth.png", width=1100, height=700, scale=2
    )


def _grown(rows: list[dict]) -> pd.DataFrame:
    """Each row once for every axis it lies on: experts at the smallest size, weights with two experts."""
    frame = pd.DataFrame([row for row in rows if "failed" not in row])
    frame = frame.rename(columns={"wall": "wall s", "above_import_mb": "MB above import"})
    by_experts = frame[frame["billions"] == frame["billions"].min()].assign(
        grows="experts, 0.08 B", by=lambda f: f["experts"]
    )
    by_weights = frame[frame["experts"] == 2].assign(grows="billions of weights, 2 experts", by=lambda f: f["billions"])
    return pd.concat([by_experts, by_weights])


if __name__ == "__main__":
    main()
