"""One job of the benchmark, in a process of its own: `python jobs.py JOB FAMILY.json OUT`. Prints what it took as JSON.

Runs in the project's environment or in a peer's: a job imports what it needs, and only that.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

SCALE, DENSITY = 0.3, 0.2
ROOM = 1 << 20  # bytes read or written at once by the limit
MB = 1024  # ru_maxrss counts KB

Merge = Callable[[], None]


def limit(paths: dict[str, str], out: Path) -> Merge:
    """What no merge can beat: every input byte read once, by as many threads as there are cores, one model's bytes written."""
    files = [file for folder in paths.values() for file in sorted(Path(folder).glob("*.safetensors"))]
    written = sum(file.stat().st_size for file in Path(paths["base"]).glob("*.safetensors"))
    cores = len(os.sched_getaffinity(0))

    def run() -> None:
        readers = [threading.Thread(target=_read, args=(files[i::cores],)) for i in range(cores)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        with open(out, "wb", buffering=0) as stream:
            block = memoryview(bytearray(ROOM))
            for start in range(0, written, ROOM):
                stream.write(block[: written - start])

    return run


def _read(files: list[Path]) -> None:
    room = memoryview(bytearray(ROOM))
    for file in files:
        with open(file, "rb", buffering=0) as stream:
            while stream.readinto(room):
                pass


def ours(paths: dict[str, str], out: Path, method: str, **options) -> Merge:
    """mergekit-nb, from files to files."""
    import mergekit_nb as mk
    from mergekit_nb.engine.forms.form import kernels

    kernels()
    base, *tasks = paths
    return lambda: mk.merge(method, paths[base], {t: paths[t] for t in tasks}, out=out, device="cpu", **options)


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
    from fusion_bench.method.ties_merging import ties_merging_utils as ties

    def run() -> None:
        models = {name: _load(folder) for name, folder in paths.items()}
        base = models.pop("base")
        if method == "emr":
            vectors = [{n: m[n] - base[n] for n in base} for m in models.values()]
            vector, masks, scales = emr_merge(vectors)
            torch.save((vector, masks, scales), out)  # its EMR models cannot be saved as safetensors
            return
        flat = torch.vstack([ties.state_dict_to_vector(m, []) for m in models.values()])
        start = ties.state_dict_to_vector(base, [])
        merged = ties.ties_merging(flat - start, reset_thresh=DENSITY, merge_func="mean")
        _save(ties.vector_to_state_dict(start + SCALE * merged, base, remove_keys=[]), out)

    return run


def peft(paths: dict[str, str], out: Path) -> Merge:
    """PEFT's `ties`, tensor by tensor, on state dicts read and written by safetensors."""
    import torch
    from peft.utils.merge_utils import ties

    def run() -> None:
        models = {name: _load(folder) for name, folder in paths.items()}
        base = models.pop("base")
        ones = torch.ones(len(models))
        merged = {n: ties([m[n] - base[n] for m in models.values()], ones, DENSITY) for n in base}
        _save({n: base[n] + SCALE * merged[n] for n in base}, out)

    return run


def whole_pcb(paths: dict[str, str], out: Path) -> Merge:
    """PCB on all task vectors at once, sorted whole, as its authors' code holds them; from this project's definitions."""
    import torch

    from mergekit_nb.maths import compete

    def run() -> None:
        models = {name: _load(folder) for name, folder in paths.items()}
        base = models.pop("base")
        start = torch.cat([t.flatten() for t in base.values()])
        taus = torch.stack([torch.cat([m[n].flatten() for n in base]) - start for m in models.values()])
        ends = compete.clip_range(taus, 1e-4)
        scores = compete.intra_balance(taus, *ends) * compete.inter_balance(taus, "A", *ends)
        cut, top = compete.cut_range(scores, 0.1)
        weights = compete.rescale(scores, compete.drop(scores, cut, top), cut, top)
        merged = compete.fuse(compete.clip(taus, *ends), weights, torch.full((len(taus),), 1.2))
        flat = start + merged
        sizes = [t.numel() for t in base.values()]
        pieces = zip(base.items(), flat.split(sizes), strict=True)
        _save({n: piece.reshape(t.shape).clone() for (n, t), piece in pieces}, out)

    return run


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


# job -> (environment, what makes the merge); "" is the project's own environment
JOBS: dict[str, tuple[str, Callable[[dict[str, str], Path], Merge]]] = {
    "limit": ("", limit),
    "task arithmetic, ours": ("", lambda paths, out: ours(paths, out, "task_arithmetic", scale=SCALE)),
    "EMR, ours": ("", lambda paths, out: ours(paths, out, "emr")),
    "TIES, ours": ("", lambda paths, out: ours(paths, out, "ties", scale=SCALE, density=DENSITY)),
    "task arithmetic, ours, inputs not hashed": (
        "",
        lambda paths, out: ours(paths, out, "task_arithmetic", scale=SCALE, hashes=False),
    ),
    "EMR, ours, inputs not hashed": ("", lambda paths, out: ours(paths, out, "emr", hashes=False)),
    "TIES per tensor, ours": (
        "",
        lambda p, o: ours(p, o, "ties", scale=SCALE, density=DENSITY, scope="tensor", zero_sign="positive"),
    ),
    "PCB, ours": ("", lambda paths, out: ours(paths, out, "pcb")),
    "task arithmetic, mergekit": ("mergekit", lambda paths, out: mergekit(paths, out, "task_arithmetic")),
    "TIES per tensor, mergekit": ("mergekit", lambda paths, out: mergekit(paths, out, "ties")),
    "TIES per tensor, PEFT": ("fusion_bench", peft),
    "TIES, fusion_bench": ("fusion_bench", lambda paths, out: fusion_bench(paths, out, "ties")),
    "EMR, fusion_bench": ("fusion_bench", lambda paths, out: fusion_bench(paths, out, "emr")),
    "PCB, all at once": ("whole", whole_pcb),
}


def main() -> None:
    """Make the job ready, run it once, print what the run took."""
    job, paths, out = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    shutil.rmtree(out, ignore_errors=True) if out.is_dir() else out.unlink(missing_ok=True)
    run = JOBS[job][1](paths, out)
    ready = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**took, "peak_mb": peak / MB, "above_import_mb": (peak - ready) / MB}))


if __name__ == "__main__":
    main()
