"""Merging in memory: a method driven over a model, tensor by tensor."""

from __future__ import annotations

import importlib.metadata
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mergekit_nb.device import pick
from mergekit_nb.methods import resolve
from mergekit_nb.methods.base import Method, Totals
from mergekit_nb.progress import CancelFlag, Progress, ticker
from mergekit_nb.weights.adapter import Adapter
from mergekit_nb.weights.match import Match, Unmatched, match
from mergekit_nb.weights.merged import Merged, load
from mergekit_nb.weights.modulators import Bits, LowRank, Masked, pack
from mergekit_nb.weights.source import Checkpoint, Source, fingerprint
from mergekit_nb.weights.source import open as open_source
from mergekit_nb.weights.task_vectors import TaskVectors

VERSIONED = ("mergekit-nb", "torch", "safetensors")


def merge(
    method: str | Method,
    base: str | Path | Source | nn.Module,
    experts: Mapping[str, str | Path | Source | nn.Module],
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    executor: Executor | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    unmatched: Unmatched = "error",
    out: str | Path | None = None,
    progress: Progress = False,
    cancel: CancelFlag | None = None,
    **options,
) -> Merged:
    """Merge experts that were fine-tuned from one base.

    Args:
        method: a name in `METHODS` with its hyper-parameters as `options`, or a method object (`Dare() | Ties()`).
        base: the weights all experts started from: path, mapping or module.
        experts: task name -> weights; their order is the order of the tasks.
        device: where to compute, tensor by tensor; the result is on the CPU.
        dtype: compute dtype, float32 or float64, whatever the weights are stored in.
        executor: any `concurrent.futures.Executor`; tensors are its units of work, and the bits do not depend on it.
        include, exclude: patterns for tensor names; tensors left out keep the base's value.
        unmatched: what to do with tensors that not all models have in the same shape, see `weights.match`.
        out: a folder to save the result in.
        progress: True, False or a callable(done, total, text); one step is one tensor in one round.
        cancel: anything with `is_set()`; raises `Cancelled`.

    Raises:
        ValueError, TypeError, FileNotFoundError: bad input, named, before any result is made.
    """
    method = resolve(method, options)
    base, experts = _opened(base, experts)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is what is computed in, torch.float32 or torch.float64; got {dtype}")
    found = match(base, experts, include, exclude, unmatched)
    taus = TaskVectors(base, experts, found.merged)
    method.check_tasks(taus.tasks)
    work = partial(_work, taus=taus, method=method, device=pick(device), dtype=dtype)
    rounds = method.rounds(dtype)
    totals: Totals = ()
    with ticker(progress, len(taus.names) * (rounds + 1), f"merge by {method.label}", cancel) as tick:
        for _ in range(rounds):
            totals += (_fold(_each(executor, partial(work, totals=totals, last=False), taus.names, tick)),)
        pieces = dict(
            zip(taus.names, _each(executor, partial(work, totals=totals, last=True), taus.names, tick), strict=True)
        )
    for note in method.notes(taus, totals):
        warnings.warn(note, stacklevel=2)
    merged = _assemble(method, taus, found, totals, pieces)
    return load(merged.save(out)) if out is not None else merged


def _opened(base, experts) -> tuple[Source, dict[str, Source]]:
    if isinstance(experts, str | Path | nn.Module) or not isinstance(experts, Mapping) or _is_source(experts):
        swapped = isinstance(base, Mapping) and base and not _is_source(base)
        hint = (
            "base and experts look swapped: it is merge(method, base, experts)" if swapped else 'write {"task": expert}'
        )
        raise TypeError(f"experts is a mapping from task names to weights; got {_what(experts)}; {hint}")
    if isinstance(base, Mapping) and base and not _is_source(base):
        raise TypeError("the base is one model's weights; got a mapping of several; are base and experts swapped?")
    if not experts:
        raise ValueError('there are no experts to merge; give at least two, as {"task": expert, …}')
    if len(experts) == 1:
        warnings.warn(
            f"only one expert ({next(iter(experts))}): there is nothing to merge it with; give two or more",
            stacklevel=3,
        )
    base = open_source(base)
    if isinstance(base, Adapter):
        raise ValueError(
            f"{base.path} is an adapter, so it can be an expert but not the base; the base is its own base model"
        )
    opened = {str(task): open_source(expert) for task, expert in experts.items()}
    return base, {task: e.onto(base) if isinstance(e, Adapter) else e for task, e in opened.items()}


