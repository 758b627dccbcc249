"""Compiled loops give the bits of the readable definition, whatever the weights, the hyper-parameters and the pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergekit_nb.engine import fast, pieces
from mergekit_nb.engine.forms import pcb, select
from mergekit_nb.engine.forms.form import Rows
from mergekit_nb.maths import compete, histogram
from mergekit_nb.maths.prune import largest
from mergekit_nb.methods import Average, Emr, Pcb, TaskArithmetic, Ties
from mergekit_nb.methods.base import Method
from mergekit_nb.weights.modulators import pack
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors

CPU = torch.device("cpu")
METHODS = [
    Average(),
    TaskArithmetic(scale=0.7, weights=(1.0, -0.3, 0.77)),
    Emr(),
    Emr(tie="zero"),
    Emr(tie="positive"),
    Ties(),
    Ties(density=1.0, zero_sign="positive"),
    Ties(density=0.0),
    Ties(merge_as="dis-sum", weights=(0.3, 0.5, 0.9)),
    Ties(scope="tensor", density=0.3),
    Ties(scope="tensor", density=0.0),
    Ties(scope="tensor", density=0.93, divide_by="weights", weights=(0.3, 0.5, -0.9)),
    Pcb(),
    Pcb(variant="B", ratio=0.7, scale=(0.5, 1.0, 2.0)),
    Pcb(ratio=1.0, q=0.0),
]
SIZES = [1, 7, 8, 2048, 2049, 5000]


def models(size: int, seed: int, kind: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A base and three experts: as fine-tuned, on a coarse grid full of ties, or over the whole range of float32."""
    g = torch.Generator().manual_seed(seed)
    if kind == "wide":
        exponents = torch.randint(-149, 100, (3, size), generator=g)
        return torch.zeros(size), list(torch.randn(3, size, generator=g) * 2.0**exponents)
    if kind == "ties":
        base = torch.randint(-4, 5, (size,), generator=g) / 8
        return base, list(base + torch.randint(-2, 3, (3, size), generator=g) / 16)
    base = 0.02 * torch.randn(size, generator=g)
    return base, list(base + 0.001 * torch.randn(3, size, generator=g))


def bits(x: torch.Tensor) -> torch.Tensor:
    """-0.0 is not 0.0 here."""
    return x.contiguous().view(torch.int32)


def readable(method: Method, site: Site, base: torch.Tensor, experts: list[torch.Tensor]) -> tuple:
    """What the definition gives: the sums of every round, the vector, the packed masks."""
    taus, totals = torch.stack([expert.float() - base.float() for expert in experts]), ()
    for _ in range(method.rounds(torch.float32)):
        totals += (method.measure(site, taus, totals),)
    made = method.merge(site, taus, totals)
    vector, masks = made if isinstance(made, tuple) else (made, [])
    return totals, vector, [pack(mask) for mask in masks]


def exact(part: torch.Tensor) -> list:
    """Sums are compared by what they stand for: mantissas may lie in other bins."""
    return [histogram.total(side, torch.float32).tolist() for side in part] if part.ndim == 4 else part.tolist()


@pytest.mark.parametrize("kind", ["tuned", "ties", "wide"])
@pytest.mark.parametrize("method", METHODS, ids=str)
@settings(max_examples=12)
@given(size=st.sampled_from(SIZES), seed=st.integers(0, 999))
def test_the_compiled_form_gives_the_bits_of_the_readable_one(method, kind, size, seed):
    base, experts = models(size, seed, kind)
    site = Site("w", (size,), ("a", "b", "c"))
    compiled = fast.choose(method, fast.WORTH, CPU, torch.float32)
    expected, vector, masks = readable(method, site, base, experts)
    totals = ()
    for earlier in expected:
        part = compiled.measure(site, base, experts, totals)
        assert {key: exact(value) for key, value in part.items()} == {k: exact(v) for k, v in earlier.items()}
        totals += (part,)
    done = compiled.finish(site, base, experts, totals)
    assert torch.equal(bits(done.vector), bits(vector))
    assert [mask.tolist() for mask in done.masks or []] == [mask.tolist() for mask in masks]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_stored_dtype_are_computed_in_float32(dtype):
    base, experts = models(5000, 0, "tuned")
    base, experts = base.to(dtype), [expert.to(dtype) for expert in experts]
    site = Site("w", (5000,), ("a", "b", "c"))
    done = fast.choose(Emr(), fast.WORTH, CPU, torch.float32).finish(site, base, experts, ())
    _, vector, masks = readable(Emr(), site, base, experts)
    assert torch.equal(bits(done.vector), bits(vector))
    assert all(torch.equal(a, b) for a, b in zip(done.masks, masks, strict=True))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_broken_weight_is_left_to_the_readable_form_which_names_it(bad):
    base, experts = models(5000, 0, "tuned")
    experts[1][4321] = bad
    work = work_on(Emr(), {"w": base}, {"a": {"w": experts[0]}, "svhn": {"w": experts[1]}})
    assert work.fast.finish(work.taus.site("w"), base, experts, ()) is None
    with pytest.raises(ValueError, match="svhn has 1 .* weights in w"):
        work.merge(pieces.Piece("w", 0, 5000), ())


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_pieces_of_a_tensor_give_the_same_bits_with_and_without_numba(method, monkeypatch):
    base, experts = models(200_000, 1, "tuned")
    taus = {"w": base}, {task: {"w": expert} for task, expert in zip("abc", experts, strict=True)}
    compiled = merged(work_on(method, *taus))
    monkeypatch.setattr(fast, "kernels", lambda: None)
    plain = work_on(method, *taus)
    assert plain.fast is None
    assert torch.equal(bits(compiled), bits(merged(plain)))


