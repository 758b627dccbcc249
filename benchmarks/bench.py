"""What merging takes, of this package and of its peers, beside what reading the inputs and writing one model takes.

    make bench                                      ViT-B/32 with 8 experts, Qwen2-0.5B's shapes with 4; peers from PyPI
    python benchmarks/bench.py --quick              the same jobs on tiny models, once: does it run?
    python benchmarks/bench.py --no-peers --runs 3

The methods' authors have no packages; their code is measured where it was cloned to:

    git clone https://github.com/harveyhuang18/EMR_Merging build/authors/EMR_Merging
    git clone https://github.com/duguodong7/pcb-merging build/authors/pcb-merging

Every run of every job is a process of its own; the jobs take turns, run by run, and medians are told. One more run of ours
before them warms the page cache and compiles, and is not counted. The JSON is written after every round: a benchmark that is
interrupted keeps what it has. Beside the JSON a figure is drawn. The README's table is made of the file that is kept:
`python benchmarks/bench.py --out benchmarks/bench.json && python benchmarks/readme.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from figures import bars
from jobs import JOBS
from models import SHARD, Family, Shapes, language, vision, write
from peers import WANTED, install, python_of, versions
from rich.console import Console
from speed import shown
from theirs import CLONE
from watched import Ended, watched

from mergekit_nb.engine.budget import free

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
PATIENCE = 1800  # seconds a job may take
SHARE = 0.85  # of the free memory that a job may fill
MEASURED = ("wall", "cpu", "above_import_mb", "process_wall", "process_cpu", "peak_mb")


@dataclass(frozen=True)
class Work:
    """Models to merge, and the jobs that are measured on them.

    Attributes:
        folder: where the models lie, below the folder of all; mergekit reads no path with a space.
        shapes: of one model.
        tiny: shapes for trying out, with as many weights as compiled loops are taken for.
        experts: how many.
        dtype: of the weights.
        jobs: names from `JOBS`.
    """

    folder: str
    shapes: Shapes
    tiny: Shapes
    experts: int
    dtype: torch.dtype
    jobs: tuple[str, ...]


# The authors' PCB and fusion_bench's TIES hold some 60 and 40 bytes for every weight of every expert: with 2 experts they
# fit in 24 GB, with more they are killed. PEFT's TIES takes minutes on 0.5 B.
WORK = {
    "ViT-B/32, 8 experts, float32": Work("ViT-B-32", vision(), vision(192), 8, torch.float32, tuple(JOBS)),
    "ViT-B/32, 2 experts, float32": Work(
        "ViT-B-32", vision(), vision(192), 2, torch.float32,
        ("limit", "TIES, ours", "TIES, fusion_bench", "PCB, ours", "PCB, authors"),
    ),
    "0.5 B, 4 experts, bfloat16": Work(
        "0.5B", language(), language(224, 6, 8000, 1024), 4, torch.bfloat16,
        tuple(job for job in JOBS if not job.startswith("PCB") and job != "TIES per tensor, PEFT"),
    ),
}  # fmt: skip


def run(job: str, family: Family) -> dict:
    """One job in one process: what it took, and why it failed where it did."""
    out = family.folder / "out"
    _clear(out)
    command = [python_of(JOBS[job][0]), str(HERE / "jobs.py"), job, json.dumps(family.paths()), str(out)]
    took = told(watched(command, int(SHARE * free()), PATIENCE))
    _clear(out)
    return took


def told(ended: Ended) -> dict:
    """A run's figures. One that failed gives those it had when it ended, of the merge only if it came as far."""
    lines = [json.loads(line) for line in ended.said.splitlines() if line.startswith("{")]
    took = {"process_wall": ended.wall, "process_cpu": ended.cpu, "peak_mb": ended.peak_mb}
    if not ended.why:
        return {**took, **lines[-1]}
    if lines:
        took["wall"] = ended.start + ended.wall - lines[0]["ready_at"]
        took["cpu"] = ended.cpu - lines[0]["ready_cpu"]
        took["above_import_mb"] = ended.peak_mb - lines[0]["ready_mb"]
    return {**took, "failed": ended.why}


