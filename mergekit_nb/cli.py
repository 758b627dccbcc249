"""The command line. Exit status: 0 done, 1 failed, 2 bad usage or bad input."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from mergekit_nb.zoo import Zoo

# What each command needs is imported when it runs: help and usage errors should not wait for torch.
BAD_INPUT = (ValueError, TypeError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
CONFIG_HELP = (
    "a mergekit configuration, for the methods both packages have, with models of this machine; "
    "trimming per tensor and its normalisation are done as there, what would differ is refused"
)

DEMO_LIMIT = 500  # test images a task: every method there is, in under two minutes on two cores
KNOB = "hyper-parameter "  # before its name among the flags: no method can have a field that a flag is called


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Errors go to stderr in a sentence, with a traceback only under `--debug`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(argv)
    args, rest = parser.parse_known_args(argv)
    if rest and args.run is not lab:
        parser.error(f"unknown: {' '.join(rest)}")
    args.rest = rest
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *where: print(f"mergekit-nb: {message}", file=sys.stderr)
            return args.run(args) or 0
    except (Exception, KeyboardInterrupt) as error:
        if args.debug:
            raise
        print(f"mergekit-nb: {_sentence(error)}", file=sys.stderr)
        return 2 if isinstance(error, BAD_INPUT) and not hasattr(error, "damaged") else 1


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return (
        str(error)
        if isinstance(error, (*BAD_INPUT, OSError))
        else f"{type(error).__name__}: {error} (--debug shows where)"
    )


def demo(args: argparse.Namespace) -> None:
    """merge the embedded zoo by every method; table, compare.csv, report.html"""
    from mergekit_nb import report
    from mergekit_nb.compare import compare as run
    from mergekit_nb.methods import taking

    args.out.mkdir(parents=True, exist_ok=True)
    models = _family(args.zoo)
    frame = run(taking(len(models.experts)), models, **_effort(args))
    _leaderboard(frame)
    frame.to_csv(args.out / "compare.csv", index=False)
    report.write(args.out / "report.html", frame, models, device=args.device)
    print(f"\nwrote {args.out / 'compare.csv'} and {args.out / 'report.html'}")


def lab(args: argparse.Namespace) -> int:
    """JupyterLab on the notebooks, the first one open"""
    from mergekit_nb import lab

    return lab.start(args.notebook, args.rest)


def merge(args: argparse.Namespace) -> None:
    """merge experts into a folder: by flags, or by a mergekit configuration"""
    import torch

    from mergekit_nb.contents import megabytes
    from mergekit_nb.engine.merge import merge as run

    method, base, experts, options = _what(args)
    out = args.out or args.folder
    needed = {"--method": method, "--base": base, "--expert NAME=PATH": experts, "--out": out}
    if missing := [flag for flag, value in needed.items() if not value]:
        raise ValueError(f"merge needs {', '.join(missing)}")
    choice = {"include": args.include, "exclude": args.exclude, "unmatched": args.unmatched}
    place = {"device": args.device, "dtype": getattr(torch, args.dtype), "progress": sys.stderr.isatty()}
    files = {
        "memory": args.memory,
        "shard_size": args.shard_size,
        "resume": not args.fresh,
        "hashes": "sha256" if args.sha256 else not args.no_hashes,
    }
    try:
        with _cluster(args.dask) as executor:
            merged = run(method, base, experts, out=out, executor=executor, **choice, **place, **files, **options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on from there") from None
    shared, patches = merged.nbytes["shared"], sum(merged.nbytes["patches"].values())
    tasks, count = ", ".join(merged.tasks), len(merged.provenance["merged"])
    size = f"{megabytes(shared)} shared, {megabytes(patches)} in patches"
    print(f"{out}: {merged.method} of {tasks}; {count} tensors merged, {size}")


@contextmanager
def _cluster(address: str | None) -> Iterator[Executor | None]:
    """The workers of a Dask cluster; without an address none but this process."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("--dask needs the package distributed: pip install distributed") from None
    with Client(address) as client:
        yield client.get_executor()


