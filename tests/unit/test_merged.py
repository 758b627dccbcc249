"""What a merge leaves, on disk and in a live module."""

from __future__ import annotations

import json
import os

import pytest
import torch
from torch import nn

import mergekit_nb as mk


@pytest.fixture
def merged(base, experts):
    return mk.merge("emr", base, experts)


def size(folder):
    return sum(f.stat().st_size for f in folder.rglob("*.safetensors"))


def test_what_it_costs_is_what_lies_on_disk(tmp_path):
    base = {"w": torch.randn(1000, 33)}
    experts = {t: {"w": torch.randn(1000, 33)} for t in "abc"}
    merged = mk.merge("emr", base, experts)
    cost = merged.nbytes
    assert cost["shared"] == 2 * 33_000 * 4  # the base and the unified vector
    assert cost["patches"] == dict.fromkeys("abc", 33_000 // 8 + 4)  # one bit an entry and a float32
    written = size(merged.save(tmp_path / "m"))
    assert 0 <= written - cost["shared"] - sum(cost["patches"].values()) < 2000  # the headers
    plain = mk.merge("average", base, experts)
    assert plain.nbytes == {"shared": 33_000 * 4, "patches": {}}
    assert 0 <= size(plain.save(tmp_path / "p")) - plain.nbytes["shared"] < 500


def test_provenance_says_how_it_was_made(merged, base, experts, tmp_path):
    recipe = json.loads((merged.save(tmp_path / "m") / "recipe.json").read_text())
    assert recipe["method"] == "emr"
    assert recipe["options"] == {"rescale": "per_tensor", "tie": "negative"}
    assert set(recipe["versions"]) >= {"mergekit-nb", "torch", "python"}
    assert len(recipe["inputs"]["base"]["xxh3_128"]) == 32
    assert len({entry["xxh3_128"] for entry in recipe["inputs"]["experts"].values()}) == 3


def test_hashes_nobody_can_forge_are_had_for_the_asking(base, experts):
    inputs = mk.merge("emr", base, experts, hashes="sha256").provenance["inputs"]
    other = mk.merge("emr", {**base, next(iter(base)): next(iter(base.values())) + 1}, experts, hashes="sha256")
    assert len(inputs["base"]["sha256"]) == 64
    assert other.provenance["inputs"]["base"] != inputs["base"]
    assert other.provenance["inputs"]["experts"] == inputs["experts"]
    with pytest.raises(ValueError, match='hashes is True, False or "sha256"; got .md5.'):
        mk.merge("emr", base, experts, hashes="md5")


def test_the_same_merge_writes_the_same_bytes(merged, tmp_path):
    one, two = merged.save(tmp_path / "one"), merged.save(tmp_path / "two")
    files = sorted(f.relative_to(one) for f in one.rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(two) for f in two.rglob("*") if f.is_file())
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)


def test_saving_replaces_an_earlier_merge_and_nothing_else(merged, tmp_path):
    merged.save(tmp_path / "m")
    merged.save(tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(FileExistsError, match="no earlier merge"):
        merged.save(tmp_path / "mine")


def test_a_write_that_fails_leaves_what_was_there(merged, tmp_path, monkeypatch):
    merged.save(tmp_path / "m")
    before = (tmp_path / "m" / "recipe.json").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mergekit_nb.weights.shards.Shard.put", full)
    with pytest.raises(OSError, match="No space left on device.*nothing was changed"):
        merged.save(tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / "recipe.json").read_bytes() == before


def test_others_may_read_what_the_umask_lets_them(merged, tmp_path):
    before = os.umask(0o022)
    try:
        folder = merged.save(tmp_path / "m")
    finally:
        os.umask(before)
    assert {oct(f.stat().st_mode & 0o777) for f in folder.rglob("*") if f.is_file()} == {"0o644"}
    assert oct(folder.stat().st_mode & 0o777) == "0o755"


def test_a_task_name_may_hold_anything(base, experts, tmp_path):
    names = dict(zip(["a/b", "../up", "ö é"], experts.values(), strict=True))
    merged = mk.merge("emr", base, names)
    back = mk.load(merged.save(tmp_path / "m"))
    assert back.tasks == tuple(names)
    assert all(torch.equal(back.weights(t)["stem.weight"], merged.weights(t)["stem.weight"]) for t in names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_a_plain_merge_loads_with_its_base(base, experts, tmp_path):
    merged = mk.merge("task_arithmetic", base, experts)
    back = mk.load(merged.save(tmp_path / "m"), base=base)
    for name, vector in merged.vector.items():
        torch.testing.assert_close(back.vector[name], vector, rtol=0, atol=1e-6)
    assert torch.equal(mk.load(tmp_path / "m").weights()["stem.weight"], merged.weights()["stem.weight"])


@pytest.mark.parametrize("damage", ["recipe", "no recipe", "truncated", "mask"])
def test_a_damaged_folder_is_named(merged, tmp_path, damage):
    folder = merged.save(tmp_path / "m")
    if damage == "recipe":
        (folder / "recipe.json").write_text("{")
    elif damage == "no recipe":
        (folder / "recipe.json").unlink()
    elif damage == "truncated":
        file = folder / "vector.safetensors"
        file.write_bytes(file.read_bytes()[:-20])
    else:
        (folder / "vector.safetensors").write_bytes((folder / "patches" / "cars.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"recipe\.json|truncated|does not fit"):
        mk.load(folder)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.bn = nn.BatchNorm1d(3)


def test_a_live_module_switches_task_and_back():
    base, a, b = Net(), Net(), Net()
    merged = mk.merge("emr", base, {"a": a, "b": b})
    net = Net()
    for task in ("a", "b"):
        merged.apply_(net, task)
        assert all(torch.equal(w, merged.weights(task)[n]) for n, w in net.state_dict().items())
    merged.reset_(net)
    assert all(torch.equal(w, base.state_dict()[n]) for n, w in net.state_dict().items())


def test_a_module_of_another_shape_is_left_alone():
    merged = mk.merge("average", Net(), {"a": Net(), "b": Net()})
    wrong = nn.ModuleDict({"a": nn.Linear(4, 5), "bn": nn.BatchNorm1d(3)})
    before = wrong["bn"].weight.detach().clone()
    with pytest.raises(ValueError, match=r"ModuleDict cannot take.*a\.weight \(shape \[5, 4\], not \[3, 4\]\)"):
        merged.apply_(wrong)
    assert torch.equal(wrong["bn"].weight, before)