def test_small_models_other_devices_and_other_dtypes_are_left_alone():
    assert fast.choose(Emr(), fast.WORTH - 1, CPU, torch.float32) is None
    assert fast.choose(Emr(), fast.WORTH, torch.device("meta"), torch.float32) is None
    assert fast.choose(Emr(), fast.WORTH, CPU, torch.float64) is None
    assert fast.choose(Ties(elect="frequency"), fast.WORTH, CPU, torch.float32) is None
    assert fast.choose(Pcb(variant="C"), fast.WORTH, CPU, torch.float32) is None


def work_on(method: Method, base: dict, experts: dict) -> pieces.Work:
    """Work in pieces of 65 536 entries, compiled however small the model."""
    work = pieces.Work(method, TaskVectors.of(base, experts), CPU, torch.float32, 1 << 16)
    work.__dict__["fast"] = fast.choose(method, fast.WORTH, CPU, torch.float32)
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


@pytest.mark.parametrize("kind", ["tuned", "ties", "wide"])
@pytest.mark.parametrize("keep", [1, 700, 2500, 5000])
def test_a_sampled_bracket_finds_the_entries_that_sorting_finds(kind, keep, monkeypatch):
    monkeypatch.setattr(select, "SAMPLE", 300)
    base, experts = models(5000, keep, kind)
    rows = Rows.of(base, experts)
    values, equals = select.threshold(rows, keep)
    for tau, value, equal in zip((expert - base for expert in experts), values, equals, strict=True):
        sizes = tau.abs()
        same = (sizes == value).nonzero().flatten()[:equal]
        assert (sizes > value).sum() + len(same) == keep
        kept = (sizes > value).index_fill(0, same, True)
        assert torch.equal(kept, largest(tau, keep))


def test_a_bracket_that_misses_is_replaced_by_counting(monkeypatch):
    base, experts = models(5000, 3, "tuned")
    rows, whole = Rows.of(base, experts), select.threshold(Rows.of(base, experts), 1000)
    monkeypatch.setattr(select, "SAMPLE", 300)
    missed = (np.zeros(3, np.uint32), np.ones(3, np.uint32))
    monkeypatch.setattr(select, "_bracket", lambda *_: missed)
    assert select._near(rows, 4001) is None
    assert all(map(np.array_equal, select.threshold(rows, 1000), whole))


@pytest.mark.parametrize("method", [Ties(), Ties(zero_sign="positive"), Pcb(), Emr()], ids=str)
def test_runs_of_pieces_add_up_to_what_the_pieces_do(method):
    base, experts = models(200_000, 2, "tuned")
    work = work_on(
        method, {"v": base, "w": base.flip(0)}, {t: {"v": e, "w": e} for t, e in zip("abc", experts, strict=True)}
    )
    totals = ()
    for _ in range(work.rounds):
        apart, together = {}, {}
        for piece in work.pieces("vw"):
            pieces.fold(apart, work.measure(piece, totals).parts)
        for run in work.runs("vw"):
            pieces.fold(together, work.gather(run, totals).parts)
        assert {key: part.tolist() for key, part in apart.items()} == {k: part.tolist() for k, part in together.items()}
        totals += (apart,)


