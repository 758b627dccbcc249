"""A device that runs out of memory gets smaller pieces, then the CPU takes over: the same bits, one warning.

No GPU was at hand: the device is "meta" by name only, and a stand-in decides what fits on it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from mergekit_nb.engine import pieces
from mergekit_nb.methods import Emr, IsoC
from mergekit_nb.weights.task_vectors import TaskVectors

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")
SIZE = 5 * pieces.HASHED + 9


@pytest.fixture
def work() -> pieces.Work:
    """Two experts of one tensor, merged in one piece."""
    g = torch.Generator().manual_seed(0)
    base = torch.randn(SIZE, generator=g)
    experts = {task: {"w": base + 0.1 * torch.randn(SIZE, generator=g)} for task in ("a", "b")}
    return pieces.Work(Emr(), TaskVectors.of({"w": base}, experts), CPU, torch.float32, 8 * pieces.HASHED)


def holding(most: int, tried: list):
    """A `do` for `pieces.fitting`: the device holds pieces of up to `most` entries, the CPU all."""

    def do(work, piece, *rest):
        tried.append((work.device.type, piece.stop - piece.start))
        if work.device == ELSEWHERE and piece.stop - piece.start > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pieces.Work._merge(replace(work, device=CPU), piece, *rest)

    return do


def same(one: pieces.Merged, other: pieces.Merged) -> bool:
    """Whether two pieces were merged into the same bits."""
    sums = all(torch.equal(one.parts[key], other.parts[key]) for key in other.parts)
    masks = all(torch.equal(a, b) for a, b in zip(one.masks, other.masks, strict=True))
    return sums and masks and torch.equal(one.vector, other.vector) and one.hashes == other.hashes


def test_smaller_pieces_are_tried_before_the_cpu(work):
    tried = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = pieces.fitting(
            replace(work, device=ELSEWHERE),
            holding(2 * pieces.HASHED, tried),
            pieces.Piece("w", 0, SIZE),
            (),
            "xxh3_128",
        )
    assert same(done, work.merge(pieces.Piece("w", 0, SIZE), (), "xxh3_128"))
    assert {device for device, _ in tried} == {"meta"}
    assert max(size for _, size in tried[1:]) < tried[0][1]


def test_the_cpu_takes_over_with_one_warning(work):
    tried, elsewhere = [], replace(work, device=ELSEWHERE)
    with pytest.warns(UserWarning, match="meta has too little free memory for w") as said:
        done = pieces.fitting(elsewhere, holding(0, tried), pieces.Piece("w", 0, SIZE), (), "xxh3_128")
    assert len(said) == 1
    assert same(done, work.merge(pieces.Piece("w", 0, SIZE), (), "xxh3_128"))
    assert ("cpu", pieces.HASHED) in tried


def test_a_method_of_whole_tensors_goes_to_the_cpu_at_once(work):
    tried, elsewhere = [], replace(work, device=ELSEWHERE, method=IsoC())
    with pytest.warns(UserWarning, match="merged on the CPU"):
        pieces.fitting(elsewhere, holding(0, tried), pieces.Piece("w", 0, SIZE), (), False)
    assert tried == [("meta", SIZE), ("cpu", SIZE)]


def test_the_cpu_itself_out_of_memory_is_an_error(work):
    def do(*_):
        raise torch.OutOfMemoryError("not enough")

    with pytest.raises(torch.OutOfMemoryError):
        pieces.fitting(work, do, pieces.Piece("w", 0, SIZE), (), False)
