"""Merges that are killed, cancelled, starved or lied to: nothing is half there, and what was there before is still there."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file

import mergekit_nb as mk
from mergekit_nb.cli import main
from tests.engine.models_on_disk import TIGHT, contents, write_models

PORTIONS = {"memory": TIGHT, "shard_size": 400_000}


@pytest.fixture
def models(tmp_path):
    return write_models(tmp_path)


@pytest.fixture
def finished(models, tmp_path):
    """What an undisturbed merge writes."""

    def by(method):
        mk.merge(method, *models, out=tmp_path / "undisturbed", **PORTIONS)
        return contents(tmp_path / "undisturbed")

    return by


def in_a_process(work, *args) -> int | None:
    """Run `work` in a process of its own, which may die; its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mergekit_nb"])
    process = context.Process(target=work, args=args)
    process.start()
    process.join(60)
    return process.exitcode


def merge_until(share: float, kind: int, method: str, models: tuple, out: Path) -> None:
    """Merge, and send this process a signal once that share of the bytes is done."""

    def watch(done, total, text):
        if done >= share * total:
            os.kill(os.getpid(), kind)

    mk.merge(method, *models, out=out, progress=watch, **PORTIONS)


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("method", "share"), [("ties", 0.3), ("ties", 0.9), ("emr", 0.5), ("task_arithmetic", 0.7)])
def test_a_killed_merge_goes_on_where_it_was_and_gives_the_same_bytes(models, tmp_path, finished, method, share):
    out = tmp_path / "out"
    assert in_a_process(merge_until, share, signal.SIGKILL, method, models, out) == -signal.SIGKILL
    assert not out.exists()
    assert hidden(tmp_path) == [".out.part"]
    seen = []
    mk.merge(method, *models, out=out, progress=lambda done, total, text: seen.append(done / total), **PORTIONS)
    assert contents(out) == finished(method)
    assert hidden(tmp_path) == []
    assert seen[-1] == 1
    assert len(seen) > 2
    assert max(seen[:3]) > 0.1  # what was done is not done again


def test_what_the_portions_were_measured_to_be_is_not_kept_once_it_is_added_up(models, tmp_path):
    desk, most = tmp_path / ".out.part", []

    def watch(done, total, text):
        most.append(len(list(desk.glob("round-*"))))

    mk.merge("ties", *models, out=tmp_path / "out", progress=watch, **PORTIONS)
    assert max(most) == 1  # megabytes a portion in each of three rounds: room that nobody counted


def test_an_interrupt_leaves_the_earlier_result_and_can_be_taken_up(models, tmp_path, finished):
    out = tmp_path / "out"
    mk.merge("average", *models, out=out)
    before = contents(out)
    assert in_a_process(merge_until, 0.8, signal.SIGINT, "emr", models, out) == 1
    assert contents(out) == before
    mk.merge("emr", *models, out=out, **PORTIONS)
    assert contents(out) == finished("emr")


def test_a_cancelled_merge_leaves_nothing(models, tmp_path):
    flag = threading.Event()

    def watch(done, total, text):
        if done > total / 2:
            flag.set()

    with pytest.raises(mk.Cancelled, match="cancelled after .* bytes"):
        mk.merge("emr", *models, out=tmp_path / "out", cancel=flag, progress=watch, **PORTIONS)
    assert not (tmp_path / "out").exists()
    assert hidden(tmp_path) == []


def test_inputs_that_changed_meanwhile_are_not_mixed(models, tmp_path, finished):
    out, changing = tmp_path / "out", models[1]["b"]
    in_a_process(merge_until, 0.8, signal.SIGKILL, "emr", models, out)
    with pytest.raises(
        OSError, match=r"another merge to .*out was begun and left unfinished \(other options\); resume"
    ):
        mk.merge("emr", *models, out=out, rescale="global", **PORTIONS)
    save_file({name: w + 1 for name, w in load_file(changing).items()}, changing)
    with pytest.raises(
        OSError, match=r"^b changed since the merge to .*out was begun and left unfinished; resume=False"
    ):
        mk.merge("emr", *models, out=out, **PORTIONS)
    mk.merge("emr", *models, out=out, resume=False, **PORTIONS)
    assert contents(out) == finished("emr")


@pytest.mark.parametrize("how", ["truncated", "rewritten", "gone"])
def test_an_input_that_changes_between_rounds_stops_the_merge(models, tmp_path, how):
    out, file = tmp_path / "out", Path(models[1]["c"])
    mk.merge("average", *models, out=out)
    before = contents(out)

    def meddle(done, total, text):
        if done > total / 2 and how == "truncated":
            os.truncate(file, 5000)
        elif done > total / 2 and how == "rewritten":
            os.utime(file, ns=(1, 1))
        elif done > total / 2:
            file.unlink(missing_ok=True)

    with pytest.raises(OSError, match=r"cut short since it was opened|^c changed while it was merged|No such file"):
        mk.merge("ties", *models, out=out, progress=meddle, **PORTIONS)
    assert contents(out) == before


