"""Kill a merge at random moments, take it up again, and compare with one that was left alone, byte for byte.

    python benchmarks/kills.py [--kills 10] [--seed 0]

Prints a line a kill; exit status 1 where a byte differs. The models are made here, of random numbers.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import save_file

METHODS = ("task_arithmetic", "emr", "ties", "pcb")
ENTRIES, TENSORS, TASKS = 2_000_000, 24, "abcd"  # 192 MB a model: twelve portions


def models(folder: Path, seed: int) -> list[str]:
    """Five models as files; the flags that name them."""
    g = torch.Generator().manual_seed(seed)
    base = {f"blocks.{i}.weight": torch.randn(ENTRIES, generator=g) for i in range(TENSORS)}
    save_file(base, folder / "base.safetensors")
    for task in TASKS:
        tuned = {name: w + 0.01 * torch.randn(w.shape, generator=g) for name, w in base.items()}
        save_file(tuned, folder / f"{task}.safetensors")
    return ["--base", str(folder / "base.safetensors"), *(f"--expert={t}={folder / f'{t}.safetensors'}" for t in TASKS)]


def command(method: str, flags: list[str], out: Path) -> list[str]:
    """A merge in a process of its own, in several portions."""
    sizes = ["--shard-size", "20MB", "--memory", "200MB"]
    return [sys.executable, "-m", "mergekit_nb", "merge", "--method", method, *flags, *sizes, "--out", str(out)]


def begun(desk: Path, process: subprocess.Popen) -> float:
    """When the merge began to work, after all imports."""
    while not (desk / "journal.json").exists() and process.poll() is None:
        time.sleep(0.002)
    return time.perf_counter()


def digest(folder: Path) -> dict[str, str]:
    """The hash of every file."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}


def killed(method: str, flags: list[str], out: Path, share: float, length: float) -> str:
    """Kill a merge once that share of its usual time has passed, and let it end: what was found half there."""
    desk = out.with_name(f".{out.name}.part")
    process = subprocess.Popen(command(method, flags, out), stdout=subprocess.DEVNULL)
    time.sleep(max(begun(desk, process) + share * length - time.perf_counter(), 0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = len(list((desk / "written").glob("*"))) if desk.exists() else 0
    rounds = len(list(desk.glob("total-*"))) if desk.exists() else 0
    found = "the whole result" if out.exists() else f"{rounds} rounds, {written} portions"
    subprocess.run(command(method, flags, out), check=True, stdout=subprocess.DEVNULL)
    return found


def main() -> int:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draws, failed = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        flags, expected, lengths = models(Path(folder), args.seed), {}, {}
        for kill in range(args.kills):
            method = METHODS[kill % len(METHODS)]
            if method not in expected:
                whole = Path(folder, f"{method} undisturbed")
                process = subprocess.Popen(command(method, flags, whole), stdout=subprocess.DEVNULL)
                start = begun(whole.with_name(f".{whole.name}.part"), process)
                while not whole.exists() and process.poll() is None:
                    time.sleep(0.002)
                lengths[method] = time.perf_counter() - start
                process.wait()
                expected[method] = digest(whole)
            share, out = draws.random(), Path(folder, f"killed {kill}")
            found = killed(method, flags, out, share, lengths[method])
            same = digest(out) == expected[method]
            failed += not same
            shutil.rmtree(out)
            print(
                f"{method:<16} killed at {share:4.0%} of its time: {found}; {'the same bytes' if same else 'OTHER BYTES'}"
            )
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
