"""Reading pieces of many models by one compiled call: what it gives, and what it does where a file fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import mergekit_nb as mk
from mergekit_nb.engine import read
from mergekit_nb.engine.forms.form import kernels

SIZE = 5000


@pytest.fixture
def sources(tmp_path):
    """Five models in two dtypes, their tensors in files of their own."""
    for i in range(5):
        (tmp_path / str(i)).mkdir()
        for name in "vw":
            weight = torch.arange(SIZE) + 100 * i + ord(name)
            weight = weight.to(torch.bfloat16 if i % 2 else torch.float32)
            save_file({name: weight}, tmp_path / str(i) / f"{name}.safetensors")
    return tuple(mk.open(tmp_path / str(i)) for i in range(5))


def reader(sources):
    return read.Reader(sources, pinned=False, compiled=True)


def right(flats, sources, name, start, stop):
    return all(torch.equal(flat, source[name][start:stop]) for flat, source in zip(flats, sources, strict=True))


def test_a_piece_of_every_model(sources):
    one = reader(sources)
    for start, stop in ((0, SIZE), (17, 18), (4000, SIZE), (0, 0)):
        assert right(one.read("w", start, stop), sources, "w", start, stop)
        assert right(one.read("v", start, stop), sources, "v", start, stop)


def test_after_a_read_that_fails_once_all_is_read_again(sources, monkeypatch):
    one = reader(sources)
    one.read("v", 0, SIZE)
    failing = [2]  # the first two were read
    real = kernels().read

    def flaky(files, begins, sizes, addresses):
        if not failing:
            return real(files, begins, sizes, addresses)
        first = failing.pop()
        real(files[:first], begins[:first], sizes[:first], addresses[:first])
        return first

    monkeypatch.setattr(read, "kernels", lambda: SimpleNamespace(read=flaky))
    assert right(one.read("w", 0, SIZE), sources, "w", 0, SIZE)
    assert not failing


def test_a_file_cut_short_is_named(sources):
    one = reader(sources)
    file, begin = sources[3].where("w")
    with open(file, "r+b") as stream:
        stream.truncate(begin + 10)
    with pytest.raises(OSError, match=r"3/w.safetensors ends within w: it was cut short"):
        one.read("w", 0, SIZE)


def test_threads_may_close_each_others_files(sources, monkeypatch):
    monkeypatch.setattr(read, "OPEN", 2)
    one = reader(sources)

    def work(_):
        return all(right(one.read(name, 5, 50), sources, name, 5, 50) for name in "vwvw")

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(50)))
    assert len(one._files) <= 2
