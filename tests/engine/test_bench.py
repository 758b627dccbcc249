"""The benchmark runs, and its table is made of what it wrote."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def module(name: str):
    """A script of the benchmarks, as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_a_quick_benchmark_measures_the_limit_and_a_merge(tmp_path):
    command = [
        sys.executable,
        str(BENCHMARKS / "bench.py"),
        "--quick",
        "--at",
        str(tmp_path),
        "--out",
        str(tmp_path / "b.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "b.json").read_text())
    jobs = found["work"]["quick"]["jobs"]
    assert set(jobs) == {"limit", "EMR, ours"}
    assert jobs["EMR, ours"]["process_wall"] > jobs["EMR, ours"]["wall"] > 0
    table = module("readme").speed(found)
    assert f"| EMR, ours | {jobs['EMR, ours']['wall']:.2f} |" in table
    assert found["machine"] in table


def test_a_job_that_fails_is_told_and_not_tried_again(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    bench = module("bench")
    tried = []
    monkeypatch.setattr(bench, "run", lambda job, family: tried.append(job) or {"failed": "MemoryError"})
    assert bench.measure(None, ["EMR, authors"], 5) == {"EMR, authors": {"failed": "MemoryError"}}
    assert tried == ["EMR, authors"]