def test_pieces_whose_differences_overflow_are_not_counted_twice():
    base, experts = models(140_000, 4, "tuned")
    base[70_000:] = -3e38
    experts[1][100_000] = 3e38
    taus = {"w": base}, {task: {"w": expert} for task, expert in zip("abc", experts, strict=True)}
    work = work_on(Ties(), *taus)
    (run,) = work.runs("w")
    stack = torch.stack([expert - base for expert in experts])
    assert torch.isinf(stack).any()
    expected = histogram.count(stack, None, 0)
    assert torch.equal(work.gather(run, ()).parts["counts"], expected)


@pytest.mark.parametrize("divide_by", ["count", "weights"])
def test_tasks_that_weigh_nothing_leave_the_zeros_of_the_readable_form(divide_by):
    base, experts = models(2049, 5, "ties")
    method = Ties(weights=(0.0, 0.0, 0.0), divide_by=divide_by, zero_sign="negative")
    site = Site("w", (2049,), ("a", "b", "c"))
    totals, vector, _ = readable(method, site, base, experts)
    compiled = fast.choose(method, fast.WORTH, CPU, torch.float32)
    assert torch.equal(bits(compiled.finish(site, base, experts, totals).vector), bits(vector))


@pytest.mark.parametrize("tasks", [1, 3, 8, 80])
@settings(max_examples=20)
@given(
    seed=st.integers(0, 999), scale=st.sampled_from([1e-12, 1e-3, 0.1, 30.0]), span=st.sampled_from([0, 1e-33, 1, 3])
)
def test_estimated_scores_of_pcb_are_as_near_as_they_say(tasks, seed, scale, span):
    kernel, g = pytest.importorskip("mergekit_nb.kernels.compete"), torch.Generator().manual_seed(seed)
    tau, others = (
        scale * torch.randn(2, kernel.PART, generator=g) * 2.0 ** torch.randint(-9, 3, (kernel.PART,), generator=g)
    )
    low = (scale * torch.rand(1, generator=g) / 10).expand(tasks)
    high = low + scale * span
    scores = compete.intra_balance(tau.expand(tasks, -1), low, high)[0] * torch.tanh(tau * others)
    keys, unsure = torch.empty(kernel.PART, dtype=torch.int32), torch.empty(kernel.PART, dtype=torch.uint8)
    rest = (low.numpy()[0], high.numpy()[0], tasks, keys.numpy(), unsure.numpy())
    kernel._estimate(tau.numpy(), others.numpy(), kernel.PART, *rest)
    off = (histogram.signed_keys(scores).long() - keys.long()).abs()[unsure == 0]
    assert (off <= kernel.slack_of(tasks)).all()
    assert len(off) == kernel.PART or scale != 1e-3 or span < 1


@pytest.mark.parametrize("tasks", [1, 3, 8, 80])
@settings(max_examples=20)
@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-12, 1e-3, 0.1, 30.0]), rank=st.floats(0, 1))
def test_no_score_of_pcb_that_reaches_the_cut_is_missed(tasks, seed, scale, rank):
    kernel, g = pytest.importorskip("mergekit_nb.kernels.compete"), torch.Generator().manual_seed(seed)
    tau, others = scale * torch.rand(2, kernel.PART, generator=g) * torch.randn(2, kernel.PART, generator=g).sign()
    tau[::9] = 0
    low, high = torch.full((tasks,), 0.01 * scale), torch.full((tasks,), 0.9 * scale)
    scores = compete.intra_balance(tau.expand(tasks, -1), low, high)[0] * torch.tanh(tau * others)
    doubt = torch.empty(kernel.PART, dtype=torch.uint8)
    ends = (low.numpy()[0], high.numpy()[0], tasks)
    for cut in scores.sort().values[[int(rank * (kernel.PART - 1)), 0, -1]]:
        kernel._reaching(tau.numpy(), others.numpy(), kernel.PART, *ends, cut.numpy()[()], doubt.numpy())
        assert doubt[(scores >= cut) & ((scores != 0) | (cut < 0))].all()
        assert not doubt[(scores < cut - 0.07 * cut.abs()) & (tau * others < 0.03) & (tau * others > 1e-29)].any()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("tasks", [1, 8, 80])
