"""Executors of every kind, and workers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ClassVar

import dask
import pytest
import torch
from distributed import Client, LocalCluster

import mergekit_nb as mk
from mergekit_nb.engine.workers import by_executor, by_threads
from mergekit_nb.methods import TaskArithmetic
from tests.engine.models_on_disk import contents, write_models

PORTIONS = {"shard_size": 400_000}


@dataclass(frozen=True)
class Deadly(TaskArithmetic):
    """Task arithmetic whose process dies at its first piece, unless that has happened already."""

    grave: str = ""

    def merge(self, site, taus, totals):
        if os.getpid() != int(Path(self.grave, "driver").read_text()) and not Path(self.grave, "dead").exists():
            Path(self.grave, "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().merge(site, taus, totals)


@pytest.fixture
def models(tmp_path):
    return write_models(tmp_path)


@pytest.fixture
def deadly(tmp_path):
    (tmp_path / "driver").write_text(str(os.getpid()))
    return Deadly(grave=str(tmp_path))


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of Dask, as on two machines with a disk in common.

    Dask writes its workers' settings into this process' environment, MALLOC_TRIM_THRESHOLD_ among them: they are taken out
    again, or every kernel and process that later tests start would give memory back at each breath.
    """
    before = dict(os.environ)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def one_thread():
    """As Dask's workers have: LAPACK's last bits depend on how many it uses."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["ties", "emr"])
def test_two_processes_of_dask_write_the_same_bytes(models, tmp_path, cluster, method):
    written_by_two(models, tmp_path, cluster, method)


def test_two_processes_of_dask_write_the_same_factors_as_one_with_as_many_threads(
    models, tmp_path, cluster, one_thread
):
    written_by_two(models, tmp_path, cluster, "tsv_compress")


def written_by_two(models, tmp_path, cluster, method):
    mk.merge(method, *models, out=tmp_path / "here", **PORTIONS)
    seen = []
    mk.merge(
        method, *models, out=tmp_path / "there", executor=cluster.get_executor(), **PORTIONS,
        progress=lambda done, total, text: seen.append(done / total),
    )  # fmt: skip
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(seen) > 3
    assert seen == sorted(seen)


def test_a_worker_of_dask_that_dies_costs_a_retry(models, tmp_path, cluster, deadly, recwarn):
    mk.merge(deadly, *models, out=tmp_path / "there", executor=cluster.get_executor(), **PORTIONS)
    assert not [w for w in recwarn if "worker died" in str(w.message)]  # another worker did it, not this process
    assert (tmp_path / "dead").exists()
    mk.merge(deadly, *models, out=tmp_path / "here", **PORTIONS)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_paths_mean_the_same_to_workers_elsewhere(models, tmp_path, cluster, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experts = {task: Path(path).name for task, path in models[1].items()}
    mk.merge("average", "base.safetensors", experts, out="there", executor=cluster.get_executor(), **PORTIONS)
    mk.merge("average", "base.safetensors", experts, out="here", **PORTIONS)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_an_error_of_a_worker_is_the_merges_error(models, tmp_path, cluster):
    opened = {task: mk.open(path) for task, path in models[1].items()}
    size = [opened["b"].shape(name) for name in opened["b"]]  # its header is read
    assert size
    os.truncate(models[1]["b"], 5000)
    with pytest.raises(OSError, match="cut short since it was opened"):
        mk.merge("average", models[0], opened, out=tmp_path / "out", executor=cluster.get_executor())
    assert not (tmp_path / "out").exists()


def test_a_process_that_dies_breaks_its_pool_but_not_the_merge(models, tmp_path, deadly):
    with (
        ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool,
        pytest.warns(UserWarning, match="a worker died, and the executor gives no other; this process does"),
    ):
        mk.merge(deadly, *models, out=tmp_path / "there", executor=pool, **PORTIONS)
    mk.merge(deadly, *models, out=tmp_path / "here", **PORTIONS)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_results_come_in_order_and_few_wait():
    running, most = set(), []

    def work(item):
        running.add(item)
        most.append(len(running))
        return item

    taken = []
    for item in by_threads(work, range(50), 3):
        taken.append(item)
        running.discard(item)
    assert taken == list(range(50))
    assert max(most) <= 7  # twice as many as threads, and the one being taken


def test_what_has_not_begun_when_one_fails_never_does():
    begun = []
    gate = threading.Event()

    def work(item):
        begun.append(item)
        if item == 0:
            raise ValueError("no")
        gate.wait(5)

    with ThreadPoolExecutor(2) as pool:
        threading.Timer(0.2, gate.set).start()
        with pytest.raises(ValueError, match="no"):
            list(by_executor(pool, work, range(100)))
    assert len(begun) < 10


@dataclass(frozen=True)
class Slow(TaskArithmetic):
    """Task arithmetic that takes its time."""

    pieces: ClassVar[list[str]] = []

    def merge(self, site, taus, totals):
        self.pieces.append(site.name)
        time.sleep(0.3)
        return super().merge(site, taus, totals)


def test_workers_hear_a_cancel_within_their_portion(models, tmp_path):
    flag = threading.Event()
    threading.Timer(0.7, flag.set).start()
    with ThreadPoolExecutor(1) as pool, pytest.raises(mk.Cancelled, match="cancelled after 0 of"):
        mk.merge(Slow(), *models, out=tmp_path / "out", executor=pool, cancel=flag)
    assert 1 <= len(Slow.pieces) < 6  # of six tensors, all in one portion
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(("out", ".part"))]


def test_a_cluster_without_workers_is_said(models, tmp_path):
    with LocalCluster(n_workers=0, processes=False, protocol="tcp://", dashboard_address=None) as local:
        flags = ["--base", models[0], *(f"--expert={task}={path}" for task, path in models[1].items())]
        command = [sys.executable, "-m", "mergekit_nb", "merge", "--method", "emr", *flags, "--out", tmp_path / "there"]
        waiting = subprocess.Popen(
            [*command, "--dask", local.scheduler.address], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert "has no workers yet; waiting for the first" in waiting.stderr.readline()
            local.scale(1)
            assert waiting.wait(60) == 0
        finally:
            waiting.kill()
            waiting.communicate()


def test_the_command_line_uses_a_cluster(models, tmp_path, cluster):
    flags = ["--base", models[0], *(f"--expert={task}={path}" for task, path in models[1].items())]
    address = cluster.scheduler.address
    command = [
        sys.executable,
        "-m",
        "mergekit_nb",
        "merge",
        "--method",
        "emr",
        *flags,
        "--out",
        str(tmp_path / "there"),
    ]
    done = subprocess.run([*command, "--shard-size", "400kB", "--dask", address], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mk.merge("emr", *models, out=tmp_path / "here", **PORTIONS)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