def test_one_run_at_a_time_writes_to_a_folder(models, tmp_path):
    (tmp_path / ".out.part").mkdir()
    with (
        FileLock(tmp_path / ".out.part" / "lock"),
        pytest.raises(OSError, match="another run is writing to .*out: wait"),
    ):
        mk.merge("average", *models, out=tmp_path / "out")
    mk.merge("average", *models, out=tmp_path / "out")


def test_killed_between_the_two_renames_at_the_end(models, tmp_path, finished):
    out, desk = tmp_path / "out", tmp_path / ".out.part"
    mk.merge("average", *models, out=out)
    before = contents(out)
    in_a_process(merge_until, 0.5, signal.SIGKILL, "emr", models, out)
    out.rename(desk / "earlier")  # as `replace` does first
    with pytest.raises(OSError, match="another merge"):
        mk.merge("ties", *models, out=out, **PORTIONS)
    assert contents(out) == before
    mk.merge("emr", *models, out=out, **PORTIONS)
    assert contents(out) == finished("emr")


def starved(models: tuple, out: Path, answer) -> None:
    """Merge where no file may grow beyond 200 000 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        mk.merge("emr", *models, out=out, **PORTIONS)
    except OSError as error:
        answer.put(str(error))


def test_a_limit_on_file_sizes_is_named(models, tmp_path, finished):
    out = tmp_path / "out"
    mk.merge("average", *models, out=out)
    before = contents(out)
    answer = multiprocessing.get_context("forkserver").Queue()
    in_a_process(starved, models, out, answer)
    said = answer.get(timeout=10)
    assert said.startswith(f"{out} could not be written (")
    assert said.endswith("File too large); nothing was changed there")
    assert contents(out) == before
    mk.merge("emr", *models, out=out, **PORTIONS)  # what was done already is used
    assert contents(out) == finished("emr")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB. Only root can have one; without, `test_a_limit_on_file_sizes_is_named` stands for it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode
    ):
        pytest.skip("no right to mount a small disk")
    yield disk
    subprocess.run([shutil.which("umount"), disk], check=True)


def test_a_full_disk_is_known_beforehand_and_met_in_the_middle(models, small_disk, monkeypatch, capsys, tmp_path):
    out = small_disk / "out"
    with pytest.raises(OSError, match=r"needs [\d.]+ MB on its disk, and .* are free there; nothing was written"):
        mk.merge("emr", *models, out=out, **PORTIONS)
    assert hidden(small_disk) == [".out.part"]
    monkeypatch.setattr("mergekit_nb.engine.write._room", lambda *args: None)
    flags = ["--base", models[0], *(f"--expert={task}={path}" for task, path in models[1].items())]
    assert main(["merge", "--method", "emr", *flags, "--out", str(out), "--shard-size", "400kB"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device); nothing was changed there" in said
    assert not out.exists()


def test_bad_files_are_status_1_and_one_line(models, tmp_path, capsys):
    base, experts = models
    Path(experts["b"]).write_bytes(Path(experts["b"]).read_bytes()[:-100])
    flags = ["--base", base, *(f"--expert={task}={path}" for task, path in experts.items())]
    assert main(["merge", "--method", "emr", *flags, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "b.safetensors is no readable safetensors file" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def peak(models: tuple, out: Path, answer) -> None:
    """How many bytes of memory a merge took at most, beside what this process had before."""
    mk.merge("average", *models, out=out.with_name("warm"), memory="80MB")
    Path("/proc/self/clear_refs").write_text("5")  # forget the earlier peak
    before = _memory("VmRSS")
    mk.merge("average", *models, out=out, memory="100MB", shard_size="30MB")
    answer.put(_memory("VmHWM") - before)


def _memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its peak")
def test_memory_stays_within_the_budget(tmp_path):
    import torch

    base = {f"blocks.{i}.weight": torch.randn(1_500_000) for i in range(16)}  # 96 MB a model, four of them
    for name in ("base", "a", "b", "c"):
        save_file({key: w + len(name) for key, w in base.items()}, tmp_path / f"{name}.safetensors")
    models = str(tmp_path / "base.safetensors"), {t: str(tmp_path / f"{t}.safetensors") for t in "abc"}
    plan = mk.plan("average", *models, memory="100MB", shard_size="30MB")
    answer = multiprocessing.get_context("forkserver").Queue()
    in_a_process(peak, models, tmp_path / "out", answer)
    assert answer.get(timeout=10) < plan.holds <= 100_000_000
