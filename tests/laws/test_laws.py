"""What every method must keep, past and future: hypothesis draws the method, its hyper-parameters and the models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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
    Consensus,
    Dare,
    Della,
    Emr,
    Fr,
    Lines,
    MagMax,
    Nearswap,
    Pcb,
    Ram,
    TallMasks,
    TaskArithmetic,
    Ties,
)
from mergekit_nb.weights.site import Site
from tests.oracles import ON_BASE, ORACLES, PER_TASK
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
    assume(not (isinstance(method, Dare) and method.on == "weights"))  # it drops what the base has, too
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


ENTRYWISE = {  # one entry is merged without looking at another, but through sums and counts over the whole model
    Average: methods(Average),
    TaskArithmetic: methods(TaskArithmetic),
    Ties: methods(Ties).filter(lambda m: m.scope == "model"),
    Emr: methods(Emr),
    Pcb: methods(Pcb),
    MagMax: methods(MagMax),
    Lines: methods(Lines),
    TallMasks: methods(TallMasks),
    Consensus: methods(Consensus),
    Nearswap: methods(Nearswap),
    Ram: methods(Ram).map(lambda m: replace(m, boost=0.0)),
}
each_entrywise = pytest.mark.parametrize("cls", ENTRYWISE, ids=lambda cls: cls.name)


@each_entrywise
@settings(max_examples=25)
@given(data=st.data(), size=st.integers(2, 12))
def test_a_model_cut_in_pieces_gives_the_same_bits_as_whole(device, cls, data, size):
    method = data.draw(ENTRYWISE[cls])
    if cls is Emr:  # by default a tensor's mean counts, so two tensors are not one
        method = replace(method, rescale="global")
    if cls is Lines:  # depth goes by the tensors' names
        method = replace(method, blocks=("w",))
    whole = [data.draw(tensors((size,))) for _ in range(data.draw(st.integers(2, 4)))]
    cut = data.draw(st.integers(1, size - 1))
    base = torch.zeros(size)
    one = mk.merge(method, {"w": base}, {str(t): {"w": w} for t, w in enumerate(whole)}, device=device)
    halves = {str(t): {"a": w[:cut], "b": w[cut:]} for t, w in enumerate(whole)}
    two = mk.merge(method, {"a": base[:cut], "b": base[cut:]}, halves, device=device)
    for task in one.tasks:
        assert torch.equal(one.weights(task)["w"], torch.cat([two.weights(task)["a"], two.weights(task)["b"]]))


def sliced_totals(method, site, slices, dtype):
    """The rounds of `measure`, of row slices that all go by the tensor's name."""
    totals = ()
    for _ in range(method.rounds(dtype)):
        total = {}
        for part in slices:
            for key, value in method.measure(replace(site, shape=tuple(part.shape[1:])), part, totals).items():
                total[key] = total[key] + value if key in total else value
        totals += (total,)
    return totals


@each_entrywise
@settings(max_examples=25)
@given(data=st.data(), rows=st.integers(2, 6))
def test_a_tensor_cut_in_row_slices_gives_the_same_bits_as_whole(device, cls, data, rows):
    method = data.draw(ENTRYWISE[cls].filter(lambda m: m.options().get("variant") != "paper"))  # it keeps tensors' ends
    taus = torch.stack([data.draw(tensors((rows, 3))) for _ in range(data.draw(st.integers(1, 4)))]).to(device)
    cut = data.draw(st.integers(1, rows - 1))
    tasks = tuple(f"t{t}" for t in range(len(taus)))
    site = Site("w", (rows, 3), tasks, source={"w": torch.zeros(rows, 3)})
    slices = [taus[:, :cut], taus[:, cut:]]
    whole, pieces = sliced_totals(method, site, [taus], taus.dtype), sliced_totals(method, site, slices, taus.dtype)
    parts = [method.merge(replace(site, shape=tuple(part.shape[1:])), part, pieces) for part in slices]
    for one, *cuts in zip(
        *(made if isinstance(made, tuple) else (made,) for made in (method.merge(site, taus, whole), *parts)),
        strict=True,
    ):
        assert torch.equal(one, torch.cat(cuts, one.ndim - 2))


def as_float64(weights: dict) -> dict:
    return {name: w.double() if w.is_floating_point() else w for name, w in weights.items()}


def moved(merged, base: dict) -> dict[str, dict]:
    """Every task's change of the base, float64."""
    return {
        task: {n: w.double() - base[n].double() for n, w in floating(merged.weights(task)).items()}
        for task in merged.tasks
    }


def assert_close_all(one: dict[str, dict], other: dict[str, dict], rtol: float = 1e-6) -> None:
    for task, weights in one.items():
        for name, weight in weights.items():
            torch.testing.assert_close(
                other[task][name], weight, rtol=rtol, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}"
            )


@st.composite
def wide_cases(draw, cls, kept=lambda method: True):
    """A method that keeps a promise, and models in float64 and in general position, so that no rounding decides anything."""
    method = draw(methods(cls).filter(kept))
    least, most = cls.experts
    base, experts = draw(models(torch.float64, least, most or 4, in_general_position=True))
    return method, base, experts


def promising(**promise):
    """The names of the methods that keep it, at least with some options."""
    (field, broken) = next(iter(promise.items()))
    return pytest.mark.parametrize("name", [n for n, cls in METHODS.items() if getattr(cls, field) != broken])


