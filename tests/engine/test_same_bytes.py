"""The same bytes, however a merge is cut into pieces, portions, threads and processes."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mergekit_nb as mk
from mergekit_nb.engine import fast, pieces
from mergekit_nb.maths import histogram
from mergekit_nb.methods import Dare, Emr, Lines, TallMasks, TaskArithmetic, Ties
from mergekit_nb.weights import shards
from tests.engine.models_on_disk import TIGHT, contents, write_models

BY_PIECES = [
    "average", "task_arithmetic", "ties", "dare", "emr", "pcb", "lines", "tall_masks", "consensus", "magmax",
    Dare(drop=0.5) | Ties(density=0.3), Ties(merge_as="dis-sum") | TallMasks(), Emr() | Lines(),
]  # fmt: skip
WHOLE = [
    "breadcrumbs",
    "della",
    "dppa",
    "sce",
    "model_stock",
    "multi_slerp",
    "iso_c",
    "tsv_compress",
    Ties(scope="row"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


def label(method):
    return method if isinstance(method, str) else method.label


@pytest.mark.parametrize("method", BY_PIECES, ids=label)
def test_pieces_portions_and_threads_change_no_byte(models, tmp_path, method, monkeypatch):
    assert mk.plan(method, *models, memory=TIGHT).most == 65_536
    mk.merge(method, *models).save(tmp_path / "memory", shard_size=400_000)
    mk.merge(method, *models, out=tmp_path / "one", memory=TIGHT, shard_size=400_000)
    monkeypatch.setattr(pieces, "WORTH", 0)  # threads for any model
    monkeypatch.setattr(pieces, "threads", lambda: 3)
    mk.merge(method, *models, out=tmp_path / "threads", memory="100MB", shard_size=400_000)
    expected = contents(tmp_path / "memory")
    assert contents(tmp_path / "one") == expected
    assert contents(tmp_path / "threads") == expected
    assert len([name for name in expected if name.endswith("index.json")]) >= 1


@pytest.mark.parametrize(
    "method", ["average", "task_arithmetic", "emr", "ties", "pcb", Ties(scope="tensor", density=0.3)], ids=label
)
def test_compiled_forms_in_runs_of_pieces_and_threads_change_no_byte(models, tmp_path, method, monkeypatch):
    mk.merge(method, *models).save(tmp_path / "memory", shard_size=400_000)
    monkeypatch.setattr(fast, "WORTH", 0)
    monkeypatch.setattr(pieces, "WORTH", 0)
    monkeypatch.setattr(pieces, "RUN", 150_000)
    monkeypatch.setattr(pieces, "threads", lambda: 3)
    mk.merge(method, *models, out=tmp_path / "compiled", memory="100MB", shard_size=400_000)
    mk.merge(method, *models).save(tmp_path / "again", shard_size=400_000)
    assert contents(tmp_path / "compiled") == contents(tmp_path / "again") == contents(tmp_path / "memory")


@pytest.mark.parametrize("method", WHOLE, ids=label)
def test_methods_of_whole_tensors_are_written_as_they_are_saved(models, tmp_path, method):
    mk.merge(method, *models).save(tmp_path / "memory", shard_size=400_000)
    mk.merge(method, *models, out=tmp_path / "out", shard_size=400_000)
    assert contents(tmp_path / "out") == contents(tmp_path / "memory")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("method", ["ties", "emr"])
def test_every_dtype_goes_in_and_comes_out(tmp_path, dtype, method):
    models = write_models(tmp_path, dtype=dtype)
    whole = mk.merge(method, *models)
    merged = mk.merge(method, *models, out=tmp_path / "out", memory=TIGHT)
    task = "b" if merged.patches else None
    for name, weight in whole.weights(task).items():
        assert merged.weights(task)[name].dtype == weight.dtype == (torch.int64 if name == "steps" else dtype)
        assert torch.equal(merged.weights(task)[name], weight)


def test_double_precision_too(models, tmp_path):
    mk.merge("pcb", *models, dtype=torch.float64).save(tmp_path / "memory")
    mk.merge("pcb", *models, dtype=torch.float64, out=tmp_path / "out", memory="90MB")
    assert contents(tmp_path / "out") == contents(tmp_path / "memory")


def test_processes_write_the_same_portions(models, tmp_path):
    mk.merge("emr", *models, out=tmp_path / "here", shard_size=400_000)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        mk.merge("emr", *models, out=tmp_path / "there", shard_size=400_000, executor=pool)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.parametrize("unmatched", ["own", "mean", "base"])
@pytest.mark.parametrize("method", ["average", "emr", "tsv_compress"])
def test_heads_of_their_own_are_written_too(tmp_path, unmatched, method):
    base, experts = write_models(tmp_path)
    for i, path in enumerate(experts.values()):
        weights = load_file(path)
        save_file({**weights, "head.weight": torch.full((4, 2), float(i)), "extra": torch.full((3,), float(i))}, path)
    mk.merge(method, base, experts, unmatched=unmatched).save(tmp_path / "memory", shard_size=400_000)
    merged = mk.merge(method, base, experts, unmatched=unmatched, out=tmp_path / "out", shard_size=400_000)
    assert contents(tmp_path / "out") == contents(tmp_path / "memory")
    extra = merged.weights("c").get("extra")
    assert {"own": [2.0] * 3, "mean": [1.0] * 3, "base": None}[unmatched] == (None if extra is None else extra.tolist())


def test_what_is_written_is_what_safetensors_writes(tmp_path):
    tensors = {
        "é": torch.arange(6.0).reshape(2, 3),
        "a": torch.ones(3, dtype=torch.bool),
        "b": torch.ones((), dtype=torch.bfloat16),
    }
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    shards.save(tmp_path / "ours.safetensors", tensors)
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_shards_are_opened_by_their_index(models, tmp_path):
    mk.merge("task_arithmetic", *models, out=tmp_path / "out", shard_size="400kB")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert files == {f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))}
    assert len(files) > 2
    # a tensor larger than the limit has a file of its own
    assert max((tmp_path / "out" / file).stat().st_size for file in files) < 131_077 * 4 + 1000
    opened = mk.open(tmp_path / "out")
    assert index["metadata"]["total_size"] == sum(w.numel() * w.element_size() for w in opened.values())
    assert mk.open(tmp_path / "out" / "model.safetensors.index.json").keys() == opened.keys()


def test_gradual_sums_of_a_tasks_norm_do_not_depend_on_portions(models, tmp_path):
    method = Ties(elect="normmass", density=0.5)
    mk.merge(method, *models, out=tmp_path / "one")
    mk.merge(method, *models, out=tmp_path / "many", shard_size=1)
    one, many = mk.load(tmp_path / "one").weights(), mk.load(tmp_path / "many").weights()
    assert all(torch.equal(one[name], many[name]) for name in one)
    assert not torch.equal(one["stem.weight"], mk.merge(TaskArithmetic(), *models).weights()["stem.weight"])


def test_without_hashes_the_files_are_named_by_size_and_time(models, tmp_path):
    mk.merge("emr", *models, hashes=False).save(tmp_path / "memory")
    merged = mk.merge("emr", *models, hashes=False, out=tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "memory")
    origin = merged.provenance["inputs"]["experts"]["b"]
    assert set(origin) == {"path", "bytes", "changed"}
    assert origin["bytes"] == Path(models[1]["b"]).stat().st_size


def test_exact_sums_stay_exact_over_as_many_pieces_as_there_are():
    one = histogram.magnitude_sums(torch.tensor([[1.0, 1 + 2.0**-23]]))
    many = one * 2**31  # beyond 2^53, from where on float64 drops odd numbers
    assert torch.equal(many + one - many, one)
