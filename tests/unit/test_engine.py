"""Merging: workers, progress, cancelling, composition."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

import mergekit_nb as mk
from mergekit_nb.methods import Dare, Emr, Ties


def same(a, b):
    return all(torch.equal(a.weights(t)[n], w) for t in b.tasks for n, w in b.weights(t).items())


def test_worker_processes_change_no_bit(base, experts):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for method in ("emr", "ties"):
            assert same(mk.merge(method, base, experts, executor=pool), mk.merge(method, base, experts))


def test_progress_counts_every_byte_of_every_round(base, experts):
    seen = []
    mk.merge("ties", base, experts, progress=lambda done, total, text: seen.append((done, total, text)))
    # 35 + 6 + 1 entries of 4 bytes in 4 models; two rounds for the threshold, one for the majority sign, one to merge
    assert seen[-1] == (42 * 4 * 4 * 4, 42 * 4 * 4 * 4, "merge by ties")
    assert len(seen) == 1 + 3 * 4
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_cancelled_when_asked(base, experts):
    flag = threading.Event()
    with pytest.raises(mk.Cancelled, match="cancelled after 656 of 1344 bytes"):
        # 35 + 6 entries of 4 bytes in 4 models, in the first of two rounds
        mk.merge("lines", base, experts, cancel=flag, progress=lambda done, total, text: done == 656 and flag.set())


def test_a_name_with_options_and_an_object_are_the_same(base, experts):
    assert same(mk.merge("emr", base, experts, rescale="global"), mk.merge(Emr(rescale="global"), base, experts))
    assert mk.merge(Dare() | Ties(), base, experts).method == "dare | ties"


def test_out_saves_what_is_returned(base, experts, tmp_path):
    merged = mk.merge("emr", base, experts, out=tmp_path / "m")
    assert same(merged, mk.load(tmp_path / "m"))


def test_seeds_are_arguments(base, experts):
    one, again, other = (mk.merge("dare", base, experts, seed=s, drop=0.5) for s in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)


def test_gradients_are_never_recorded(base, experts):
    tracked = {n: w.clone().requires_grad_() if w.is_floating_point() else w for n, w in base.items()}
    merged = mk.merge("emr", tracked, experts)
    assert not any(w.requires_grad for w in merged.weights("cars").values())


def test_without_a_majority_either_a_tie_counts_as_negative(device):
    # sums: 2, -2, 0 -> signs + - and a tie; the model-wide majority is 0 too, which the authors' code treats as negative
    experts = {"a": {"w": torch.tensor([1.0, -1.0, 2.0])}, "b": {"w": torch.tensor([1.0, -1.0, -2.0])}}
    merged = mk.merge("ties", {"w": torch.zeros(3)}, experts, density=1.0, device=device)
    assert merged.vector["w"].tolist() == [1.0, -1.0, -2.0]
