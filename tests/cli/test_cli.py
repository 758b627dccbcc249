import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mergekit_nb as mk
from mergekit_nb.cli import main


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A base and two experts as files, in the current folder."""
    monkeypatch.chdir(tmp_path)
    random = torch.Generator().manual_seed(0)
    base = {
        "a.weight": torch.randn(6, 5, generator=random),
        "a.bias": torch.randn(6, generator=random),
        "n": torch.tensor(3),
    }
    save_file(base, "base.safetensors")
    for task in ("mnist", "svhn"):
        tuned = {
            name: tensor + torch.randn(tensor.shape, generator=random) if tensor.is_floating_point() else tensor
            for name, tensor in base.items()
        }
        save_file(tuned, f"{task}.safetensors")
    return tmp_path


MODELS = "--base base.safetensors --expert mnist=mnist.safetensors --expert svhn=svhn.safetensors"


def run(line):
    return main(line.split())


def merged_in_python(method, **options):
    experts = {task: mk.open(f"{task}.safetensors") for task in ("mnist", "svhn")}
    return mk.merge(method, mk.open("base.safetensors"), experts, **options)


def assert_same(found, expected):
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_merge_then_export_gives_what_python_gives(models, capsys):
    assert run(f"merge --method emr {MODELS} --out out") == 0
    assert run("export out --task svhn --out svhn_out.safetensors") == 0
    assert_same(load_file("svhn_out.safetensors"), merged_in_python("emr").weights("svhn"))
    assert "out: emr of mnist, svhn" in capsys.readouterr().out
    assert not list(models.glob(".*"))


def test_hyper_parameters_reach_the_method(models):
    assert run(f"merge --method ties {MODELS} --out out --density 0.5 --weights 1,0.5 --zero-sign positive") == 0
    expected = merged_in_python("ties", density=0.5, weights=(1.0, 0.5), zero_sign="positive")
    assert_same(mk.load("out").weights(), expected.weights())
    assert run(f"merge --method dare {MODELS} --out out --rescale none --seed 7") == 0
    assert_same(mk.load("out").weights(), merged_in_python("dare", rescale=None, seed=7).weights())


def test_include_leaves_the_rest_at_the_base(models):
    assert run(f"merge --method average {MODELS} --out out --include *.weight") == 0
    assert_same(mk.load("out").weights(), merged_in_python("average", include="*.weight").weights())


def test_one_model_is_exported_without_a_task(models):
    assert run(f"merge --method average {MODELS} --out out") == 0
    assert run("export out --out one.safetensors") == 0
    assert_same(load_file("one.safetensors"), merged_in_python("average").weights())


def test_inspect_tells_what_is_in_a_merge(models, capsys):
    run(f"merge --method emr {MODELS} --out out")
    capsys.readouterr()
    assert run("inspect out") == 0
    said = capsys.readouterr().out
    merged = merged_in_python("emr")
    assert re.search(r"method +emr", said)
    assert re.search(r"options +rescale=per_tensor, tie=negative", said)
    assert re.search(rf"from svhn .*{merged.provenance['inputs']['experts']['svhn']['xxh3_128']}", said)
    rescaler, kept = re.search(r"svhn +([\d.]+) +([\d.]+)", said).groups()
    patch = merged.patches["svhn"]
    assert float(rescaler) == pytest.approx(patch.scale, abs=1e-6)
    bits = torch.cat([mask.flatten() for mask in patch.mask.values()])
    assert float(kept) == pytest.approx(bits.float().mean().item(), abs=1e-6)


def test_inspect_tells_what_is_in_a_file(models, capsys):
    assert run("inspect base.safetensors") == 0
    said = capsys.readouterr().out
    assert re.search(r"entries +36 float32, 1 int64", said)
    assert re.search(r"a.weight float32 +6×5 +30 +120", said)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"merge --method tise {MODELS} --out out", "no method 'tise'; did you mean 'ties'"),
        (f"merge --method ties {MODELS} --out out --density 20", "Ties.density is a fraction .* did you mean 0.2"),
        (f"merge --method emr {MODELS} --out out --density 0.2", "emr has no 'density'; it has rescale, tie"),
        (f"merge --method ties {MODELS} --out out --density much", "--density takes a number; got 'much'"),
        (f"merge --method ties {MODELS}", "merge needs --out"),
        ("merge --out out", "merge needs --method, --base, --expert NAME=PATH"),
        (
            "merge --method emr --base nowhere --expert a=mnist.safetensors --expert b=svhn.safetensors --out out",
            "nowhere: no such file or folder",
        ),
        ("merge --method emr --base base.safetensors --expert mnist.safetensors --out out", "write NAME=PATH"),
        (f"merge --method emr {MODELS} --expert svhn=mnist.safetensors --out out", "--expert svhn=… is there twice"),
        ("inspect nowhere", "nowhere: no such file or folder"),
        ("export nowhere --out a.safetensors", "nowhere: no such folder"),
        ("export . --out a.safetensors", "no saved merge"),
        ("export out --out a.bin", "name a .safetensors file"),
        ("compare --methods tise", "no method 'tise'"),
        ("lab 99", "no notebook 99; there are"),
        ("zoo card atlantis", "atlantis"),
    ],
)
def test_bad_input_is_status_2_and_one_line(models, capsys, line, message):
    assert run(line) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"mergekit-nb: .*{message}.*\n", said.err)
    assert not Path("out").exists()


@pytest.mark.parametrize("line", ["", "frobnicate", "merge --frobnicate", "export out", "compare --limit many"])
def test_bad_usage_is_status_2_and_one_line(models, capsys, line):
    with pytest.raises(SystemExit) as stop:
        run(line)
    assert stop.value.code == 2
    assert re.fullmatch(r"mergekit-nb.*: .*--help` shows how\n", capsys.readouterr().err)


def test_the_task_is_asked_for_where_each_has_its_own(models, capsys):
    run(f"merge --method emr {MODELS} --out out")
    assert run("export out --out a.safetensors") == 2
    assert run("export out --task cars --out a.safetensors") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "name one of mnist, svhn" in first
    assert "no task 'cars'" in second
    assert not Path("a.safetensors").exists()


def test_debug_shows_the_traceback(models):
    with pytest.raises(ValueError, match="no method 'tise'"):
        run(f"merge --method tise {MODELS} --out out --debug")


def test_a_failure_that_is_not_the_callers_is_status_1(models, capsys, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("mergekit_nb.engine.merge.merge", broken)
    assert run(f"merge --method emr {MODELS} --out out") == 1
    assert capsys.readouterr().err == "mergekit-nb: RuntimeError: the disk is on fire (--debug shows where)\n"


def test_a_lone_expert_is_warned_about_in_one_line(models, capsys):
    assert run("merge --method average --base base.safetensors --expert a=mnist.safetensors --out out") == 0
    assert re.fullmatch(r"mergekit-nb: only one expert \(a\).*\n", capsys.readouterr().err)


def test_python_dash_m_is_the_command(models):
    line = [sys.executable, "-m", "mergekit_nb", "inspect", "base.safetensors"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a.weight" in done.stdout


def test_help_names_every_hyper_parameter_of_every_method(models, capsys):
    with pytest.raises(SystemExit) as stop:
        run("merge --help")
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for name, cls in mk.METHODS.items():
        for field in json.loads(json.dumps(cls().options())):
            assert re.search(rf"--{field.replace('_', '-')} VALUE(?s:.)*{name}: ", said)
