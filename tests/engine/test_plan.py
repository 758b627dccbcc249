"""What a merge takes is known beforehand, and said."""

from __future__ import annotations

import re
import time

import pytest
import torch

import mergekit_nb as mk
from mergekit_nb.engine import budget, fast
from mergekit_nb.engine.plan import TOTALS
from mergekit_nb.progress import ticker
from tests.engine.models_on_disk import SHAPES, contents, write_models

ENTRIES = sum(torch.Size(shape).numel() for shape in SHAPES.values())


@pytest.fixture
def models(tmp_path):
    return write_models(tmp_path)


@pytest.mark.parametrize(
    ("text", "count"), [("2GB", 2_000_000_000), ("1.5 GiB", 1_610_612_736), (1000, 1000), ("300k", 300_000), ("7b", 7)]
)
def test_sizes_are_read(text, count):
    assert budget.parse(text) == count


@pytest.mark.parametrize("text", ["", "GB", "2 GBs", "-1GB", 0, "0.0001B", "1.2.3MB", None])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"memory is a number of bytes, such as \"2GB\""):
        budget.parse(text)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e12, "2.5 TB")])
def test_sizes_are_said(count, text):
    assert budget.said(count) == text


@pytest.mark.parametrize("method", ["average", "ties", "emr", "lines"])
def test_it_writes_what_it_said(models, tmp_path, method):
    plan = mk.plan(method, *models)
    seen = []
    mk.merge(method, *models, out=tmp_path / "out", progress=lambda done, total, text: seen.append((done, total)))
    tensors = sum(len(raw) for name, raw in contents(tmp_path / "out").items() if name.endswith("safetensors"))
    assert 0 < tensors - plan.writes < 10_000  # headers
    rounds = {"average": 1, "ties": 4, "emr": 1, "lines": 2}[method]
    assert plan.reads == rounds * 4 * 4 * ENTRIES  # four models of four bytes an entry
    assert seen[0] == (0, plan.reads + plan.writes)
    assert seen[-1] == (plan.reads + plan.writes, plan.reads + plan.writes)


def test_it_says_what_it_will_take_before_it_begins(models, tmp_path, capsys):
    small = {"memory": "80MB", "shard_size": "400kB"}
    mk.merge("ties", *models, out=tmp_path / "out", progress=True, **small)
    said, plan = capsys.readouterr().err, str(mk.plan("ties", *models, **small))
    assert said.startswith(plan + "\n")
    assert "(in 4 rounds), writes " in plan
    assert "(3 portions), holds about " in plan
    assert said.endswith("\n")
    assert "100%" in said.splitlines()[-1]


def test_a_bars_rate_is_not_of_what_a_killed_run_had_done(capsys):
    with ticker(True, 10**9, "merge", unit="B") as tick:
        tick(9 * 10**8, before=True)
        time.sleep(0.2)
        tick(10**6)
    said = capsys.readouterr().err
    assert "901M/1.00G" in said
    assert [float(rate) for rate in re.findall(r"([\d.]+)MB/s", said)][-1] < 6
    assert "GB/s" not in said


def test_what_cannot_be_asked_whether_to_stop_is_refused(models, tmp_path):
    with pytest.raises(TypeError, match=r"cancel is anything with is_set\(\), as a threading.Event; got 3"):
        mk.merge("average", *models, out=tmp_path / "out", cancel=3)
    assert not (tmp_path / "out").exists()


def test_a_method_that_holds_more_is_given_more(models):
    fr, karcher = (mk.plan(method, *models).holds - TOTALS for method in ("fr", "karcher"))
    assert karcher > 1.5 * fr


def test_too_little_memory_is_refused_with_what_is_needed(models):
    with pytest.raises(
        ValueError, match=r"memory='60MB' cannot hold emr of 3 experts in pieces: that takes ([\d.]+) MB"
    ):
        mk.plan("emr", *models, memory="60MB")
    with pytest.raises(ValueError, match="cannot hold tsv of 3 experts in whole tensors") as caught:
        mk.plan("tsv", *models, memory="60MB")
    enough = str(caught.value).split('memory="')[1].split('"')[0]
    assert mk.plan("tsv", *models, memory=enough).whole


def test_memory_shapes_pieces_and_threads(models, monkeypatch):
    monkeypatch.setattr("mergekit_nb.engine.pieces.WORTH", 0)
    monkeypatch.setattr("mergekit_nb.engine.pieces.threads", lambda: 8)
    tight, wide = (mk.plan("ties", *models, memory=memory) for memory in ("85MB", "2GB"))
    assert (tight.threads, tight.most) == (2, 65_536)
    assert wide.threads == 8
    assert wide.most > tight.most
    assert mk.plan("tsv", *models).threads == 1  # whole tensors take all cores by themselves


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_compiled_loops_hold_no_stacks_of_task_vectors(dtype, monkeypatch):
    base = {"embedding": torch.zeros(5_000_000, dtype=dtype)}
    experts = {task: {"embedding": torch.ones(5_000_000, dtype=dtype)} for task in "abc"}
    asked = {"scope": "tensor", "density": 0.2, "memory": "260MB"}
    read = 4 * (dtype.itemsize + (4 if dtype == torch.float16 else 0))  # as stored; again where loops read only float32
    plan = mk.plan("ties", base, experts, **asked)
    assert plan.whole
    assert read < (plan.holds - 64e6) / 5e6 / plan.threads < read + 20
    monkeypatch.setattr(fast, "kernels", lambda: None)
    with pytest.raises(ValueError, match="cannot hold ties of 3 experts in whole tensors"):
        mk.plan("ties", base, experts, **asked)
