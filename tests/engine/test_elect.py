"""EMR's compiled loop at the edges of what float64 adds exactly: blocks of all shapes against the readable definition."""

from __future__ import annotations

import pytest
import torch

from mergekit_nb.engine import fast
from mergekit_nb.methods import Emr
from mergekit_nb.weights.modulators import pack
from mergekit_nb.weights.site import Site

pytest.importorskip("numba")
TINY = 2.0**-149


def tuned(size: int, seed: int = 0) -> torch.Tensor:
    return 0.001 * torch.randn(3, size, generator=torch.Generator().manual_seed(seed))


def with_zeros(size: int) -> torch.Tensor:
    taus = tuned(size)
    taus[:, ::3], taus[1, size // 2 :] = 0, -0.0
    return taus


def with_one(value: float, size: int) -> torch.Tensor:
    taus = tuned(size)
    taus[2, size // 2] = value
    return taus


def apart(octaves: int, size: int) -> torch.Tensor:
    """Mostly the largest float32 below 2, and a smallest entry so many octaves lower whose last bit is set."""
    taus = torch.full((3, size), 2.0 - 2.0**-23)
    taus[0, 0] = (1 + 2.0**-23) * 2.0**-octaves
    return taus


def exactly(bins: torch.Tensor) -> list[int]:
    """The sum of each task in units of the smallest float32, not rounded to a float64."""
    return [sum(part << max(exponent - 1, 0) for exponent, [part] in enumerate(task)) for task in bins.tolist()]


CASES = {
    "tuned": tuned,
    "zeros": with_zeros,
    "all zero": lambda size: torch.zeros(3, size),
    "subnormals": lambda size: TINY * torch.arange(3 * size).reshape(3, size).float(),
    "tuned and a subnormal": lambda size: with_one(-TINY, size),
    "huge": lambda size: with_one(2.0**100, size),
    "huge and subnormals": lambda size: torch.cat([torch.full((3, 1), -(2.0**100)), torch.full((3, size), TINY)], 1),
    "largest": lambda size: torch.full((3, size), 1.7 * 2.0**126),
    "ties": lambda size: torch.tensor([[0.5], [-0.25], [-0.25]]).repeat(1, size),
    "small": lambda size: 2.0**-80 * tuned(size),
    "grown from task to task": lambda size: tuned(size) * torch.tensor([[1.0], [2.0**-9], [2.0**-18]]),
    **{f"{octaves} octaves": (lambda size, octaves=octaves: apart(octaves, size)) for octaves in (18, 19, 20, 21, 40)},
}


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tie", ["negative", "zero"])
def test_sums_masks_and_vector_are_those_of_the_definition(case, size, tie):
    taus, method = CASES[case](size), Emr(tie=tie)
    site = Site("w", taus.shape[1:], ("a", "b", "c"))
    compiled = fast.choose(method, fast.WORTH, torch.device("cpu"), torch.float32)
    done = compiled.finish(site, torch.zeros_like(taus[0]), list(taus), ())
    vector, masks = method.merge(site, taus, ())
    assert torch.equal(done.vector.view(torch.int32), vector.view(torch.int32))
    assert [mask.tolist() for mask in done.masks] == [pack(mask).tolist() for mask in masks]
    for side, expected in zip(done.parts["w"], method.measure(site, taus, ())["w"], strict=True):
        assert exactly(side) == exactly(expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("task", [0, 2])
@pytest.mark.parametrize("place", [5, 1500])
def test_a_number_that_is_none_is_seen_in_every_task_and_block(bad, task, place):
    taus = tuned(2000)
    taus[task, place] = bad
    compiled = fast.choose(Emr(), fast.WORTH, torch.device("cpu"), torch.float32)
    assert compiled.finish(Site("w", (2000,), ("a", "b", "c")), torch.zeros(2000), list(taus), ()) is None