def _is_source(mapping: Mapping) -> bool:
    return isinstance(mapping, Checkpoint) or (
        all(isinstance(value, Tensor) for value in mapping.values()) and len(mapping) > 0
    )


def _what(experts: object) -> str:
    return (
        "the weights of one model" if isinstance(experts, Mapping | str | Path | nn.Module) else type(experts).__name__
    )


@torch.no_grad()
def _work(
    name: str,
    *,
    taus: TaskVectors,
    method: Method,
    device: torch.device,
    dtype: torch.dtype,
    totals: Totals,
    last: bool,
):
    """One tensor in one round; also runs in worker threads and processes, so it sets its own grad mode and device."""
    site = taus.site(name)
    stack = taus.at(name, device, dtype)
    if not last:
        return method.measure(site, stack, totals)
    made = method.merge(site, stack, totals)
    stored = taus.base[name].dtype
    if isinstance(made, Tensor):
        return made.cpu(), None
    if isinstance(made, list):
        return None, [tuple(factor.to(stored).cpu() for factor in pair) for pair in made]
    vector, masks = made
    return vector.to(stored).cpu(), [pack(mask).cpu() for mask in masks]


def _each(executor: Executor | None, work: Callable, names: Iterable[str], tick: Callable[[int], None]) -> Iterator:
    """`work` of every name, in order, with progress; what is not yet begun is dropped when one fails or all is cancelled."""
    tick(0)
    if executor is None:
        for name in names:
            yield work(name)
            tick(1)
        return
    futures: list[Future] = [executor.submit(work, name) for name in names]
    try:
        for future in futures:
            yield future.result()
            tick(1)
    finally:
        for future in futures:
            future.cancel()


def _fold(parts: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total[key] + value if key in total else value
    return total


def _assemble(method: Method, taus: TaskVectors, found: Match, totals: Totals, pieces: dict[str, tuple]) -> Merged:
    if any(made is None for made, _ in pieces.values()):
        patches = {task: _low_rank(taus, found, pieces, t) for t, task in enumerate(taus.tasks)}
        return Merged(_with_means(taus, found), {}, taus.tasks, patches, found.aliases, _provenance(method, taus))
    vector = {name: made for name, (made, _) in pieces.items()}
    shapes = {name: tuple(made.shape) for name, made in vector.items()}
    scales = method.scales(taus, totals)
    patches = {}
    if scales is not None or found.own:
        for t, task in enumerate(taus.tasks):
            masks = {name: packed[t] for name, (_, packed) in pieces.items() if packed is not None}
            own = {name: taus.experts[task][name].clone() for name in found.own if name in taus.experts[task]}
            patches[task] = Masked(
                Bits(masks, {n: shapes[n] for n in masks}), 1.0 if scales is None else scales[task], own
            )
    return Merged(_with_means(taus, found), vector, taus.tasks, patches, found.aliases, _provenance(method, taus))


def _low_rank(taus: TaskVectors, found: Match, pieces: dict[str, tuple], t: int) -> LowRank:
    """One task's factors; a tensor without any is the task's own."""
    expert = taus.experts[taus.tasks[t]]
    factors = {name: pairs[t] for name, (_, pairs) in pieces.items() if pairs}
    own = [name for name in (*found.own, *(n for n in pieces if n not in factors)) if name in expert]
    return LowRank(factors, {name: expert[name].to(taus.base[name].dtype, copy=True) for name in own})


def _with_means(taus: TaskVectors, found: Match) -> Source:
    if not found.mean:
        return taus.base
    means = {}
    for name in found.mean:
        having = [expert[name] for expert in taus.experts.values() if name in expert]
        means[name] = torch.stack([t.to(torch.float64) for t in having]).mean(0).to(having[0].dtype)
    return {**{name: taus.base[name] for name in taus.base}, **means}


def _provenance(method: Method, taus: TaskVectors) -> dict:
    def origin(source: Source) -> dict:
        path = {"path": str(source.path)} if isinstance(source, Checkpoint) else {}
        return {**path, "sha256": fingerprint(source)}

    versions = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in VERSIONED}}
    inputs = {"base": origin(taus.base), "experts": {task: origin(e) for task, e in taus.experts.items()}}
    return {"method": method.label, "options": method.options(), "versions": versions, "inputs": inputs}
