"""What the entry-wise methods promise beside their formulas: composition, degenerate input, memory, refusals."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths import compete, histogram
from mergekit_nb.methods import (
    METHODS,
    Average,
    Breadcrumbs,
    Cabs,
    Consensus,
    Dare,
    Della,
    Dppa,
    Emr,
    Knots,
    Lines,
    ModelStock,
    NuSlerp,
    Pcb,
    Slerp,
    TallMasks,
    TaskArithmetic,
    Ties,
    Tsv,
    TsvCompress,
    Wudi,
    resolve,
)  # fmt: skip
from mergekit_nb.weights.site import blocks


def model(seed, depth=3):
    g = torch.Generator().manual_seed(seed)
    layers = {f"tower.{i}.mlp.weight": torch.randn(6, 8, generator=g) for i in range(depth)}
    return {"stem.weight": torch.randn(5, generator=g), **layers, "head.weight": torch.randn(4, 3, generator=g)}


@pytest.fixture
def base():
    return model(0)


@pytest.fixture
def experts(base):
    return {t: {n: w + 0.1 * model(s)[n] for n, w in base.items()} for s, t in enumerate(("a", "b", "c"), 1)}


def vectors(base, expert):
    return {name: expert[name] - w for name, w in base.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rank_among_signed_numbers_is_exact_and_adds_up(dtype):
    x = torch.randn(3, 101, generator=torch.Generator().manual_seed(3), dtype=dtype)
    x[0, :30], x[0, 30:40] = 0.0, -0.0
    for rank in (1, 20, 51, 101):
        rounds = []
        for _ in range(histogram.rounds(dtype)):
            parts = [histogram.counts(part, rounds, (rank,), signed=True) for part in (x[:, :40], x[:, 40:])]
            rounds.append(parts[0] + parts[1])
        found = histogram.value(histogram.prefixes(rounds, (rank,))[0], dtype, signed=True)
        assert torch.equal(found, x.sort(1).values[:, rank - 1])


def test_pcb_by_hand():
    # one task of five entries 0 1 2 3 4, q = 0: clipped to sorted[0] = 0 and sorted[int(5 - 1)] = 4; unit = |tau| / 4
    taus = torch.tensor([[0.0, 1.0, 2.0, -3.0, 4.0]])
    low, high = compete.clip_range(taus, 0)
    assert (low.item(), high.item()) == (0, 4)
    intra = compete.intra_balance(taus, low, high)
    assert_close(intra, torch.exp(torch.tensor([[0.0, 1 / 16, 1 / 4, 9 / 16, 1.0]])))
    inter = compete.inter_balance(taus)
    assert_close(inter, torch.tanh(torch.tensor([[0.0, 1.0, 4.0, 9.0, 16.0]])))
    # ratio 0.4: the cut is sorted[int(5 * 0.6)] = the fourth smallest score, the entry -3; only the largest is above it
    cut, top = compete.cut_range(intra * inter, 0.4)
    kept = compete.drop(intra * inter, cut, top)
    assert kept.tolist() == [[False, False, False, False, True]]
    weights = compete.rescale(intra * inter, kept, cut, top)
    assert compete.fuse(taus, weights, torch.tensor([0.5])).tolist() == [0, 0, 0, 0, 2]


def test_a_ratio_that_leaves_nothing_above_the_cut_keeps_the_highest_scores(base, experts):
    merged = mk.merge("pcb", base, experts, ratio=1e-6)
    assert all(v.isfinite().all() for v in merged.vector.values())
    assert 1 <= sum(int((v != 0).sum()) for v in merged.vector.values()) <= 3


@pytest.mark.parametrize("variant", ["A", "B", "C", "D", "paper"])
def test_pcb_gives_a_task_equal_to_the_base_no_weight_and_says_so(base, experts, variant):
    with pytest.warns(UserWarning, match="^idle: its task vector has one magnitude everywhere"):
        merged = mk.merge("pcb", base, {**experts, "idle": base}, variant=variant)
    assert all(v.isfinite().all() for v in merged.vector.values())
    assert any(v.any() for v in merged.vector.values())


def test_scores_of_a_hundred_tasks_stay_in_float32():
    taus = torch.randn(100, 50, generator=torch.Generator().manual_seed(5))
    intra = compete.intra_balance(taus, *compete.clip_range(taus, 1e-4))
    assert intra.isfinite().all()
    assert_close(intra.amax(1), torch.full((100,), 80.0).exp())


def test_one_scale_for_every_task_is_that_scale_for_all(base, experts):
    one = mk.merge("pcb", base, experts, scale=1.3)
    each = mk.merge("pcb", base, experts, scale=(1.3, 1.3, 1.3))
    assert all(torch.equal(one.vector[n], each.vector[n]) for n in base)
    with pytest.raises(ValueError, match=r"Pcb.scale has 2 numbers for 3 tasks \(a, b, c\)"):
        mk.merge("pcb", base, experts, scale=(1.0, 2.0))


@pytest.mark.parametrize("left", [Ties(), Average(), Dare(drop=0.5), Emr(), Dare(drop=0.5) | Ties(), Pcb()])
def test_lines_scales_by_depth_whatever_was_merged(base, experts, left):
    plain = mk.merge(left, base, experts)
    merged = mk.merge(left | Lines(alpha=0.5, beta=1.0), base, experts)
    for name, factor in zip(base, (0.5, 0.5, 1.0, 1.5, 0.5), strict=True):
        assert_close(merged.vector[name], factor * plain.vector[name], msg=name)
    assert merged.patches.keys() == plain.patches.keys()
    assert all(merged.patches[t].scale == patch.scale for t, patch in plain.patches.items())


def test_lines_finds_alpha_from_the_norms(base, experts):
    merged = mk.merge(TaskArithmetic(scale=0.25) | Lines(beta=0.0), base, experts)
    third = mk.merge("average", base, experts)  # |sum|_1 / |sum / 4|_1 / 3 = 4/3 of a quarter of the sum
    for name in base:
        assert_close(merged.vector[name], third.vector[name])


def test_tall_masks_of_what_another_method_merged(base, experts):
    ties = Ties(merge_as="dis-sum")
    vector = mk.merge(ties, base, experts).vector
    merged = mk.merge(ties | TallMasks(threshold=0.4), base, experts)
    for task, expert in experts.items():
        for name, tau in vectors(base, expert).items():
            needed = tau.abs() > 0.4 * (vector[name] - tau).abs()
            assert torch.equal(merged.patches[task].mask[name], needed)
    votes = mk.merge(ties | Consensus(threshold=0.4, k=2, scale=1.0), base, experts)
    for name in base:
        needed = sum(merged.patches[t].mask[name].int() for t in experts) >= 2
        assert torch.equal(votes.vector[name], torch.where(needed, vector[name], 0.0))


def test_an_edit_that_measures_first_composes(base, experts):
    alone = mk.merge(Dppa(scale=1.0), base, experts)
    summed = mk.merge(Dppa() | TaskArithmetic(scale=1.0), base, experts)
    trimmed = mk.merge(Dppa() | Ties(density=0.5), base, experts)
    assert all(torch.equal(alone.vector[n], summed.vector[n]) for n in base)
    kept = sum(int((v != 0).sum()) for v in trimmed.vector.values())
    assert 0 < kept < sum(w.numel() for w in base.values())


def test_two_sets_of_masks_and_what_has_no_edit_are_refused():
    with pytest.raises(TypeError, match="emr leaves masks already; tall_masks cannot make others of them"):
        Emr() | TallMasks()
    with pytest.raises(TypeError, match="pcb makes one vector of many, so it can only stand last"):
        Pcb() | Ties()


@pytest.mark.parametrize("post", [Lines(), TallMasks(), Consensus()])
def test_nothing_follows_a_post_processor_but_another(post):
    with pytest.raises(TypeError, match="makes one vector of many"):
        Ties() | post | Ties()


def test_cabs_leaves_no_two_tasks_the_same_entry(base, experts):
    taus = mk.TaskVectors.of(base, experts)
    for name in taus.names:
        edited = Cabs(n=1, m=4).edit(taus.site(name), taus.at(name))
        assert ((edited != 0).sum(0) <= 1).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Della(density=0.95, window=0.1), "gives chances outside [0, 1]; a window of at most 0.05 fits"),
        (lambda: Cabs(n=5, m=4), "n is at most m; got n=5, m=4"),
        (lambda: Cabs(n=1.5, m=4), "Cabs.n is a number of entries kept of every m, a whole number; got 1.5"),
        (lambda: Breadcrumbs(density=20), "Breadcrumbs.density is a fraction of entries kept, in [0, 1]; got 20; did you mean 0.2?"),
        (lambda: Pcb(ratio=0), "Pcb.ratio is a fraction of entries kept, in [1e-06, 1]; got 0"),
        (lambda: Pcb(scale=(1.0, 9.0)), "Pcb.scale is a multiplier of the merged vector, in [-2, 5]; got 9.0"),
        (lambda: Pcb(variant="E"), "Pcb.variant is one of 'A', 'B', 'C', 'D', 'paper'; got 'E'"),
    ],
)  # fmt: skip
def test_what_is_refused_and_the_words(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


FRACTIONAL = [
    (cls, name)
    for cls in METHODS.values()
    for name, knob in cls.knobs().items()
    if knob.high <= 1 and knob.unit.startswith(("fraction", "share"))
]


@pytest.mark.parametrize(("cls", "name"), FRACTIONAL, ids=lambda x: getattr(x, "name", x))
def test_a_percentage_for_any_fraction_is_recognised(cls, name):
    high = cls.knobs()[name].high
    with pytest.raises(ValueError, match=rf"{cls.__name__}\.{name} is a .*, in \[.*\]; got 20; did you mean 0\.2\?$"):
        cls(**{name: 20})
    if high < 1:  # 90 % would be out of range too, so it is no better
        with pytest.raises(ValueError, match="got 90$"):
            cls(**{name: 90})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ties(density="0.2"), "Ties.density is a fraction of entries kept, in [0, 1]; got '0.2'; write it as a number"),
        (lambda: Ties(weights=0.5), "Ties.weights is one number per task, in the order of the tasks; got 0.5"),
        (lambda: Ties(weights=(1, float("nan"))), "Ties.weights is one number per task"),
        (lambda: Dare(seed=1.5), "Dare.seed is a whole number; got 1.5"),
        (lambda: Wudi(scale="big"), "Wudi.scale is a number; got 'big'"),
        (lambda: Wudi(scale=float("nan")), "Wudi.scale is a number; got nan"),
        (lambda: Tsv(whiten="false"), "Tsv.whiten is True or False; got 'false'"),
        (lambda: Lines(blocks="*.0.*"), "Lines.blocks is a tuple of texts; got '*.0.*'"),
        (lambda: TaskArithmetic(scale=[0.1, 0.2]), "in [-2, 5]; got (0.1, 0.2); it is one number for all tasks"),
        (lambda: resolve("TIES"), "no method 'TIES'; did you mean 'ties'?"),
        (lambda: Wudi(iterations=0.5), "Wudi.iterations is a number of steps, a whole number; got 0.5"),
        (lambda: resolve("ties", {"densty": 0.2}), "ties has no 'densty'; did you mean 'density'?"),
        (lambda: resolve("tise"), "no method 'tise'; did you mean 'ties'?"),
    ],
)  # fmt: skip
def test_a_slip_gets_one_sentence(make, words):
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        make()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dare() | Ties, "after dare | comes a method object, such as Ties(); got <class 'mergekit_nb.methods.ties.Ties'>; write Ties()"),
        (lambda: Knots() | 3, "after knots | comes a method object"),
        (lambda: (Dare() | Emr()) | TallMasks(), "emr leaves masks already; tall_masks cannot make others of them"),
        (lambda: TsvCompress() | Lines(), "tsv_compress makes no merged vector, and lines works on one"),
        (lambda: Average() | Ties(), "average makes one vector of many, so it can only stand last"),
        (lambda: Knots() | Emr(), "knots | emr: emr leaves patches, which have no way back from this basis"),
        (lambda: Knots() | Slerp(), "knots | slerp: slerp looks at weights, which this basis has none of"),
    ],
)  # fmt: skip
def test_a_nonsense_composition_is_refused_when_it_is_written(make, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        make()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (Pcb(scale=np.float32(0.5), ratio=np.float64(0.2)), Pcb(scale=0.5, ratio=0.2)),
        (Pcb(scale=np.array([0.5, 1])), Pcb(scale=(0.5, 1.0))),
        (Pcb(scale=torch.tensor([0.5, 1])), Pcb(scale=(0.5, 1.0))),
        (Pcb(scale=[np.float32(0.5), 1]), Pcb(scale=(0.5, 1))),
        (Ties(weights=np.array([1, 2])), Ties(weights=(1, 2))),
        (Cabs(n=np.int64(2), m=torch.tensor(4)), Cabs(n=2, m=4)),
        (Dare(seed=np.int64(3)), Dare(seed=3)),
        (Tsv(whiten=np.bool_(False)), Tsv(whiten=False)),
    ],
)
def test_numbers_of_numpy_and_torch_are_numbers(given, meant):
    assert given == meant
    assert json.dumps(given.options()) == json.dumps(meant.options())
    hash(given)


EMPTY = {"block.0.a": (0,), "block.0.b": (3, 0), "block.0.c": (0, 3), "block.0.d": (2, 0, 3, 3)}
OPTIONS = [
    *(cls() for cls in METHODS.values()),
    *(Dare(rescale=how) for how in ("l1", "l2", "linf")),
    *(Della(rank=how) for how in ("tensor", "size")),
    *(
        ModelStock(scope="row"),
        Cabs(by="magnitude"),
        Dare(by="magnitude"),
        Ties(scope="row"),
        Wudi(solver="closed form"),
    ),
    *(NuSlerp(over=how) for how in ("last", "first")),
]


@pytest.mark.parametrize("method", OPTIONS, ids=str)
def test_tensors_without_entries_stay(method):
    base = {name: torch.zeros(shape) for name, shape in EMPTY.items()} | {"block.1.w": torch.arange(6.0).reshape(2, 3)}
    experts = {t: {name: 1.1 * tensor for name, tensor in base.items()} for t in "ab"}
    merged = mk.merge(method, base, experts).weights("a")
    assert {name: tuple(tensor.shape) for name, tensor in merged.items()} == EMPTY | {"block.1.w": (2, 3)}
    assert merged["block.1.w"].isfinite().all()


def test_a_norm_of_huge_entries_does_not_overflow():
    base = {"w": torch.zeros(4)}
    merged = mk.merge(Dare(drop=0, rescale="l2", scale=1), base, {t: {"w": torch.full((4,), 1e30)} for t in "ab"})
    assert_close(merged.weights()["w"], torch.full((4,), 2e30))


def test_blocks_are_counted_tower_by_tower():
    found = blocks(["visual.blocks.0.w", "visual.blocks.10.w", "visual.blocks.2.w", "text.blocks.5.w", "head.w"])
    assert {n: (b.tower, b.index, b.count) for n, b in found.items()} == {
        "visual.blocks.0.w": ("visual.blocks", 0, 3),
        "visual.blocks.2.w": ("visual.blocks", 1, 3),
        "visual.blocks.10.w": ("visual.blocks", 2, 3),
        "text.blocks.5.w": ("text.blocks", 0, 1),
    }
