"""What every method must keep, past and future: hypothesis draws the method, its hyper-parameters and the models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mergekit_nb as mk
from mergekit_nb.methods import (
    METHODS,
    Average,
    Breadcrumbs,
    Cabs,
    Dare,
    Della,
    Emr,
    Fr,
    Lines,
    MagMax,
    Pcb,
    TallMasks,
    TaskArithmetic,
    Ties,
)
from tests.oracles import ORACLES, PER_TASK
from tests.oracles_spectral import ON_WEIGHTS
from tests.strategies import cases, methods, models, tensors

pytestmark = pytest.mark.filterwarnings("ignore:only one expert")
FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def outcomes(merged) -> dict[str, dict]:
    """Every task's weights; a plain merge has the same for all."""
    return {task: merged.weights(task) for task in merged.tasks}


def same(a: dict[str, dict], b: dict[str, dict]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[t][n], b[t][n]) for t in a for n in a[t])


def floating(weights: dict) -> dict:
    return {name: w for name, w in weights.items() if w.is_floating_point()}


@given(cases())
def test_experts_equal_to_the_base_give_the_base(device, case):
    method, (base, experts) = case
    merged = mk.merge(method, base, dict.fromkeys(experts, base), device=device)
    assert all(torch.equal(w, base[n]) for weights in outcomes(merged).values() for n, w in weights.items())
    assert not any(v.any() for v in merged.vector.values())


@given(cases(least=2, symmetric=True), st.randoms(use_true_random=False))
def test_the_order_of_the_tasks_changes_nothing(device, case, random):
    method, (base, experts) = case
    order = random.sample(list(experts), len(experts))
    merged = mk.merge(method, base, experts, device=device)
    shuffled = mk.merge(method, base, {task: experts[task] for task in order}, device=device)
    for task in experts:
        for name, weight in merged.weights(task).items():
            # base and vector may cancel: what is left is off by the rounding of numbers up to 10
            torch.testing.assert_close(shuffled.weights(task)[name], weight, rtol=1e-6, atol=1e-6)


@given(cases(), st.integers(1, 4))
def test_workers_change_no_bit(device, case, workers):
    method, (base, experts) = case
    with ThreadPoolExecutor(workers) as pool:
        threaded = mk.merge(method, base, experts, device=device, executor=pool)
    assert same(outcomes(threaded), outcomes(mk.merge(method, base, experts, device=device)))


ENTRYWISE = st.one_of(
    methods(Average), methods(TaskArithmetic), methods(Ties).filter(lambda m: m.scope == "model"),
    methods(Emr).filter(lambda m: m.rescale == "global"), methods(Pcb), methods(MagMax), methods(Lines), methods(TallMasks),
)  # fmt: skip


@given(ENTRYWISE, st.integers(2, 12), st.data())
def test_a_model_cut_in_pieces_gives_the_same_bits_as_whole(device, method, size, data):
    whole = [data.draw(tensors((size,))) for _ in range(data.draw(st.integers(2, 4)))]
    cut = data.draw(st.integers(1, size - 1))
    base = torch.zeros(size)
    one = mk.merge(method, {"w": base}, {str(t): {"w": w} for t, w in enumerate(whole)}, device=device)
    halves = {str(t): {"a": w[:cut], "b": w[cut:]} for t, w in enumerate(whole)}
    two = mk.merge(method, {"a": base[:cut], "b": base[cut:]}, halves, device=device)
    for task in one.tasks:
        assert torch.equal(one.weights(task)["w"], torch.cat([two.weights(task)["a"], two.weights(task)["b"]]))


@settings(max_examples=40)
@given(st.data(), st.sampled_from(FLOATS))
def test_saved_and_loaded_is_the_same(tmp_path_factory, device, data, dtype):
    method, (base, experts) = data.draw(cases(dtype=dtype))
    merged = mk.merge(method, base, experts, device=device)
    back = mk.load(merged.save(tmp_path_factory.mktemp("merge") / "out"))
    assert same(outcomes(back), outcomes(merged))
    assert (back.tasks, back.nbytes, back.provenance["inputs"]) == (
        merged.tasks,
        merged.nbytes,
        merged.provenance["inputs"],
    )
    for task, patch in merged.patches.items():
        assert back.patches[task].scale == patch.scale
        assert all(torch.equal(back.patches[task].mask[name], mask) for name, mask in patch.mask.items())


