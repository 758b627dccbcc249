"""GB/s of each fused kernel on this machine's GPU, beside a copy on the device in the same run; prints a JSON.

    python benchmarks/gpu.py                      67 M entries (2^26), 8 experts, float32
    python benchmarks/gpu.py --dtype bfloat16 --experts 4 --entries 100000000

A kernel is told the bytes it has to move: every model read once, its result written once. Runs take turns; medians are
told. Nothing here had a GPU when it was written, so the README has no such figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import torch

from mergekit_nb.engine.forms.stack import Stack, kernels

WARM = 2  # runs that compile and warm up, not counted


def models(entries: int, experts: int, dtype: torch.dtype, device: torch.device) -> Stack:
    """A base and experts that were fine-tuned a little, made on the device."""
    tile = kernels().tile
    torch.manual_seed(0)
    rows = torch.empty(1 + experts, -(-entries // tile) * tile, dtype=dtype, device=device)
    rows[0].normal_(0, 0.02)
    for row in rows[1:]:
        row.normal_(0, 0.001).add_(rows[0])
    rows[:, entries:] = 0
    return Stack(rows, entries)


def walks(stack: Stack) -> dict[str, tuple[Callable[[], object], int]]:
    """What is measured, and the bytes that it has to move."""
    run, rows, tasks = kernels(), stack.rows, stack.tasks
    vector, packed, other = stack.room(), stack.room(tasks, dtype=torch.uint8), torch.empty_like(rows)
    sums, counts = (stack.zeros(*shape, dtype=torch.int64) for shape in ((2, tasks, 256), (tasks, 1 << 16)))
    ones, top, signs = stack.numbers(None), stack.zeros(1, dtype=torch.int32), stack.zeros(1, dtype=torch.int64)
    kept = (stack.numbers((0.001,) * tasks), stack.numbers((rows.shape[1],) * tasks, torch.int64))
    first = (torch.full((tasks,), 0.001).view(torch.int32) >> 16).to(rows.device)
    read, vector_bytes = rows.nbytes, vector.nbytes
    return {
        "copy on the device": (lambda: other.copy_(rows), 2 * read),
        "task arithmetic": (lambda: run.add(rows, ones, 0.3, 1.0, vector, top), read + vector_bytes),
        "EMR": (lambda: run.emr(rows, -1.0, vector, packed, sums, top), read + vector_bytes + packed.nbytes),
        "TIES, first count": (lambda: run.count(rows, stack.size, None, counts, top), read),
        "TIES, second count": (lambda: run.count(rows, stack.size, first, counts, top), read),
        "TIES, majority": (lambda: run.majority(rows, *kept, ones, signs, top), read),
        "TIES": (lambda: run.ties(rows, *kept, ones, ones, ones, 1.0, 1.0, vector, top), read + vector_bytes),
        **_bus(stack),
    }


def _bus(stack: Stack) -> dict[str, tuple[Callable[[], object], int]]:
    """One expert from pinned memory to the device: what a merge of models on a disk cannot exceed, all models together."""
    if stack.rows.device.type != "cuda":
        return {}
    pinned = torch.empty_like(stack.rows[1], device="cpu", pin_memory=True)
    there = torch.empty_like(stack.rows[1])
    return {"from pinned memory": (lambda: there.copy_(pinned, non_blocking=True), pinned.nbytes)}


def seconds(work: Callable[[], object]) -> float:
    """How long the device takes for it."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1000


def measure(stack: Stack, runs: int) -> dict[str, dict[str, float]]:
    """Median GB/s of each, and what part that is of the copy's."""
    every = walks(stack)
    took: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(WARM + runs):
        for name, (work, _) in every.items():
            took[name].append(seconds(work))
    rate = {name: moved / statistics.median(took[name][WARM:]) / 1e9 for name, (_, moved) in every.items()}
    return {
        name: {"GB/s": round(r, 1), "of the copy": round(r / rate["copy on the device"], 3)} for name, r in rate.items()
    }


def main() -> None:
    """Print what was measured, or that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=1 << 26)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    if not torch.cuda.is_available() or kernels() is None:
        print(json.dumps({"gpu": None, "why": "no GPU that torch can use" if kernels() else "Triton is not installed"}))
        return
    stack = models(given.entries, given.experts, getattr(torch, given.dtype), torch.device("cuda"))
    told = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, **vars(given)}
    print(json.dumps(told | {"measured": measure(stack, given.runs)}, indent=2))


if __name__ == "__main__":
    main()
