"""Fused kernels give the readable form's bits in Triton's interpreter: `test_gpu.py` runs this in a process of its own.

TRITON_INTERPRET=1 python -m pytest tests/engine/interpreted.py
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergekit_nb.engine import fast, pieces
from mergekit_nb.engine.forms import stack, trust
from mergekit_nb.maths import histogram
from mergekit_nb.methods import Average, Emr, TaskArithmetic, Ties
from mergekit_nb.methods.base import Method
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors
from tests.engine.test_fast import bits, exact, models, readable

CPU = torch.device("cpu")  # the interpreter's device; forms for a GPU are built for it by hand
METHODS = [
    Average(),
    TaskArithmetic(scale=0.7, weights=(1.0, -0.3, 0.77)),
    TaskArithmetic(scale=-1.3),
    Emr(),
    Emr(tie="zero"),
    Emr(tie="positive"),
    Ties(),
    Ties(density=1.0, zero_sign="positive"),
    Ties(density=0.0, zero_sign="negative"),
    Ties(merge_as="dis-sum", weights=(0.3, 0.5, 0.9), scale=0.4),
    Ties(scope="tensor", density=0.3),
    Ties(scope="tensor", density=0.0),
    Ties(scope="tensor", density=0.93, divide_by="weights", weights=(0.3, 0.5, -0.9)),
]
SIZES = [0, 1, 7, 8, 1024, 1025, 3000]


def fused(method: Method) -> fast.OnGpu:
    """The method's form for a GPU, interpreted."""
    return next(form(method, device=CPU) for form in fast.ON_GPU if form.suits is type(method))


def check(method: Method, base: torch.Tensor, experts: list[torch.Tensor]) -> None:
    """Sums, vector and masks of all rounds, bit for bit."""
    site, form = Site("w", base.shape, ("a", "b", "c")), fused(method)
    expected, vector, masks = readable(method, site, base, experts)
    totals = ()
    for earlier in expected:
        part = form.measure(site, base, experts, totals)
        assert {key: exact(value) for key, value in part.items()} == {k: exact(v) for k, v in earlier.items()}
        assert {value.dtype for value in part.values()} == {torch.int64}
        totals += (part,)
    done = form.finish(site, base, experts, totals)
    assert torch.equal(bits(done.vector), bits(vector))
    assert [mask.tolist() for mask in done.masks or []] == [mask.tolist() for mask in masks]


@pytest.mark.parametrize("method", METHODS, ids=str)
@settings(max_examples=5)
@given(st.sampled_from(SIZES), st.integers(0, 999), st.sampled_from(["tuned", "ties", "wide"]))
def test_the_fused_form_gives_the_bits_of_the_readable_one(method, size, seed, kind):
    check(method, *models(size, seed, kind))


