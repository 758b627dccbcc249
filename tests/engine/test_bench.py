"""The benchmark runs, and its tables are made of what it wrote."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TOOK = {"wall": 1.0, "cpu": 1.5, "above_import_mb": 200.0, "process_wall": 4.0, "process_cpu": 5.0, "peak_mb": 900.0}


@pytest.fixture
def scripts(monkeypatch):
    """The benchmarks' scripts, as modules, by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("bench", "figures", "growth", "jobs", "kills", "models", "peers", "readme", "speed", "theirs", "watched")
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


def test_a_quick_benchmark_measures_the_limit_and_a_merge(tmp_path, monkeypatch, scripts):
    bench, tiny = scripts("bench"), scripts("models").vision(32, 1, 8)
    work = bench.Work("tiny", tiny, tiny, 2, torch.float32, ("limit", "EMR, ours", "EMR, authors"))
    monkeypatch.setattr(bench, "WORK", {"tiny": work})
    monkeypatch.setattr("plotly.graph_objects.Figure.write_image", lambda *_, **__: None)
    where = ["--at", str(tmp_path), "--out", str(tmp_path / "b.json")]
    monkeypatch.setattr(sys, "argv", ["bench.py", "--quick", "--no-peers", *where])
    bench.main()
    found = json.loads((tmp_path / "b.json").read_text())
    jobs = found["work"]["tiny"]["jobs"]
    assert set(jobs) == {"limit", "EMR, ours"}
    assert jobs["EMR, ours"]["process_wall"] > jobs["EMR, ours"]["wall"] > 0
    assert jobs["EMR, ours"]["peak_mb"] > jobs["EMR, ours"]["above_import_mb"] > 0
    assert jobs["limit"]["peak_mb"] < jobs["EMR, ours"]["peak_mb"]
    assert not (tmp_path / "tiny" / "out").exists()


def test_a_job_that_fails_is_told_and_not_tried_again(monkeypatch, scripts):
    bench, tried = scripts("bench"), []
    took = {"failed": "MemoryError", "process_wall": 3.0}
    monkeypatch.setattr(bench, "run", lambda job, family: tried.append(job) or took)
    *_, found = bench.rounds(None, ["EMR, authors"], 5)
    assert found == {"EMR, authors": took}
    assert tried == ["EMR, authors"]


def test_what_was_measured_before_on_this_machine_is_kept(tmp_path, monkeypatch, scripts):
    bench, out = scripts("bench"), tmp_path / "bench.json"
    small, large = list(bench.WORK)[:2]
    work, peers = {small: 1, large: 2, "no more": 3}, {"mergekit": {"mergekit": "0"}}
    for torch_then, machine, kept in (
        (torch.__version__, "this", True),
        (torch.__version__, "other", False),
        ("0", "this", False),
    ):
        out.write_text(json.dumps({"machine": "this", "torch": torch_then, "peers": peers, "work": work}))
        monkeypatch.setattr(bench, "machine", lambda name=machine: name)
        found = bench.begun(out, [small], peers=False)
        assert found["work"] == ({large: 2} if kept else {})
        assert found["peers"] == (peers if kept else {})


def test_a_job_of_ours_that_failed_has_reached_nothing(scripts):
    speed = scripts("speed")
    jobs = {"limit": TOOK, "EMR, ours": {**TOOK, "failed": "killed"}, "EMR, authors": {**TOOK, "cpu": 1e6}}
    cells = [row[1] for row in speed.targets({"work": {"w": {"jobs": jobs}}})[1:]]
    assert len(cells) == 3
    assert all("missed" in cell for cell in cells)


def test_medians_are_told_after_every_round_and_the_first_is_not_counted(monkeypatch, scripts):
    bench, walls = scripts("bench"), iter([100.0, 3.0, 1.0, 2.0])
    monkeypatch.setattr(bench, "run", lambda job, family: {**TOOK, "wall": next(walls)})
    assert [found["limit"]["wall"] for found in bench.rounds(None, ["limit"], 3)] == [3.0, 2.0, 2.0]


def test_a_process_that_holds_too_much_is_killed_and_what_it_took_is_told(scripts):
    code = "import time; room = bytearray(300_000_000); print('{}', flush=True); time.sleep(60)"
    ended = scripts("watched").watched([sys.executable, "-c", code], memory=100_000_000, patience=60)
    assert ended.why == "killed: it held more than 0.1 GB"
    assert ended.peak_mb > 100
    assert 0 < ended.wall < 30


def test_a_process_that_takes_too_long_is_killed(scripts):
    ended = scripts("watched").watched([sys.executable, "-c", "import time; time.sleep(60)"], 10**9, patience=0.2)
    assert ended.why == "killed: not done after 0.2 s"


