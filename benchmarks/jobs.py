"""One job of the benchmark, in a process of its own: `python jobs.py JOB FAMILY.json OUT`.

Prints two lines of JSON: where it stood when all was imported and compiled code was loaded, and what the merge took. Runs in the project's
environment or in a peer's: a job imports what it needs, and only that.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from theirs import DENSITY, SCALE, Merge, emr_authors, fusion_bench, mergekit, pcb_authors, peft
from watched import held, most

ROOM = 1 << 20  # bytes read or written at once by the limit


def limit(paths: dict[str, str], out: Path) -> Merge:
    """What no merge can beat: every input byte read once, by as many threads as there are cores, one model's bytes written."""
    files = [file for folder in paths.values() for file in sorted(Path(folder).glob("*.safetensors"))]
    written = sum(file.stat().st_size for file in Path(paths["base"]).glob("*.safetensors"))

    def run() -> None:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as readers:
            list(readers.map(_read, files))
        with open(out, "wb", buffering=0) as stream:
            block = memoryview(bytearray(ROOM))
            for start in range(0, written, ROOM):
                stream.write(block[: written - start])

    return run


def _read(file: Path) -> None:
    room = memoryview(bytearray(ROOM))
    with open(file, "rb", buffering=0) as stream:
        while stream.readinto(room):
            pass


def ours(paths: dict[str, str], out: Path, method: str, **options) -> Merge:
    """mergekit-nb, from files to files."""
    import mergekit_nb as mk

    def run(paths: dict[str, str], out: Path) -> None:
        base, *tasks = paths
        mk.merge(method, paths[base], {task: paths[task] for task in tasks}, out=out, device="cpu", **options)

    _load_compiled(run, list(paths))
    return partial(run, paths, out)


def _load_compiled(run: Callable[[dict[str, str], Path], None], names: list[str]) -> None:
    """Merge a few weights as large models are merged: compiled loops are loaded when they are first called, like an import."""
    import torch
    from safetensors.torch import save_file

    from mergekit_nb.engine import fast

    worth, fast.WORTH = fast.WORTH, 0
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(names):
            weights = torch.randn(4096, generator=torch.Generator().manual_seed(seed))
            save_file({"w": weights}, f"{folder}/{name}.safetensors")
        run({name: f"{folder}/{name}.safetensors" for name in names}, Path(folder, "out"))
    fast.WORTH = worth


_ties = partial(ours, method="ties", scale=SCALE, density=DENSITY)
# job -> (environment, what makes the merge); "" is the project's own environment
JOBS: dict[str, tuple[str, Callable[[dict[str, str], Path], Merge]]] = {
    "limit": ("", limit),
    "task arithmetic, ours": ("", partial(ours, method="task_arithmetic", scale=SCALE)),
    "task arithmetic, mergekit": ("mergekit", partial(mergekit, method="task_arithmetic")),
    "task arithmetic, fusion_bench": ("fusion_bench", partial(fusion_bench, method="task_arithmetic")),
    "task arithmetic, PEFT": ("fusion_bench", partial(peft, method="task_arithmetic")),
    "EMR, ours": ("", partial(ours, method="emr")),
    "EMR, authors": ("fusion_bench", emr_authors),
    "EMR, fusion_bench": ("fusion_bench", partial(fusion_bench, method="emr")),
    "TIES, ours": ("", _ties),
    "TIES, fusion_bench": ("fusion_bench", partial(fusion_bench, method="ties")),
    "TIES per tensor, ours": ("", partial(_ties, scope="tensor", zero_sign="positive")),
    "TIES per tensor, mergekit": ("mergekit", partial(mergekit, method="ties")),
    "TIES per tensor, PEFT": ("fusion_bench", partial(peft, method="ties")),
    "PCB, ours": ("", partial(ours, method="pcb")),
    "PCB, authors": ("fusion_bench", pcb_authors),
}


def main() -> None:
    """Make the job ready, run it once, print what the run took."""
    job, paths, out = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    run = JOBS[job][1](paths, out)
    ready = held()
    print(json.dumps({"ready_at": time.time(), "ready_cpu": time.process_time(), "ready_mb": ready}), flush=True)
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "above_import_mb": most() - ready, "peak_mb": most()}))


if __name__ == "__main__":
    main()
