"""What fused kernels for a GPU can be held to without one: their meaning in Triton's interpreter, and that they compile.

Where a GPU is at hand the last tests run too; none was when this was written.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import mergekit_nb as mk
from mergekit_nb.engine import fast, feed, pieces
from mergekit_nb.methods import Average, Emr, Pcb, TaskArithmetic, Ties
from tests.engine.models_on_disk import write_models
from tests.engine.test_fast import bits, models

triton = pytest.importorskip("triton", reason="Triton is for Linux")
ROOT = Path(__file__).parents[2]
TARGETS = [(75, torch.float32), (75, torch.bfloat16), (80, torch.float32), (80, torch.float16), (90, torch.bfloat16)]
with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is at hand")


def test_kernels_give_the_bits_of_the_readable_form_in_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "tests/engine/interpreted.py"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"\d\d passed", done.stdout), done.stdout


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Launches compile for a card that is not there, and go no further: a list of (name, kernel)."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    found, run = [], JITFunction.run

    def only_compile(kernel, *arguments, warmup, **options):
        found.append((kernel.__name__, run(kernel, *arguments, warmup=True, **options)))

    def target(capability):
        card = SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", capability, 32),
            get_current_device=lambda: capability,
            get_current_stream=lambda _: 0,
        )
        monkeypatch.setattr(driver, "_active", card)
        return found

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(JITFunction, "run", only_compile)
    return target


def launch_all(dtype: torch.dtype) -> None:
    """Every kernel, as the forms launch it, of three tasks of one tile."""
    from mergekit_nb.engine.forms.stack import Stack, kernels

    base, experts = models(1000, 0, "tuned")
    stack = Stack.of(base.to(dtype), [expert.to(dtype) for expert in experts], torch.device("cpu"))
    ones, many, top = stack.numbers(None), stack.zeros(3, 1 << 16, dtype=torch.int64), stack.zeros(1, dtype=torch.int32)
    lasts, vector, walks = stack.numbers((9, 9, 9), torch.int64), stack.room(), kernels()
    walks.add(stack.rows, ones, 0.3, 1.0, vector, top)
    walks.emr(stack.rows, -1.0, vector, stack.room(3, dtype=torch.uint8), many, top)
    walks.count(stack.rows, stack.size, None, many, top)
    walks.count(stack.rows, stack.size, stack.numbers((1, 2, 3), torch.int32), many, top)
    walks.majority(stack.rows, ones, lasts, ones, many, top)
    walks.ties(stack.rows, ones, lasts, ones, ones, ones, 1.0, 0.3, vector, top)


@pytest.mark.parametrize(("capability", "dtype"), TARGETS)
def test_kernels_compile_for_cards_that_are_not_here(capability, dtype, compiled):
    found = compiled(capability)
    launch_all(dtype)
    assert sorted(name for name, _ in found) == ["_add", "_count", "_count", "_emr", "_majority", "_ties"]
    for name, kernel in found:
        ptx = kernel.asm["ptx"]
        assert f".target sm_{capability}" in ptx
        assert len(kernel.asm["cubin"]) > 1000
        assert "ld.global.v4.b32" in ptx, f"{name} does not load 16 bytes at once"


@pytest.mark.parametrize("capability", [75, 80, 90])
def test_compiled_kernels_round_as_the_cpu_does(capability, compiled):
    found = compiled(capability)
    launch_all(torch.float32)
    for name, kernel in found:
        floats = set(re.findall(r"^\s+(?:@%\w+ )?(\w+[\w.]*\.f(?:32|64))\b", kernel.asm["ptx"], re.M))
        arithmetic = {"add.rn.f32", "sub.rn.f32", "mul.rn.f32", "div.rn.f64"}  # .rn: rounded at once, never fused
        assert {op for op in floats if re.match(r"add|sub|mul|div|fma|mad|rcp|ex2|sqrt", op)} <= arithmetic, name
        assert ".ftz" not in kernel.asm["ptx"], f"{name} flushes the smallest numbers to 0"
        assert ("div.rn.f64" in floats) == ("cvt.rn.f32.f64" in floats) == (name in ("_add", "_ties"))


def test_a_card_gets_the_forms_that_are_fused():
    cuda = torch.device("cuda")
    for method in (Average(), TaskArithmetic(), Emr(), Ties(), Ties(scope="tensor")):
        assert isinstance(fast.choose(method, fast.WORTH, cuda, torch.float32), fast.OnGpu)
    for method in (Pcb(), Ties(elect="frequency"), Ties(scope="row")):
        assert fast.choose(method, fast.WORTH, cuda, torch.float32) is None
    assert fast.choose(Emr(), fast.WORTH, cuda, torch.float64) is None
    assert fast.choose(Emr(), fast.WORTH - 1, cuda, torch.float32) is None


def test_without_triton_or_on_another_makers_card_the_readable_form_is_silent(monkeypatch):
    monkeypatch.setattr(fast, "on_gpu", lambda: None)
    assert fast.choose(Emr(), fast.WORTH, torch.device("cuda"), torch.float32) is None
    monkeypatch.undo()
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert fast.choose(Emr(), fast.WORTH, torch.device("cuda"), torch.float32) is None


def test_the_benchmark_says_so_where_there_is_no_gpu():
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "benchmarks/gpu.py"], cwd=ROOT, env=hidden, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"gpu": None, "why": "no GPU that torch can use"}


def test_triton_is_loaded_only_for_a_card():
    script = (
        "import sys, torch, mergekit_nb; from mergekit_nb.engine import fast; from mergekit_nb.methods import Emr; "
    )
    script += "fast.choose(Emr(), 1 << 30, torch.device('cpu'), torch.float32); "
    script += "sys.exit(any(name.startswith('mergekit_nb.kernels.gpu') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_a_stack_is_filled_up_with_zeros():
    base, experts = models(1000, 0, "tuned")
    rows = feed.stacked(base, experts, torch.device("cpu"), 768)
    assert rows.shape == (4, 1536)
    assert torch.equal(rows[:, :1000], torch.stack([base, *experts]))
    assert not rows[:, 1000:].any()


class Card:
    """Stands in for torch.cuda: says in `log` what was asked of it, by which stream."""

    def __init__(self):
        self.log, self.now = [], []

    def Stream(self, device):
        return object()

    @contextmanager
    def stream(self, stream):
        self.now.append(stream)
        yield
        self.now.pop()

    def Event(self, blocking=False):
        assert blocking, "it would spin"

        def said(what):
            return lambda: self.log.append((what, self.now[-1]))

        return SimpleNamespace(record=said("record"), synchronize=said("wait"))


def test_a_lane_waits_for_its_own_stream_also_where_something_failed(monkeypatch):
    card, device = Card(), torch.device("cuda")
    monkeypatch.setattr(feed.torch, "cuda", card)
    monkeypatch.setattr(feed, "STREAMS", feed.Streams())
    with pytest.raises(KeyError), feed.lane(device):
        raise KeyError
    with feed.lane(device):
        mine = card.now[-1]
    assert card.log == [("record", mine), ("wait", mine)] * 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(feed.STREAMS.to, device).result() is not mine


@with_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", fast.ON_GPU, ids=lambda form: form.__name__)
def test_on_this_card_kernels_earn_their_place(form, dtype):
    from mergekit_nb.engine.forms.trust import agrees

    with feed.lane(torch.device("cuda")):
        assert agrees(form, dtype, torch.device("cuda"))


@with_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", [Average(), TaskArithmetic(), Emr(), Ties(), Ties(scope="tensor")], ids=str)
def test_on_this_card_merges_are_the_cpus_bit_for_bit(method, dtype, tmp_path, monkeypatch):
    for module in (fast, pieces):
        monkeypatch.setattr(module, "WORTH", 0)  # fused, and by two threads, however small
    from_disk = write_models(tmp_path, dtype=dtype)
    here = mk.merge(method, *from_disk, device="cpu")
    there = mk.merge(method, *from_disk, device="cuda")
    task = next(iter(here.patches), None)
    for name, weight in here.weights(task).items():
        assert torch.equal(there.weights(task)[name], weight), name
    assert all(torch.equal(bits(there.vector[name].float()), bits(v.float())) for name, v in here.vector.items())


@with_gpu
def test_on_this_card_what_comes_home_is_whole():
    device = torch.device("cuda")
    source = torch.arange(1 << 20, dtype=torch.float32).pin_memory()
    with feed.lane(device):
        assert torch.cuda.current_stream() != torch.cuda.default_stream()
        (back,) = feed.home(source.to(device, non_blocking=True) + 1)
    assert torch.equal(back, source + 1)
    assert back.is_pinned()
