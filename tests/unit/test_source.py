"""Opening weights: lazily, and never what cannot be trusted."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import mergekit_nb as mk
from mergekit_nb.weights.hashing import fingerprint
from mergekit_nb.weights.site import layer_of, layers


def sharded(folder, base):
    names = list(base)
    folder.mkdir()
    parts = {"model-1.safetensors": names[:2], "model-2.safetensors": names[2:]}
    for file, part in parts.items():
        save_file({n: base[n] for n in part}, folder / file)
    index = {"weight_map": {n: file for file, part in parts.items() for n in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in a)


def test_a_file_a_folder_a_dict_and_a_module_are_the_same_weights(tmp_path, base):
    save_file(base, tmp_path / "model.safetensors")
    sources = [tmp_path / "model.safetensors", str(tmp_path), sharded(tmp_path / "shards", base), base]
    opened = [mk.open(source) for source in sources]
    assert all(equal(source, base) for source in opened)
    assert len({fingerprint(source) for source in opened}) == 1
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert equal(mk.open(net), net.state_dict())


def test_opening_reads_headers_only(tmp_path, base, monkeypatch):
    save_file(base, tmp_path / "m.safetensors")
    source = mk.open(tmp_path / "m.safetensors")
    assert source.shape("stem.weight") == (5, 7)
    assert source.dtype("stem.weight") == torch.float32
    again = pickle.loads(pickle.dumps(source))  # to a worker process
    assert equal(again, base)


def test_a_shard_outside_its_folder_is_refused(tmp_path, base):
    folder = sharded(tmp_path / "m", base)
    save_file(base, tmp_path / "outside.safetensors")
    index = folder / "model.safetensors.index.json"
    for file in ("../outside.safetensors", str(tmp_path / "outside.safetensors")):
        index.write_text(json.dumps({"weight_map": dict.fromkeys(base, file)}))
        with pytest.raises(ValueError, match="outside its own folder"):
            mk.open(folder)


def test_a_missing_shard_and_a_missing_tensor_are_named(tmp_path, base):
    folder = sharded(tmp_path / "m", base)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"ghost": "model-1.safetensors"}}))
    with pytest.raises(ValueError, match="ghost is in model-1.safetensors, but it is not there"):
        mk.open(folder)
    index.write_text(json.dumps({"weight_map": {"a": "model-9.safetensors"}}))
    with pytest.raises(FileNotFoundError, match="model-9.safetensors, which is missing"):
        mk.open(folder)
    index.write_text("[]")
    with pytest.raises(ValueError, match="no safetensors index"):
        mk.open(folder)


def test_two_files_with_one_tensor_and_no_index(tmp_path, base):
    for file in ("a", "b"):
        save_file(base, tmp_path / f"{file}.safetensors")
    with pytest.raises(ValueError, match=r"both a\.safetensors and b\.safetensors"):
        mk.open(tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    for path in (tmp_path / "model.safetensors", tmp_path):
        with pytest.raises(ValueError, match="model.safetensors is no file that can be read in any order"):
            mk.open(path)


def test_an_adapter_without_its_weights(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="has an adapter_config.json but no adapter_model.safetensors"):
        mk.open(tmp_path)


def test_layers_in_the_order_of_a_forward_pass():
    names = [
        "visual.class_embedding", "visual.proj", "visual.conv1.weight", "visual.ln_post.weight",
        *(f"visual.transformer.resblocks.{i}.attn.in_proj_weight" for i in (0, 10, 2)),
    ]  # fmt: skip
    assert list(layers(names)) == ["stem", "block 0", "block 2", "block 10", "head"]
    assert layers(names)["head"] == ["visual.proj", "visual.ln_post.weight"]
    assert [layer_of(n) for n in ("layer2.0.conv1.weight", "0.weight", "model.layers.3.mlp.up_proj.weight")] == [
        "layer2.0",
        "block 0",
        "block 3",
    ]
    two = layers(["visual.blocks.0.w", "text.blocks.0.w"])
    assert list(two) == ["text.blocks 0", "visual.blocks 0"]