@given(st.data(), st.sampled_from(FLOATS))
def test_inputs_stay_as_they_were_and_dtypes_are_kept(device, data, dtype):
    method, (base, experts) = data.draw(cases(dtype=dtype))
    before = {"base": base, **experts}
    before = {owner: {name: w.clone() for name, w in weights.items()} for owner, weights in before.items()}
    merged = mk.merge(method, base, experts, device=device)
    assert same(before, {"base": base, **experts})
    for weights in outcomes(merged).values():
        assert {n: w.dtype for n, w in weights.items()} == {n: w.dtype for n, w in base.items()}
        assert torch.equal(weights["steps"], base["steps"])


@settings(max_examples=300)
@given(cases())
def test_a_slow_float64_numpy_oracle_agrees(device, case):
    method, (base, experts) = case
    taus = {
        n: np.stack([(e[n].double() - w.double()).numpy() for e in experts.values()]) for n, w in floating(base).items()
    }
    merged = mk.merge(method, base, experts, device=device, dtype=torch.float64)
    if method.name in PER_TASK:
        expected = PER_TASK[method.name](method, taus, merged.tasks)
    else:
        weights = {n: w.double().numpy() for n, w in floating(base).items()}
        oracles = {**ORACLES, **{name: partial(oracle, base=weights) for name, oracle in ON_WEIGHTS.items()}}
        assert method.name in oracles, f"{method.name} has no oracle: write one"
        expected = dict.fromkeys(merged.tasks, oracles[method.name](method, taus, merged.tasks))
    for task, vectors in expected.items():
        for name, vector in vectors.items():
            mine = merged.weights(task)[name].double() - base[name].double()
            torch.testing.assert_close(mine, torch.from_numpy(np.asarray(vector)), rtol=1e-5, atol=1e-6)


EDITS = st.one_of(*map(methods, (Dare, Breadcrumbs, Della, Cabs, Fr)))


@given(EDITS, st.one_of(methods(TaskArithmetic), methods(Ties), methods(Emr)), models())
def test_a_composition_merges_what_its_left_side_edited(device, left, right, drawn):
    base, experts = drawn
    taus = mk.TaskVectors.of(base, experts)
    edited = {task: dict(base) for task in experts}
    for name in taus.names:
        for task, tau in zip(experts, left.edit(taus.site(name), taus.at(name, dtype=torch.float64)), strict=True):
            edited[task][name] = base[name].double() + tau
    wide = {name: w.double() if w.is_floating_point() else w for name, w in base.items()}
    composed = mk.merge(
        left | right,
        wide,
        {t: {n: w.double() if w.is_floating_point() else w for n, w in e.items()} for t, e in experts.items()},
        device=device,
        dtype=torch.float64,
    )
    direct = mk.merge(right, wide, edited, device=device, dtype=torch.float64)
    assume(not isinstance(right, Ties) or right.density == 1)  # adding the base rounds, which may move a threshold
    for task in experts:
        for name in taus.names:
            torch.testing.assert_close(composed.weights(task)[name], direct.weights(task)[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if "scale" in cls.knobs()])
def test_a_scale_multiplies_the_merged_vector(base, experts, name):
    """What `mk.compare` counts on when it tries scales: one merge is enough for all of them."""
    one, three = (mk.merge(name, base, experts, scale=scale) for scale in (1.0, 3.0))
    for tensor, vector in one.vector.items():
        torch.testing.assert_close(three.vector[tensor], 3 * vector, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_where_it_comes_from(name):
    cls = METHODS[name]
    assert cls.name == name
    assert "arXiv" in cls.paper
    assert "Source:" in (cls.__doc__ or "")