def _clear(out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)


def rounds(family: Family, jobs: list[str], runs: int) -> Iterator[dict[str, dict]]:
    """After every round of all jobs, the medians so far; a job that failed once is not tried again."""
    found: dict[str, list[dict]] = {job: [] for job in jobs}
    for turn in range(runs + 1):
        for job in jobs:
            if any("failed" in took for took in found[job]) or (not turn and JOBS[job][0]):
                continue
            took = run(job, family)
            found[job] += [took] if turn or "failed" in took else []
            said = took.get("failed") or f"{took['wall']:.2f} s"
            print(f"{turn}/{runs} {job}: {said}; {took['process_wall']:.1f} s in all", file=sys.stderr, flush=True)
        if turn:
            yield {job: summary(took) for job, took in found.items()}


def summary(runs: list[dict]) -> dict:
    """The medians, and the runs they come from."""
    if failed := [took for took in runs if "failed" in took]:
        return failed[-1]
    return {**{key: statistics.median(took[key] for took in runs) for key in MEASURED}, "runs": runs}


def machine() -> str:
    """The processor as it calls itself, its cores and memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB"


def chosen(work: Work, peers: bool) -> list[str]:
    """The jobs that can be measured here."""
    jobs = [job for job in work.jobs if peers or not JOBS[job][0]]
    for job in [job for job in jobs if job in CLONE and not CLONE[job][0].exists()]:
        print(f"{job}: left out, {CLONE[job][1]} is not in build/authors", file=sys.stderr)
        jobs.remove(job)
    return jobs


def begun(out: Path, names: list[str], peers: bool) -> dict:
    """What the JSON holds before anything is measured: who and where, and other families measured into the same file."""
    found = {"machine": machine(), "torch": torch.__version__, "peers": {}, "work": {}}
    before = json.loads(out.read_text()) if out.exists() else {}
    if [before.get(key) for key in ("machine", "torch")] == [found["machine"], found["torch"]]:
        found["peers"] = before["peers"]
        found["work"] = {name: part for name, part in before["work"].items() if name in WORK and name not in names}
    for peer in WANTED if peers else ():
        install(peer)
        found["peers"][peer] = versions(peer)
    return found


def measure(name: str, at: Path, runs: int, peers: bool, quick: bool) -> Iterator[dict]:
    """The models written, then the jobs round by round: what the JSON holds of this work after each."""
    work = WORK[name]
    shapes, shard = (work.tiny, 4_000_000) if quick else (work.shapes, SHARD)
    family = write(at / work.folder, shapes, work.experts, work.dtype, shard=shard)
    about = {**asdict(family), "folder": ""}
    for turn, jobs in enumerate(rounds(family, chosen(work, peers), runs), 1):
        yield {**about, "runs": turn, "jobs": jobs}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models, one run")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="work whose name contains this; the file's other work is kept")
    parser.add_argument("--at", type=Path, help="where the models are written; some 8 GB (default: build/bench)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/bench.json")
    asked = parser.parse_args()
    asked.at = asked.at or BUILD.with_name("bench-quick" if asked.quick else "bench")
    asked.out = asked.out or HERE / "results" / ("bench-quick.json" if asked.quick else "bench.json")
    return asked


def main() -> None:
    """Measure, print, write."""
    asked = arguments()
    names, peers = [name for name in WORK if asked.only in name], not asked.no_peers
    asked.out.parent.mkdir(exist_ok=True, parents=True)
    found = begun(asked.out, names, peers)
    for name in names:
        for part in measure(name, asked.at, 1 if asked.quick else asked.runs, peers, asked.quick):
            parts = {**found["work"], name: part}
            found["work"] = {known: parts[known] for known in WORK if known in parts}
            asked.out.write_text(json.dumps(found, indent=1) + "\n")
        Console(width=150).print(shown(name, found["work"][name]["jobs"]))
    bars(found).write_image(asked.out.with_suffix(".png"), scale=2)


if __name__ == "__main__":
    main()