@promising(homogeneous=False)
@settings(max_examples=10)
@given(data=st.data())
def test_scaling_all_task_vectors_scales_the_merge(device, name, data):
    def kept(method):
        return method.homogeneous or name == "ram"

    method, base, experts = data.draw(wide_cases(METHODS[name], kept))
    if name == "ram":  # its threshold is in weight units
        method = replace(method, epsilon=0.0)
    factor = data.draw(st.sampled_from([0.25, 4.0]))
    stretched = {
        task: {n: base[n] + factor * (w - base[n]) if w.is_floating_point() else w for n, w in expert.items()}
        for task, expert in experts.items()
    }
    one, other = (mk.merge(method, base, e, device=device, dtype=torch.float64) for e in (experts, stretched))
    expected = {task: {n: factor * v for n, v in change.items()} for task, change in moved(one, base).items()}
    assert_close_all(expected, moved(other, base), rtol=1e-5)


@promising(commutes="nothing")
@settings(max_examples=10)
@given(data=st.data())
def test_permuting_the_entries_of_all_models_permutes_the_merge(device, name, data):
    method, base, experts = data.draw(wide_cases(METHODS[name], lambda m: m.commutes != "nothing"))
    seed = data.draw(st.integers(0, 2**31))
    orders = {name: permutation(w.shape, method.commutes, seed + i) for i, (name, w) in enumerate(base.items())}

    def permuted(weights):
        return {name: w.flatten()[orders[name]].reshape(w.shape) for name, w in weights.items()}

    shuffled = {task: permuted(expert) for task, expert in experts.items()}
    one = mk.merge(method, base, experts, device=device, dtype=torch.float64)
    other = mk.merge(method, permuted(base), shuffled, device=device, dtype=torch.float64)
    assert_close_all({t: permuted(w) for t, w in outcomes(one).items()}, outcomes(other), rtol=1e-5)


def permutation(shape: tuple[int, ...], of: str, seed: int) -> torch.Tensor:
    """Where every entry of the flattened tensor comes from: anywhere, or from the same slices of every axis."""
    noise = torch.Generator().manual_seed(seed)
    places = torch.arange(int(torch.tensor(shape).prod()) if shape else 1).reshape(shape)
    if of == "entries":
        return torch.randperm(places.numel(), generator=noise)
    for axis, length in enumerate(shape):
        places = places.index_select(axis, torch.randperm(length, generator=noise))
    return places.flatten()


@promising(random=True)
@settings(max_examples=6)
@given(data=st.data())
def test_renaming_tensors_renames_the_merge(device, name, data):
    method, base, experts = data.draw(wide_cases(METHODS[name], lambda m: not m.random))

    def renamed(weights):  # the number stays: it says which block a tensor lies in
        return {name.replace("blocks", "net.layers"): w for name, w in weights.items()}

    one = mk.merge(method, base, experts, device=device, dtype=torch.float64)
    tuned = {t: renamed(e) for t, e in experts.items()}
    other = mk.merge(method, renamed(base), tuned, device=device, dtype=torch.float64)
    assert same({t: renamed(w) for t, w in outcomes(one).items()}, outcomes(other))


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=6)
@given(data=st.data())
def test_the_order_of_the_tensors_changes_nothing(device, name, data):
    method, base, experts = data.draw(wide_cases(METHODS[name]))

    def turned(weights):
        return dict(reversed(weights.items()))

    one = mk.merge(method, base, experts, device=device, dtype=torch.float64)
    tuned = {t: turned(e) for t, e in experts.items()}
    other = mk.merge(method, turned(base), tuned, device=device, dtype=torch.float64)
    assert_close_all(outcomes(one), outcomes(other), rtol=1e-12)


@given(st.one_of(methods(Dare), methods(Della)).filter(lambda m: m.random), st.randoms(use_true_random=False))
def test_random_bits_depend_on_seed_task_and_tensor_alone(method, random):
    tasks, names = ["a", "b", "c", "d"], ["x", "y", "z"]
    tau = dict(zip(tasks, torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)), strict=True))

    def edited(tasks, names):
        found = {}
        for name in names:
            rows = method.edit(
                Site(name, (3, 5), tuple(tasks), source={name: tau["a"]}), torch.stack([tau[t] for t in tasks])
            )
            found |= {(task, name): row for task, row in zip(tasks, rows, strict=True)}
        return found

    whole = edited(tasks, names)
    some = edited(random.sample(tasks, random.randint(1, 4)), random.sample(names, random.randint(1, 3)))
    assert all(torch.equal(whole[key], row) for key, row in some.items())


def test_another_seed_task_or_tensor_draws_other_bits():
    tau = torch.ones(1, 200)

    def kept(seed=0, task="a", name="w"):
        return Dare(drop=0.5, seed=seed).edit(Site(name, (200,), (task,)), tau)[0] != 0

    for other in ({"seed": 1}, {"task": "b"}, {"name": "v"}):
        assert 60 < int((kept() != kept(**other)).sum()) < 140


EVERY_FLOAT = [*FLOATS, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", EVERY_FLOAT, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_every_dtype_in_gives_the_same_dtype_out(base, experts, device, name, dtype):
    def cast(weights):
        return {n: w.to(dtype) if w.is_floating_point() else w for n, w in weights.items()}

    few = dict(list(experts.items())[: METHODS[name].experts[1]])
    merged = mk.merge(name, cast(base), {t: cast(e) for t, e in few.items()}, device=device)
    for weights in outcomes(merged).values():
        assert {n: w.dtype for n, w in weights.items()} == {n: w.dtype for n, w in cast(base).items()}
        assert all(w.float().isfinite().all() for w in weights.values())


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
        oracles = {
            **ORACLES,
            **{name: partial(oracle, base=weights) for name, oracle in ON_BASE.items()},
        }
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
