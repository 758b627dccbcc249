"""Ten wrong calls a new user makes, and the one sentence each gets."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import mergekit_nb as mk
from mergekit_nb.methods import Dare, Emr


class Client:
    """As Dask's: no executor, but it has one."""

    def get_executor(self):
        raise AssertionError


def test_density_as_a_percentage(base, experts):
    with pytest.raises(
        ValueError, match=r"Ties\.density is a fraction of entries kept, in \[0, 1\]; got 20; did you mean 0\.2\?"
    ):
        mk.merge("ties", base, experts, density=20)


def test_a_missing_file(experts):
    with pytest.raises(
        FileNotFoundError, match=r"nope\.safetensors: no such file or folder; give a \.safetensors file"
    ):
        mk.merge("emr", "nope.safetensors", experts)


@pytest.mark.parametrize(("executor", "hint"), [(3, "int; None lets threads do it"), (Client, "is one")])
def test_an_executor_that_is_none(base, experts, tmp_path, executor, hint):
    executor = executor() if isinstance(executor, type) else executor
    with pytest.raises(TypeError, match=rf"executor is a concurrent\.futures\.Executor; got .*{hint}"):
        mk.merge("emr", base, experts, out=tmp_path / "out", executor=executor)
    with pytest.raises(TypeError, match=r"executor is a concurrent"):
        mk.plan("emr", base, experts, executor=executor)
    with pytest.raises(TypeError, match=r"executor is a concurrent"):
        mk.sweep("emr", base, experts, len, {"elect": ["sum"]}, executor=executor)


def test_paths_that_are_none(base, experts):
    with pytest.raises(TypeError, match=r"a merge is read from its folder, which is a path; got int"):
        mk.load(3)
    with pytest.raises(TypeError, match=r"a merge is written to a folder, which is named by its path; got int"):
        mk.merge("emr", base, experts, out=3)


def test_base_and_experts_swapped(base, experts):
    with pytest.raises(TypeError, match=r"base and experts look swapped: it is merge\(method, base, experts\)"):
        mk.merge("emr", experts, base)


def test_one_experts_weights_instead_of_a_mapping(base, experts):
    with pytest.raises(TypeError, match=r'experts is a mapping from task names to weights.*write \{"task": expert\}'):
        mk.merge("emr", base, experts["cars"])


def test_a_different_architecture(base, experts):
    other = dict(nn.Linear(3, 4).state_dict())
    with pytest.raises(ValueError, match=r"(?s)differ in 5 tensors.*are they the same architecture\?"):
        mk.merge("emr", base, {**experts, "other": other})


def test_one_expert_only(base, experts):
    with pytest.warns(
        UserWarning, match=r"only one expert \(cars\): there is nothing to merge it with; give two or more"
    ):
        mk.merge("emr", base, {"cars": experts["cars"]})


def test_no_expert(base):
    with pytest.raises(ValueError, match="there are no experts to merge"):
        mk.merge("emr", base, {})


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl"])
def test_a_pickle(tmp_path, experts, suffix):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("it was unpickled",)

    file = tmp_path / f"model{suffix}"
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(
        ValueError, match=r"is a pickle, which can run code when it is opened; convert it where you trust it"
    ):
        mk.merge("emr", file, experts)


def test_an_empty_folder(tmp_path, experts):
    with pytest.raises(ValueError, match=r"holds no \.safetensors file$"):
        mk.merge("emr", tmp_path, experts)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"it has pickles \(pytorch_model.bin …\), which are never opened"):
        mk.open(tmp_path)


def test_a_truncated_file(tmp_path, base):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ValueError, match="may be truncated: fetch it again"):
        mk.open(file)


def test_an_unknown_method(base, experts):
    with pytest.raises(ValueError, match=r"no method 'tise'; did you mean 'ties'\?; there are average, "):
        mk.merge("tise", base, experts)


def test_an_unknown_hyper_parameter(base, experts):
    with pytest.raises(ValueError, match=r"ties has no 'densty'; did you mean 'density'\?; it has density, scale"):
        mk.merge("ties", base, experts, densty=0.2)