def test_a_score_of_pcb_is_found_where_its_guess_is_worst(tasks, sign):
    """Each is its own cut; between 0 and the highest exponent lie all that 2^x may be guessed for."""
    kernel = pytest.importorskip("mergekit_nb.kernels.compete")
    tau, doubt = torch.linspace(0.01, 1, kernel.PART), torch.zeros(kernel.PART, dtype=torch.uint8)
    others = torch.full_like(tau, sign * 1e-4)
    scores = compete.intra_balance(tau.expand(tasks, -1), torch.zeros(tasks), torch.ones(tasks))[0]
    scores *= torch.tanh(tau * others)
    rest = (np.float32(0), np.float32(1), tasks)
    for i in range(kernel.PART):
        alone, other, found = tau[i : i + 1].numpy(), others[i : i + 1].numpy(), doubt[i : i + 1].numpy()
        kernel._reaching(alone, other, 1, *rest, scores[i].numpy()[()], found)
    assert doubt.all()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000, 1024])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 1])
def test_doubts_are_collected_in_order_and_none_after_the_last(count, share):
    kernel = pytest.importorskip("mergekit_nb.kernels.compete")
    doubt = (torch.rand(kernel.PART, generator=torch.Generator().manual_seed(count)) < share).to(torch.uint8)
    expected = doubt[:count].nonzero().flatten().tolist()
    chosen = np.full(kernel.PART + kernel.TOGETHER, -1, np.int32)
    assert kernel._collect(doubt.numpy(), count, chosen) == len(expected)
    assert chosen[: len(expected)].tolist() == expected


@pytest.mark.parametrize("method", [Pcb(), Pcb(ratio=1.0, q=0.0)], ids=str)
def test_pcb_does_not_depend_on_how_many_doubts_there_is_room_for(method, monkeypatch):
    base, experts = models(20_000, 2, "ties")
    taus = {"w": base}, {task: {"w": expert} for task, expert in zip("abc", experts, strict=True)}
    plenty = merged(work_on(method, *taus))
    monkeypatch.setattr(pcb, "ROOM", 1)
    assert torch.equal(bits(merged(work_on(method, *taus))), bits(plenty))


def test_pcb_never_leaves_a_negative_zero_where_all_tasks_drop_an_entry():
    base, experts = models(5000, 0, "tuned")
    vector = merged(work_on(Pcb(), {"w": base}, {task: {"w": e} for task, e in zip("abc", experts, strict=True)}))
    assert (vector == 0).sum() > 1000
    assert not torch.signbit(vector[vector == 0]).any()


def test_pcb_counts_nothing_twice_where_differences_overflow():
    base, experts = models(140_000, 4, "tuned")
    base[135_000:] = -3e38
    experts[1][139_000] = 3e38
    work = work_on(Pcb(), {"w": base}, {task: {"w": expert} for task, expert in zip("abc", experts, strict=True)})
    (run,) = work.runs("w")
    stack, totals = torch.stack([expert - base for expert in experts]), ()
    assert torch.isinf(stack).any()
    for _ in range(work.rounds):
        expected = work.method.measure(work.taus.site("w"), stack, totals)
        found = work.gather(run, totals).parts
        assert {key: part.tolist() for key, part in found.items()} == {k: part.tolist() for k, part in expected.items()}
        totals += (expected,)


@pytest.mark.parametrize("method", [Pcb(), Pcb(ratio=0.02), Pcb(ratio=0.98, q=0.0)], ids=str)
@pytest.mark.parametrize("changed", [0, 0.01, 0.05, 0.3])
def test_pcb_of_experts_that_are_mostly_their_base_needs_few_exact_scores(method, changed, monkeypatch):
    base, experts = models(20_000, 6, "tuned")
    touched = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) < changed
    experts, asked = [torch.where(touched, expert, base) for expert in experts], []
    scores = pcb.Doubts.scores
    monkeypatch.setattr(pcb.Doubts, "scores", lambda doubts: asked.append(len(doubts.places)) or scores(doubts))
    site = Site("w", (20_000,), ("a", "b", "c"))
    totals, vector, _ = readable(method, site, base, experts)
    compiled = fast.choose(method, fast.WORTH, CPU, torch.float32)
    for done, expected in enumerate(totals):
        found = compiled.measure(site, base, experts, totals[:done])
        assert {key: part.tolist() for key, part in found.items()} == {k: part.tolist() for k, part in expected.items()}
    assert torch.equal(bits(compiled.finish(site, base, experts, totals).vector), bits(vector))
    assert sum(asked) <= 2 * 3 * int(touched.sum()) or compiled._known(totals).cut.min() < 0
