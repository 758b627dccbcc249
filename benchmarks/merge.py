"""How long a merge takes, as a multiple of copying its inputs once on the same machine in the same run.

    make bench            or: python benchmarks/merge.py [--entries 8000000] [--experts 8] [--runs 5]

Writes benchmarks/results/merge.json. The peers and the limits of disk and GPU are not measured here yet.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import mergekit_nb as mk

TENSOR = 1_000_000  # entries of one tensor of the synthetic model


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def model(entries: int, seed: int) -> dict[str, torch.Tensor]:
    """Random float32 weights in tensors of a million entries."""
    g = torch.Generator().manual_seed(seed)
    sizes = [TENSOR] * (entries // TENSOR) + ([entries % TENSOR] if entries % TENSOR else [])
    return {f"blocks.{i}.weight": torch.randn(size, generator=g) for i, size in enumerate(sizes)}


def measure(entries: int, experts: int, runs: int) -> dict:
    """Medians over interleaved runs: the copy, then every method, `runs` times over."""
    base = model(entries, 0)
    tuned = {
        f"task{t}": {n: w + 0.01 * d for (n, w), d in zip(base.items(), model(entries, t + 1).values(), strict=True)}
        for t in range(experts)
    }
    work = {"copy": lambda: [w.clone() for e in (base, *tuned.values()) for w in e.values()]}
    work |= {name: lambda name=name: mk.merge(name, base, tuned, device="cpu") for name in mk.methods.taking(experts)}
    times: dict[str, list[float]] = {name: [] for name in work}
    for run in range(runs + 1):
        for name, job in work.items():
            took = seconds(job)
            if run:  # the first round warms up
                times[name].append(took)
    medians = {name: statistics.median(took) for name, took in times.items()}
    return {
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "entries": entries,
        "experts": experts,
        "runs": runs,
        "seconds": medians,
        "times the copy": {name: took / medians["copy"] for name, took in medians.items()},
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=8_000_000)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    found = measure(**vars(parser.parse_args()))
    table = Table("method", "median s", "× one copy of the inputs", title=found["machine"])
    for name, took in found["seconds"].items():
        table.add_row(name, f"{took:.3f}", f"{found['times the copy'][name]:.1f}")
    Console().print(table)
    out = Path(__file__).parent / "results" / "merge.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
