"""How time and memory grow: with the number of experts, and with the number of weights.

    python benchmarks/growth.py [--disk 20e9] [--runs 3]

Checkpoints of random numbers are written, merged into a folder, and deleted, one size after the other; sizes that need more
disk than allowed are left out. Writes a JSON after every size, and a figure: seconds against the bytes of all inputs, with
the line through the origin, and memory above import.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from bench import BUILD, HERE, machine, rounds
from figures import growth
from models import Shapes, language, vision, write

JOBS = ["limit", "task arithmetic, ours", "EMR, ours", "TIES, ours", "PCB, ours"]
BY_EXPERTS, BY_WEIGHTS = "more experts: ViT-B/32, float32", "more weights: 2 experts, bfloat16"


@dataclass(frozen=True)
class Size:
    """A size to measure.

    Attributes:
        grows: of which series it is one.
        folder: where its models lie; sizes that share it share their models.
        shapes: of one model.
        experts: how many.
        dtype: of the weights.
    """

    grows: str
    folder: str
    shapes: Shapes
    experts: int
    dtype: torch.dtype

    @property
    def entries(self) -> int:
        """Of one model."""
        return sum(torch.Size(shape).numel() for _, shape in self.shapes)

    @property
    def disk(self) -> int:
        """Bytes that base, experts, and a result of base, vector and masks take."""
        return int(self.entries * (self.dtype.itemsize * (self.experts + 3) + self.experts / 8))


SIZES = [Size(BY_EXPERTS, "experts", vision(), experts, torch.float32) for experts in (1, 2, 4, 8)] + [
    Size(BY_WEIGHTS, f"{len(shapes)}-{shapes[0][1][1]}", shapes, 2, torch.bfloat16)
    for shapes in (
        language(768, 12, 32_000, 2048),
        language(),
        language(2048, 28, 100_000, 8192),
        language(4096, 35, 128_000, 14_336),
    )
]
QUICK = [Size(BY_EXPERTS, "experts", vision(192), experts, torch.float32) for experts in (1, 2)] + [
    Size(BY_WEIGHTS, f"layers-{layers}", language(224, layers, 8000, 1024), 2, torch.bfloat16) for layers in (6, 12)
]


def measure(size: Size, at: Path, runs: int) -> list[dict]:
    """A row for every job: what it took, and the GB of all inputs."""
    family = write(at / size.folder, size.shapes, size.experts, size.dtype)
    *_, found = rounds(family, JOBS, runs)
    about = {"grows": size.grows, "experts": size.experts, "entries": family.entries}
    about["gb"] = family.nbytes * (size.experts + 1) / 1e9
    return [{**about, "job": job, **took} for job, took in found.items()]


def main() -> None:
    """Write, measure, delete, size by size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disk", type=float, default=20e9, help="bytes that may lie on the disk at once")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/growth.json")
    asked = parser.parse_args()
    sizes, here = (QUICK, "growth-quick") if asked.quick else (SIZES, "growth")
    at, out = BUILD.with_name(here), asked.out or HERE / "results" / f"{here}.json"
    left_out = [f"{s.entries / 1e9:.1f} B weights: {s.disk / 1e9:.0f} GB of disk" for s in sizes if s.disk > asked.disk]
    found = {"machine": machine(), "runs": asked.runs, "left out": left_out, "rows": []}
    out.parent.mkdir(exist_ok=True, parents=True)
    try:
        for place, size in enumerate(sizes):
            if size.disk > asked.disk:
                continue
            found["rows"] += measure(size, at, asked.runs)
            out.write_text(json.dumps(found, indent=1) + "\n")
            if size.folder not in {later.folder for later in sizes[place + 1 :]}:
                shutil.rmtree(at / size.folder)
    finally:
        shutil.rmtree(at, ignore_errors=True)
    growth(found).write_image(out.with_suffix(".png"), scale=2)


if __name__ == "__main__":
    main()
