"""The merges of other packages and of the methods' authors, from files to files. They run in the peers' environments."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

SCALE, DENSITY = 0.3, 0.2
# the authors' code: no packages, to be cloned by whoever measures them
AUTHORS = Path(__file__).parents[1] / "build" / "authors"
EMR_AUTHORS = AUTHORS / "EMR_Merging" / "merge_vit" / "src" / "main_emr_merging.py"
PCB_AUTHORS = AUTHORS / "pcb-merging" / "pcb-merging.py"
CLONE = {
    "EMR, authors": (EMR_AUTHORS, "https://github.com/harveyhuang18/EMR_Merging"),
    "PCB, authors": (PCB_AUTHORS, "https://github.com/duguodong7/pcb-merging"),
}

Merge = Callable[[], None]


def mergekit(paths: dict[str, str], out: Path, method: str) -> Merge:
    """mergekit's own merge of plain state dicts."""
    import yaml
    from mergekit.io.lazy_tensor_loader import LazyTensorLoader, ShardedTensorIndex
    from mergekit.options import MergeOptions
    from mergekit.scripts import merge_raw_pytorch as raw

    parameters = {"weight": 1.0, "density": DENSITY if method == "ties" else 1.0}
    models = [{"model": _whole(folder), "parameters": parameters} for name, folder in paths.items() if name != "base"]
    config = {
        "merge_method": method,
        "base_model": _whole(paths["base"]),
        "models": models,
        "dtype": _stored(paths["base"]),
    }
    config["parameters"] = {"lambda": SCALE, "normalize": method == "ties"}
    found = raw.RawPyTorchMergeConfig.model_validate(yaml.safe_load(yaml.safe_dump(config)))
    options = MergeOptions(safe_serialization=True, quiet=True)

    def run() -> None:
        # its raw mode opens single files only; its own sharded loader does the others
        for name in paths.values():
            if not (Path(name) / "model.safetensors").exists():
                raw.SimpleLoaderCache().loaders[_whole(name)] = LazyTensorLoader(ShardedTensorIndex.from_disk(name))
        raw.Executor(raw.plan_flat_merge(found, str(out), False, False, options)).execute()

    return run


def fusion_bench(paths: dict[str, str], out: Path, method: str) -> Merge:
    """fusion_bench's functions on state dicts read and written by safetensors."""
    import torch
    from fusion_bench.method.emr_merging.utils import emr_merge
    from fusion_bench.method.task_arithmetic.task_arithmetic import task_arithmetic_merge
    from fusion_bench.method.ties_merging import ties_merging_utils as ties

    def emr() -> None:
        torch.save(emr_merge(list(_vectors(paths).values())), out)  # its EMR models cannot be saved as safetensors

    def task_arithmetic() -> None:
        base, *experts = (_load(folder) for folder in paths.values())
        merged = task_arithmetic_merge(_module(base), [_module(expert) for expert in experts], SCALE)
        _save(merged.merged, out)

    def whole() -> None:
        base, *experts = (_load(folder) for folder in paths.values())
        flat = torch.vstack([ties.state_dict_to_vector(expert, []) for expert in experts])
        start = ties.state_dict_to_vector(base, [])
        merged = ties.ties_merging(flat - start, reset_thresh=DENSITY, merge_func="mean")
        _save(ties.vector_to_state_dict(start + SCALE * merged, base, remove_keys=[]), out)

    return {"emr": emr, "task_arithmetic": task_arithmetic, "ties": whole}[method]


def peft(paths: dict[str, str], out: Path, method: str) -> Merge:
    """PEFT's functions, tensor by tensor, on state dicts read and written by safetensors."""
    import torch
    from peft.utils import merge_utils

    def run() -> None:
        base, *experts = (_load(folder) for folder in paths.values())
        options = {"density": DENSITY} if method == "ties" else {}
        merge, ones = getattr(merge_utils, method), torch.ones(len(experts))
        merged = {n: merge([m[n] - base[n] for m in experts], ones, **options) for n in base}
        _save({n: base[n] + SCALE * merged[n] for n in base}, out)

    return run


def emr_authors(paths: dict[str, str], out: Path) -> Merge:
    """The authors' `emr_merge`, on task vectors of state dicts read by safetensors."""
    import torch

    merge = function(EMR_AUTHORS, "emr_merge")

    def run() -> None:
        torch.save(merge([SimpleNamespace(vector=vector) for vector in _vectors(paths).values()]), out)

    return run


def pcb_authors(paths: dict[str, str], out: Path) -> Merge:
    """The authors' `PCB_merge`, on flattened task vectors of state dicts read and written by safetensors."""
    import torch

    merge = function(PCB_AUTHORS, "PCB_merge")

    def run() -> None:
        flat = torch.stack([torch.cat([t.flatten() for t in vector.values()]) for vector in _vectors(paths).values()])
        merged = merge(flat)[0]
        base = _load(paths["base"])
        pieces = zip(base.items(), merged.split([t.numel() for t in base.values()]), strict=True)
        _save({n: t + 1.2 * piece.reshape(t.shape) for (n, t), piece in pieces}, out)

    return run


def function(file: Path, name: str) -> Callable:
    """A function of a script that does its work when it is imported: of the script, only what it defines is run."""
    import torch

    definitions = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    space = {"torch": torch}
    exec(compile(ast.Module(definitions, []), str(file), "exec"), space)
    return space[name]


def _vectors(paths: dict[str, str]) -> dict[str, dict]:
    """Task -> name -> expert minus base."""
    base = _load(paths["base"])
    experts = {task: _load(folder) for task, folder in paths.items() if task != "base"}
    return {task: {n: expert[n] - base[n] for n in base} for task, expert in experts.items()}


def _module(tensors: dict) -> SimpleNamespace:
    """What a function wants of a module that only asks for its weights; `merged` is what is loaded into it."""
    module = SimpleNamespace(state_dict=lambda keep_vars: tensors)
    module.load_state_dict = lambda found: setattr(module, "merged", found)
    return module


def _whole(folder: str) -> str:
    """The file, or the index of several."""
    index = Path(folder) / "model.safetensors.index.json"
    return str(index if index.exists() else Path(folder) / "model.safetensors")


def _stored(folder: str) -> str:
    """The dtype of the weights, as torch calls it."""
    from safetensors import safe_open

    with safe_open(next(iter(sorted(Path(folder).glob("*.safetensors")))), "pt") as file:
        return {"F32": "float32", "BF16": "bfloat16"}[file.get_slice(next(iter(file.keys()))).get_dtype()]


def _load(folder: str) -> dict:
    from safetensors.torch import load_file

    return {n: t for file in sorted(Path(folder).glob("*.safetensors")) for n, t in load_file(file).items()}


def _save(tensors: dict, out: Path) -> None:
    from safetensors.torch import save_file

    save_file({n: t.contiguous() for n, t in tensors.items()}, out)