def test_mapped_files_are_not_memory_of_its_own(tmp_path, scripts):
    file = tmp_path / "file"
    file.write_bytes(bytes(200_000_000))
    code = f"import mmap, time; f = open({str(file)!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)"
    code += "; print(sum(m[i] for i in range(0, len(m), 4096))); time.sleep(0.3)"
    ended = scripts("watched").watched([sys.executable, "-c", code], memory=100_000_000, patience=60)
    assert (ended.why, ended.said) == ("", "0\n")


def test_a_process_that_fails_says_why(scripts):
    ended = scripts("watched").watched([sys.executable, "-c", "print('so far'); raise ValueError('no')"], 10**9, 60)
    assert (ended.said, ended.why) == ("so far\n", "ValueError: no")


def test_what_a_failed_job_had_taken_is_told_since_it_was_ready(scripts):
    ready = json.dumps({"ready_at": 1002.0, "ready_cpu": 3.0, "ready_mb": 700.0})
    ended = scripts("watched").Ended(ready + "\n", "killed", start=1000.0, wall=12.0, cpu=23.0, peak_mb=9700.0)
    took = scripts("bench").told(ended)
    assert (took["wall"], took["cpu"], took["above_import_mb"], took["failed"]) == (10.0, 20.0, 9000.0, "killed")


@pytest.fixture
def found():
    """What a benchmark writes."""
    jobs = {
        "limit": {**TOOK, "wall": 0.5},
        "EMR, ours": TOOK,
        "EMR, authors": {**TOOK, "cpu": 30.0},
        "TIES per tensor, ours": {**TOOK, "wall": 2.5},
        "TIES per tensor, mergekit": {**TOOK, "cpu": 12.0},
        "PCB, ours": {**TOOK, "above_import_mb": 1200.0},
        "PCB, authors": {**TOOK, "cpu": 12.0, "failed": "killed: it held more than 19.0 GB"},
        "TIES, fusion_bench": {"failed": "ImportError: no", "process_wall": 3.0},
    }
    part = {"entries": 87_800_000, "runs": 5, "jobs": jobs}
    return {"machine": "a machine", "torch": "2.15.0+cpu", "peers": {"m": {"mergekit": "1"}}, "work": {"ViT": part}}


def test_the_tables_say_what_was_measured_and_what_was_not_done(scripts, found):
    told = scripts("speed").speed(found)
    assert "a machine; torch 2.15.0, mergekit 1." in told
    assert "88 million weights each, medians of 5 interleaved runs" in told
    assert "| EMR, ours | 1 | 2 | 1.5 | 200 | 4 | 5 | 900 |" in told
    assert "| PCB, authors | > 1 | > 2 | > 12 | > 200 | > 4 | > 5 | > 900 |" in told
    assert "PCB, authors was not done: killed: it held more than 19.0 GB." in told
    assert "| TIES, fusion_bench | – | – | – | – | > 3 | – | – |" in told


def test_targets_are_reached_missed_or_unknown(scripts, found):
    rows = {row[0]: row[1] for row in scripts("speed").targets(found)}
    assert rows == {
        "target": "ViT",
        "EMR: wall at most 2 × the limit": "2 × ✓",
        "TIES per tensor: wall at most 4 × the limit": "5 × **missed**",
        "PCB: wall at most 8 × the limit": "2 × ✓",
        "EMR: at least 10 × fewer CPU s than authors": "20 × ✓",
        "PCB: at least 10 × fewer CPU s than authors": "> 8 × **unknown**",
        "TIES per tensor: at least 10 × fewer CPU s than mergekit": "8 × **missed**",
        "ours: under 1000 MB above import, each": "1200 MB **missed**",
    }


def test_the_figure_has_a_mark_for_every_figure_of_every_job(scripts, found):
    figures = scripts("figures")
    rows = figures.dots(found["work"]["ViT"]["jobs"])
    assert len(rows) == 7 * 6 + 1
    assert set(rows[rows["job"] == "PCB, authors"]["part"]) == {"not done by then"}
    drawn = [trace for trace in figures.bars(found).data if trace.x[0] is not None]
    assert sum(len(trace.x) for trace in drawn) == len(rows)


def test_growth_draws_lines_through_the_origin(scripts):
    rows = [{"grows": "experts", "job": "limit", "gb": gb, **TOOK, "wall": 2.0 * gb} for gb in (1.0, 2.0)]
    made = scripts("figures").growth({"rows": rows, "machine": "a machine"})
    line = next(trace for trace in made.data if trace.mode == "lines")
    assert (list(line.x), list(line.y)) == ([0, 2.0], [0, 4.0])


def test_a_function_of_the_authors_is_had_without_running_their_script(tmp_path, scripts):
    (tmp_path / "script.py").write_text("import nothing_there\ndef half(x): return torch.ones(1) * x / 2\nhalf(data)\n")
    assert scripts("theirs").function(tmp_path / "script.py", "half")(3) == 1.5