def _what(args: argparse.Namespace) -> tuple:
    """Method, base, experts and hyper-parameters, from the flags or from the configuration, never from both."""
    from mergekit_nb import knobs, mergekit_yaml

    texts = {name.removeprefix(KNOB): text for name, text in vars(args).items() if name.startswith(KNOB)}
    if not args.config:
        return args.method, args.base, _experts(args.expert), knobs.parsed(args.method, texts)
    if args.method or args.base or args.expert or texts or (args.out and args.folder):
        raise ValueError(f"{args.config} says what to merge and how: name only the folder its result goes to")
    return *mergekit_yaml.read(args.config), {}


def inspect(args: argparse.Namespace) -> None:
    """what is in a merge or a checkpoint: tensors, masks, provenance, sizes"""
    from mergekit_nb.contents import contents

    facts, tables = contents(args.path)
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    for title, frame in tables.items():
        print(f"\n{title}")
        _print(frame)


def export(args: argparse.Namespace) -> None:
    """the full weights of one task, as one .safetensors file"""
    from safetensors.torch import save_file

    from mergekit_nb.contents import megabytes
    from mergekit_nb.weights.merged import load

    if args.out.suffix != ".safetensors":
        raise ValueError(f"--out {args.out}: the weights are written as safetensors, so name a .safetensors file")
    merged = load(args.folder)
    weights = {name: tensor.contiguous() for name, tensor in merged.weights(args.task).items()}
    part = args.out.with_name(f".{args.out.name}.part")
    try:
        part.touch()
        mode = part.stat().st_mode  # save_file would leave it readable to its owner alone
        save_file(weights, part, metadata={"format": "pt", "method": merged.method, "task": args.task or ""})
        part.chmod(mode)
        part.replace(args.out)
    finally:
        part.unlink(missing_ok=True)
    print(f"{args.out}: {len(weights)} tensors, {megabytes(args.out.stat().st_size)}")


def compare(args: argparse.Namespace) -> None:
    """the leaderboard: every method on every task of a zoo"""
    from mergekit_nb.compare import compare as run
    from mergekit_nb.methods import resolve, taking

    models = _family(args.zoo)
    methods = [resolve(name) for name in (args.methods.split(",") if args.methods else taking(len(models.experts)))]
    frame = run(methods, models, split=args.split, tune=not args.no_tune, **_effort(args))
    _leaderboard(frame)
    if args.out:
        frame.to_csv(args.out, index=False)


def zoo(args: argparse.Namespace) -> None:
    """the embedded models: list them, read a card, build them again"""
    from mergekit_nb import zoo

    if args.what == "list":
        print("\n".join(zoo.NAMES))
    elif args.what == "card":
        print((zoo.load(args.name).path / "card.md").read_text())
    else:
        from mergekit_nb.zoo.build import build

        build(args.name, args.out, seed=args.seed, device=args.device)


def _family(name: str) -> Zoo:
    """A zoo whose models have a base in common."""
    from mergekit_nb.zoo import Zoo, load

    models = load(name)
    if not isinstance(models, Zoo):
        raise ValueError(
            f"--zoo {name}: its networks have no base in common, so they cannot be merged; zip them: mk.zipit"
        )
    return models


def _experts(pairs: Sequence[str] | None) -> dict[str, str]:
    experts: dict[str, str] = {}
    for pair in pairs or ():
        name, given, path = pair.partition("=")
        if not (name and given and path):
            raise ValueError(f"--expert {pair}: write NAME=PATH, such as mnist=models/mnist.safetensors")
        if name in experts:
            raise ValueError(f"--expert {name}=… is there twice: every expert is a task of its own")
        experts[name] = path
    return experts


def _effort(args: argparse.Namespace) -> dict[str, object]:
    from mergekit_nb.compare import TUNE_LIMIT

    tune_limit = TUNE_LIMIT if args.limit is None else min(TUNE_LIMIT, args.limit)
    progress = sys.stderr.isatty()
    return {"limit": args.limit, "tune_limit": tune_limit, "device": args.device, "progress": progress}


def _leaderboard(frame: pd.DataFrame) -> None:
    """Two tables: one of both would be wider than a terminal."""
    from mergekit_nb.compare import shown

    wide, tasks = shown(frame), list(frame["task"].unique())
    _print(wide.drop(columns=tasks))
    print()
    _print(wide[["method", *tasks]])