@pytest.mark.parametrize("kind", ["tuned", "ties"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("method", [Average(), Emr(), Ties(density=0.3)], ids=str)
def test_weights_of_any_stored_dtype_are_computed_in_float32(method, dtype, kind):
    base, experts = models(2000, 0, kind)
    check(method, base.to(dtype), [expert.to(dtype) for expert in experts])


def test_models_of_different_dtypes_are_stacked_in_float32():
    base, (a, b, c) = models(2000, 0, "ties")
    check(Emr(), base.half(), [a, b.bfloat16(), c.double()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_number_of_16_bits_is_widened_exactly(dtype):
    every = torch.arange(1 << 16).to(torch.int16).view(dtype)
    every = every[every.isfinite()]
    done = fused(Average()).finish(Site("w", every.shape, ("a",)), torch.zeros_like(every), [every], ())
    assert torch.equal(bits(done.vector), bits(every.float() - 0.0))


def test_one_task_alone_keeps_its_zeros_sign():
    base, tuned = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([-0.0, 2.0, 1.0])
    for method in (Average(), Ties(density=1.0), Emr()):
        check(method, base, [tuned])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("method", [Average(), Emr(), Ties(), Ties(scope="tensor")], ids=str)
def test_a_broken_weight_is_left_to_the_readable_form(method, bad):
    base, experts = models(1500, 0, "tuned")
    experts[1][1234] = bad
    form, site = fused(method), Site("w", base.shape, ("a", "b", "c"))
    totals = ({"counts": torch.ones(3, 65536, dtype=torch.int64), "size": torch.tensor(1500)},) * 2
    totals += ({"signs": torch.tensor(1)},)
    assert form.finish(site, base, experts, totals) is None
    if method.rounds(torch.float32):
        assert form.measure(site, base, experts, ()) is None


def test_sums_over_the_whole_range_of_exponents_are_exact():
    base = torch.zeros(1024)
    expert = torch.ldexp(
        1 + torch.rand(1024, generator=torch.Generator().manual_seed(0)), torch.arange(1024) % 270 - 145
    )
    done = fused(Emr()).finish(Site("w", base.shape, ("a",)), base, [expert], ())
    own, _ = done.parts["w"]
    assert torch.equal(
        histogram.total(own, torch.float32), histogram.total(histogram.magnitude_sums(expert[None]), torch.float32)
    )


def work_on(method: Method, size: int = pieces.HASHED + 1100) -> pieces.Work:
    """Work on one tensor in two pieces, fused however small the model."""
    base, experts = models(size, 1, "ties")
    taus = TaskVectors.of({"w": base}, {task: {"w": expert} for task, expert in zip("abc", experts, strict=True)})
    work = pieces.Work(method, taus, CPU, torch.float32, pieces.HASHED)
    work.__dict__["fast"] = fused(method)
    return work


def merged(work: pieces.Work) -> torch.Tensor:
    """The merged vector of the only tensor, measured and merged in pieces."""
    totals = ()
    for _ in range(work.rounds):
        total = {}
        for piece in work.pieces(["w"]):
            pieces.fold(total, work.measure(piece, totals).parts)
        totals += (total,)
    return torch.cat([pieces.kept(work.merge(piece, totals)).vector for piece in work.pieces(["w"])])


def test_pieces_of_a_tensor_give_the_bits_of_the_readable_form():
    plain = work_on(Emr())
    plain.__dict__["fast"] = None
    assert torch.equal(bits(merged(work_on(Emr()))), bits(merged(plain)))


@pytest.fixture
def fresh():
    """Nobody has been asked yet whether kernels are to be trusted."""
    trust._trusted.cache_clear()
    trust.TOLD.clear()
    yield
    trust._trusted.cache_clear()
    trust.TOLD.clear()


def broken(*_, **__):
    raise RuntimeError("no kernel image is available for execution on the device\nmore of it")


def wrong(rows, weights, scale, divisor, vector, top):
    vector.fill_(3)


@pytest.mark.parametrize(("instead", "why"), [(broken, "no kernel image is available"), (wrong, "not the CPU's")])
def test_kernels_that_fail_or_err_are_replaced_by_the_readable_form_with_one_warning(instead, why, monkeypatch, fresh):
    plain = work_on(TaskArithmetic())
    plain.__dict__["fast"] = None
    monkeypatch.setattr(stack.kernels(), "add", instead)
    with pytest.warns(UserWarning, match=why) as said:
        found = [merged(work_on(method)) for method in (TaskArithmetic(), Average())]
    assert len(said) == 1
    assert torch.equal(bits(found[0]), bits(merged(plain)))


@pytest.mark.parametrize(
    "words", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("Triton Error [CUDA]: out of memory")]
)
def test_running_out_of_memory_is_told_as_such_and_no_kernels_fault(words, monkeypatch, fresh):
    base, experts = models(1000, 0, "tuned")
    good, left = stack.kernels().add, [words]

    def add(*arguments):
        if left:
            raise left.pop()
        good(*arguments)

    monkeypatch.setattr(stack.kernels(), "add", add)
    site = Site("w", base.shape, ("a", "b", "c"))
    with pytest.raises(torch.OutOfMemoryError):
        fused(Average()).finish(site, base, experts, ())
    assert fused(Average()).finish(site, base, experts, ()) is not None


def test_a_card_that_is_too_small_gets_halves_and_stays_fused(monkeypatch):
    def stacked(base, *rest):
        if base.numel() > pieces.HASHED:
            raise torch.OutOfMemoryError("CUDA out of memory")
        held.append(base.numel())
        return whole(base, *rest)

    work, whole, held = work_on(Average(), 2 * pieces.HASHED), stack.stacked, []
    piece = pieces.Piece("w", 0, work.size("w"))
    small = replace(work, device=torch.device("meta"))  # by name only: the form's device is the interpreter's
    small.__dict__["fast"] = work.fast
    work.__dict__["fast"] = None
    expected = work.merge(piece, (), "sha256")
    monkeypatch.setattr(stack, "stacked", stacked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = small.merge(piece, (), "sha256")
    assert held[-2:] == [pieces.HASHED, pieces.HASHED]
    assert torch.equal(bits(done.vector), bits(expected.vector))
    assert done.hashes == expected.hashes