def test_an_unknown_task(base, experts):
    merged = mk.merge("emr", base, experts)
    with pytest.raises(
        ValueError, match=r"no task 'mnits' in this merge; did you mean 'mnist'\? \(it has mnist, svhn, cars\)"
    ):
        merged.weights("mnits")
    with pytest.raises(ValueError, match="emr keeps different weights for every task; name one of mnist, svhn, cars"):
        merged.weights()


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_broken_weights(base, experts, value, kind):
    experts["svhn"]["stem.weight"][2, 3] = value
    with pytest.raises(ValueError, match=rf"svhn has 1 {kind} of 35 weights in stem\.weight; a broken checkpoint"):
        mk.merge("average", base, experts)


def test_what_cannot_be_composed():
    with pytest.raises(TypeError, match="emr makes one vector of many, so it can only stand last in a composition"):
        Emr() | Dare()


def test_options_beside_an_object(base, experts):
    with pytest.raises(ValueError, match=r"tie: write hyper-parameters into the method object, Emr\(…\)"):
        mk.merge(Emr(), base, experts, tie="zero")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"rescale": "per-tensor"}, r"Emr\.rescale is one of 'per_tensor', 'global'; got 'per-tensor'"),
        (
            {"dtype": torch.float16},
            r"dtype is what is computed in, torch\.float32 or torch\.float64; got torch\.float16",
        ),
        ({"device": "cuda:99"}, r'device "cuda:99" cannot be used here .*; try device="cpu"'),
        ({"unmatched": "skip"}, r"unmatched is one of error, base, own, mean; got 'skip'"),
    ],
)
def test_wrong_arguments_are_named(base, experts, call, words):
    with pytest.raises(ValueError, match=words):
        mk.merge("emr", base, experts, **call)


@pytest.mark.parametrize(("method", "scale"), [("task_arithmetic", 1.0), ("lines", None)])
def test_a_model_that_its_dtype_cannot_hold(tmp_path, method, scale):
    base = {"w": torch.full((3,), 6e4, dtype=torch.float16)}
    experts = {task: {"w": base["w"] + 4000} for task in ("mnist", "svhn")}
    options = {"scale": scale} if scale else {"alpha": 1.0}
    words = (
        rf"{method} makes 3 of 3 weights in w too large for float16, which ends at 65504; merge with a smaller scale"
    )
    for out in (None, tmp_path / "out"):
        with pytest.raises(ValueError, match=words):
            mk.merge(method, base, experts, out=out, **options)
    assert mk.merge("average", base, experts).weights()["w"].tolist() == experts["svhn"]["w"].tolist()


def test_task_vectors_beyond_float32():
    base = {"w": torch.full((2, 2), -3e38)}
    with pytest.raises(ValueError, match="ties makes 4 of 4 weights in w too large for float32"):
        mk.merge("ties", base, {task: {"w": -base["w"]} for task in ("mnist", "svhn")})


def test_two_tasks_of_one_name(base, experts):
    with pytest.raises(ValueError, match="two tasks have one name: 1, '1' are told apart as texts"):
        mk.merge("ties", base, {1: experts["mnist"], "1": experts["svhn"]})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (np.zeros(3), "w is no tensor but of type ndarray; torch.as_tensor may make one of it"),
        (3, "w is no tensor but of type int"),
        (torch.eye(3).to_sparse(), "w is torch.sparse_coo, torch.float32; only dense, real tensors can be merged"),
        (torch.zeros(3, device="meta"), r"w has no data \(device meta\)"),
        (torch.zeros(3, dtype=torch.complex64), "w is torch.strided, torch.complex64; only dense, real"),
    ],
)
def test_entries_that_are_no_weights(base, experts, entry, words):
    for broken in ((base | {"w": entry}, experts), (base, experts | {"mnist": experts["mnist"] | {"w": entry}})):
        with pytest.raises((TypeError, ValueError), match=words):
            mk.merge("ties", *broken)
