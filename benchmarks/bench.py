"""What merging takes, of this package and of its peers, beside what reading the inputs and writing one model takes.

    make bench                                   ViT-B/32 with 8 experts, Qwen2-0.5B's shapes with 4; peers from PyPI
    python benchmarks/bench.py --quick           a tiny model, two jobs, no peers: does it run?
    python benchmarks/bench.py --no-peers --runs 3

Every run of every job is a process of its own; the jobs take turns, run by run, and medians are told. One more run before
them warms the page cache and is not counted. Writes benchmarks/bench.json and bench.png; `python benchmarks/readme.py` makes the README's table of the former.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from jobs import JOBS
from models import Family, language, vision, write
from peers import WANTED, install, python_of, versions
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
PATIENCE = 1800  # seconds a job may take
SHARE = 0.85  # of the free memory that a job may fill
MEASURED = ("wall", "cpu", "peak_mb", "above_import_mb", "process_wall", "process_cpu")
FAMILIES = {
    "quick": (vision(64, 2, 8), 3, torch.float32),
    "ViT-B/32, 8 experts, float32": (vision(), 8, torch.float32),
    "0.5 B, 4 experts, bfloat16": (language(), 4, torch.bfloat16),
}
ELSEWHERE = {
    "0.5 B, 4 experts, bfloat16": {"PCB, ours", "PCB, all at once", "TIES per tensor, PEFT"}
}  # not measured there


def run(job: str, family: Family) -> dict:
    """One job in one process: what it took, or why it failed."""
    environment = JOBS[job][0]
    command = [
        python_of(environment),
        str(HERE / "jobs.py"),
        job,
        json.dumps(family.paths()),
        str(family.folder / "out"),
    ]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, preexec_fn=_within(_free()))
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {PATIENCE} s"}
    if done.returncode:
        return {"failed": _reason(done)}
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took = json.loads(done.stdout.splitlines()[-1])
    return {**took, "process_wall": time.perf_counter() - start, "process_cpu": cpu}


def _reason(done: subprocess.CompletedProcess) -> str:
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]


def _free() -> int:
    return int(SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _within(size: int):
    """So that a job that needs more memory than there is fails alone."""
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def measure(family: Family, jobs: list[str], runs: int, warm: int = 1) -> dict[str, dict]:
    """Medians of every job over interleaved runs; a job that fails once is not tried again."""
    found: dict[str, list[dict]] = {job: [] for job in jobs}
    for turn in range(1 - warm, runs + 1):
        for job in jobs:
            if not any("failed" in took for took in found[job]):
                took = run(job, family)
                found[job] += [took] if turn or "failed" in took else []
                print(
                    f"{turn}/{runs} {job}: {took.get('failed') or round(took['wall'], 2)}", file=sys.stderr, flush=True
                )
    return {job: summary(took) for job, took in found.items()}


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


def table(name: str, jobs: dict[str, dict]) -> Table:
    """What is printed."""
    shown = Table("job", "wall s", "× limit", "CPU s", "MB above import", "whole process s", title=name)
    bound = jobs["limit"]["wall"]
    for job, took in jobs.items():
        if "failed" in took:
            shown.add_row(job, took["failed"])
            continue
        row = (took["wall"], took["wall"] / bound, took["cpu"], took["above_import_mb"], took["process_wall"])
        shown.add_row(job, *(f"{value:.2f}" for value in row))
    return shown


def figure(found: dict):
    """Wall time of every job as a multiple of the limit."""
    import pandas as pd
    import plotly.express as px

    rows = [
        {"work": work, "job": job, "times the limit": took["wall"] / part["jobs"]["limit"]["wall"]}
        for work, part in found["work"].items()
        for job, took in part["jobs"].items()
        if "failed" not in took
    ]
    made = px.bar(
        pd.DataFrame(rows), x="times the limit", y="job", color="work", barmode="group", log_x=True, template="mk",
        title=f"Wall time as a multiple of reading all inputs and writing one model<br><sup>{found['machine']}</sup>",
    )  # fmt: skip
    return made.update_yaxes(autorange="reversed", title="")


def chosen(name: str, peers: bool) -> list[str]:
    """The jobs of one family."""
    if name == "quick":
        return ["limit", "EMR, ours"]
    return [job for job, (where, _) in JOBS.items() if (peers or not where) and job not in ELSEWHERE.get(name, set())]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, two jobs, no peers")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="families whose name contains this")
    parser.add_argument("--at", type=Path, default=BUILD, help="where the models are written; some 9 GB")
    parser.add_argument("--out", type=Path, default=HERE / "bench.json")
    asked = parser.parse_args()
    peers, runs = not (asked.quick or asked.no_peers), 1 if asked.quick else asked.runs
    for peer in WANTED if peers else ():
        install(peer)
    names = ["quick"] if asked.quick else [name for name in FAMILIES if name != "quick" and asked.only in name]
    found = {"machine": machine(), "torch": torch.__version__, "runs": runs, "peers": {}, "work": {}}
    if peers:
        found["peers"] = {peer: versions(peer) for peer in WANTED}
    for name in names:
        shapes, experts, dtype = FAMILIES[name]
        family = write(asked.at / name.partition(",")[0].replace("/", "-"), shapes, experts, dtype)
        jobs = measure(family, chosen(name, peers), runs, warm=not asked.quick)
        found["work"][name] = {**asdict(family), "folder": "", "jobs": jobs}
        Console(width=120).print(table(name, jobs))
    asked.out.parent.mkdir(exist_ok=True, parents=True)
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    if not asked.quick:
        import mergekit_nb.plots  # noqa: F401  the template

        figure(found).write_image(asked.out.with_suffix(".png"), width=1100, height=600, scale=2)


if __name__ == "__main__":
    main()