def _print(frame: pd.DataFrame) -> None:
    """A ruled table on a terminal, plain columns in a pipe or a file."""
    if not sys.stdout.isatty():
        print(frame.to_string(index=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*frame.columns)
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    Console().print(table)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` shows how\n")


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser("mergekit-nb", description="See, understand and use model merging.", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(run) -> argparse.ArgumentParser:
        sub = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__, allow_abbrev=False)
        sub.set_defaults(run=run)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    _runs(command(demo), command(compare))
    sub = command(lab)
    sub.add_argument(
        "notebook", nargs="?", help="the beginning of its name, or a path; what follows goes to JupyterLab"
    )
    _merge_flags(command(merge), known="merge" in argv)
    command(inspect).add_argument("path", type=Path, help="a folder or a .safetensors file")
    sub = command(export)
    sub.add_argument("folder", type=Path, help="a saved merge")
    sub.add_argument("--task", help="whose weights; a merge that gives one model needs none")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    _zoo_flags(command(zoo))
    return parser


def _runs(demo: argparse.ArgumentParser, compare: argparse.ArgumentParser) -> None:
    """Flags of what merges and evaluates a zoo."""
    demo.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to write; default: here")
    compare.add_argument("--out", type=Path, metavar="FILE.csv", help="write the tidy table there too")
    compare.add_argument("--methods", metavar="A,B", help="default: all")
    compare.add_argument("--split", default="test", choices=["test", "validation"])
    compare.add_argument("--no-tune", action="store_true", help="default coefficients, none chosen on validation")
    for sub in (demo, compare):
        sub.add_argument("--zoo", default="clip8", metavar="NAME", help="default: clip8")
        most = DEMO_LIMIT if sub is demo else None
        said = f"at most N images of each task and split; default: {most or 'all'}"
        sub.add_argument("--limit", type=int, metavar="N", default=most, help=said)
        sub.add_argument("--device", default="auto", help="auto, cpu, cuda, …")


def _merge_flags(sub: argparse.ArgumentParser, known: bool) -> None:
    sub.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yml", help=CONFIG_HELP)
    sub.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="where its result goes")
    sub.add_argument("--method", help="a method's name")
    sub.add_argument("--base", metavar="PATH", help="the weights all experts were fine-tuned from")
    sub.add_argument("--expert", action="append", metavar="NAME=PATH", help="once for every task")
    sub.add_argument("--out", type=Path, metavar="DIR")
    sub.add_argument("--include", action="append", metavar="PATTERN", help="merge only tensors of such names")
    sub.add_argument("--exclude", action="append", metavar="PATTERN", help="leave out tensors of such names")
    sub.add_argument("--unmatched", default="error", choices=["error", "base", "own", "mean"])
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    sub.add_argument("--dtype", default="float32", choices=["float32", "float64"], help="what is computed in")
    sub.add_argument("--memory", metavar="2GB", help="how much may be held; default: a quarter of what is free")
    sub.add_argument("--shard-size", default="5GB", metavar="5GB", help="how large a file of the result may be")
    sub.add_argument("--fresh", action="store_true", help="begin anew where an earlier run was killed")
    hashed = sub.add_mutually_exclusive_group()
    hashed.add_argument("--no-hashes", action="store_true", help="do not hash the inputs for the provenance")
    hashed.add_argument(
        "--sha256", action="store_true", help="hash them by SHA-256 instead of XXH3: slower, not forgeable"
    )
    sub.add_argument(
        "--dask", metavar="ADDRESS", help="let the workers of a Dask cluster do it, such as tcp://host:8786"
    )
    if known:  # the methods need torch
        from mergekit_nb import knobs

        group = sub.add_argument_group("hyper-parameters")
        for name in knobs.names():
            flag = "--" + name.replace("_", "-")
            group.add_argument(
                flag, dest=KNOB + name, default=argparse.SUPPRESS, metavar="VALUE", help=knobs.described(name)
            )


def _zoo_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("what", choices=["list", "card", "build"])
    sub.add_argument("name", nargs="?", default="clip8")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="where to build; default: ./NAME")
